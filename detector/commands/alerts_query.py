"""What the commands of `querywatch alerts` share: the filters, the store, ids, and who is asking."""

from __future__ import annotations

import functools
import getpass
import inspect
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from detector.alerts import SEVERITIES, Document
from detector.lifecycle import STATUSES
from detector.settings import load_settings
from detector.stores import AlertQuery, AlertStore
from detector.wiring import open_store

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: one object a line.")]
Replay = Annotated[bool, typer.Option("--replay", help="Read what replays found instead of the live alerts.")]


def _query(
    *,
    since: Annotated[str, typer.Option(help="Only alerts of the last 30m, 24h, 7d or 2w (event time).")] = "",
    severity: Annotated[list[str] | None, typer.Option(help="low, medium, high or critical; may be repeated.")] = None,
    rule: Annotated[str, typer.Option(help="Only this rule, by its id.")] = "",
    model: Annotated[str, typer.Option(help="Only attacks on this model.")] = "",
    client: Annotated[str, typer.Option(help="Only this client, alone or in a campaign.")] = "",
    status: Annotated[str, typer.Option(help="new, acknowledged, investigating, contained or closed.")] = "",
    owner: Annotated[str, typer.Option(help="Only alerts that this analyst has.")] = "",
) -> AlertQuery:
    for option, value in (("--rule", rule), ("--model", model), ("--client", client), ("--owner", owner)):
        valid_text(value, option)
    return AlertQuery(
        since_us=_since_us(since),
        severities=tuple(known(name, SEVERITIES, "--severity") for name in severity or ()),
        rule=rule,
        model=model,
        client=client,
        status=known(status, STATUSES, "--status") if status else "",
        owner=owner,
    )


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `query` the options of the filters instead: the same for all commands."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "query"]
    filters = list(inspect.signature(_query, eval_str=True).parameters.values())

    @functools.wraps(command)
    def called(**given: Any) -> None:
        query = _query(**{p.name: given.pop(p.name) for p in filters})
        command(query=query, **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *filters)]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    del called.__wrapped__
    return called


def _since_us(text: str) -> int | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    if match is None:
        raise typer.BadParameter("a number and m, h, d or w, such as 24h", param_hint="--since")
    return max(0, now_us() - int(match[1]) * _UNITS_S[match[2]] * 1_000_000)


def now_us() -> int:
    """Return the wall clock: a person's "last 24 hours" ends now, and what a person does happens now."""
    return int(time.time() * 1e6)  # noqa: TID251


def valid_text(value: str, option: str, longest: int = 10_000) -> str:
    """Return a text that any store can hold; BadParameter otherwise."""
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that the terminal's encoding does not know arrive as half signs
        raise typer.BadParameter("not valid text in this terminal's encoding", param_hint=option) from None
    if len(value) > longest:
        raise typer.BadParameter(f"at most {longest} characters", param_hint=option)
    return value


def known(name: str, names: Iterable[str], option: str) -> str:
    """Return a name that is one of `names`; BadParameter otherwise."""
    if name not in names:
        raise typer.BadParameter(f"there are {', '.join(names)}", param_hint=option)
    return name


def person(name: str, option: str) -> str:
    """Return the name of an analyst: short, printable, no spaces around."""
    valid_text(name, option)
    if not name.strip() or len(name) > 128 or not name.isprintable():
        raise typer.BadParameter("a name has 1 to 128 printable characters", param_hint=option)
    return name.strip()


def analyst(given: str) -> str:
    """Return who acts: --by, the setting `analyst`, or the account on this machine."""
    named = given or load_settings().analyst
    if not named:
        try:
            named = getpass.getuser()
        except (OSError, KeyError):
            raise typer.BadParameter(
                "say who you are: --by NAME, or the setting `analyst`", param_hint="--by"
            ) from None
    return person(named, "--by")


def alert_id(text: str) -> str:
    """Return an id or the start of one; BadParameter where it cannot be one."""
    if not re.fullmatch(r"[0-9a-f]{4,32}", text.lower()):
        raise typer.BadParameter("an id has 4 to 32 of the signs 0-9 and a-f", param_hint="ID")
    return text.lower()


def not_found(start: str, replay: bool = False) -> str:
    """Say that an id names no alert, and how to find one."""
    return (
        f"no alert, or more than one, has an id that starts with {start}\n"
        f"  querywatch alerts list{' --replay' if replay else ''}   shows the ids"
    )


def the_alert(store: AlertStore, start: str, replay: bool = False) -> Document:
    """Return the state of the one alert that an id or its start names; say so and leave with 1 where it names none."""
    state = store.get(start)
    if state is None:
        typer.echo(f"querywatch: {not_found(start, replay)}", err=True)
        raise typer.Exit(1)
    return state


@contextmanager
def opened(replay: bool = False) -> Iterator[AlertStore]:
    """Open the store of the settings; somebody is waiting for it."""
    store = open_store(load_settings(), replay=replay, patience_s=2.0)
    try:
        yield store
    finally:
        store.close()


def console() -> Console:
    """Return where to print: as wide as the terminal, else 200 columns; no markup is read."""
    plain = Console(highlight=False, markup=False, emoji=False)
    return plain if plain.is_terminal else Console(highlight=False, markup=False, emoji=False, width=200)


def moment(timestamp: str) -> str:
    """Return a time as people read it, to the second."""
    return timestamp[:19].replace("T", " ")
