"""`querywatch alerts ack | assign | note | close | reopen`: what analysts do, on one alert or on all that match.

Without ids the filters choose; the number of alerts is shown and has to be confirmed. Each alert is changed as it is at
that moment or refused by itself; one refused makes the exit code 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from detector.commands.alerts_query import (
    AsJson,
    alert_id,
    analyst,
    filtered,
    known,
    not_found,
    now_us,
    opened,
    person,
    valid_text,
)
from detector.commands.text import printable
from detector.lifecycle import DISPOSITIONS, STATUSES, Change
from detector.stores import AlertQuery, AlertStore, Triaged

MOST = 1000  # alerts that one command changes

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Alerts, each by the start of its id.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who you are; default: the setting, or your account.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; goes into the triage log.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before changing all that match.")]


@filtered
def ack(
    *, query: AlertQuery, ids: Ids = None, by: By = "", note: Note = "", yes: Yes = False, as_json: AsJson = False
) -> None:
    """Take new alerts: they are yours, and nobody else can take them."""
    _change(ids, query, Change("ack", analyst(by), now_us(), _note(note)), yes, as_json)


@filtered
def assign(
    *,
    query: AlertQuery,
    owner_and_ids: Annotated[list[str], typer.Argument(metavar="OWNER [ID]…", help="The new owner, then alerts.")],
    taken_from: Annotated[str, typer.Option("--from", metavar="NAME", help="The owner it is taken from.")] = "",
    by: By = "",
    note: Note = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give alerts to an analyst; an alert of somebody else only with --from and that name."""
    owner, ids = person(owner_and_ids[0], "OWNER"), owner_and_ids[1:]
    taken = person(taken_from, "--from") if taken_from else ""
    change = Change("assign", analyst(by), now_us(), _note(note), assignee=owner, taken_from=taken)
    _change(ids, query, change, yes, as_json)


@filtered
def note(
    *,
    query: AlertQuery,
    text_and_ids: Annotated[list[str], typer.Argument(metavar="TEXT [ID]…", help="What you found, then alerts.")],
    move_to: Annotated[str, typer.Option("--move-to", help="Step to take: investigating or contained.")] = "",
    by: By = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Write into the triage log, and take a step with it."""
    text, ids = text_and_ids[0], text_and_ids[1:]
    if not text.strip():
        raise typer.BadParameter("a note has text", param_hint="TEXT")
    status = known(move_to, STATUSES[2:4], "--move-to") if move_to else ""
    _change(ids, query, Change("note", analyst(by), now_us(), _note(text), status=status), yes, as_json)


@filtered
def close(
    *,
    query: AlertQuery,
    disposition: Annotated[str, typer.Option("--as", help=f"What it was: {', '.join(DISPOSITIONS)}.")],
    ids: Ids = None,
    by: By = "",
    note: Note = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Close alerts and say what they were; a rule's precision is counted from that."""
    was = known(disposition, DISPOSITIONS, "--as")
    _change(ids, query, Change("close", analyst(by), now_us(), _note(note), disposition=was), yes, as_json)


@filtered
def reopen(
    *, query: AlertQuery, ids: Ids = None, by: By = "", note: Note = "", yes: Yes = False, as_json: AsJson = False
) -> None:
    """Take closed alerts up again; their disposition is void."""
    _change(ids, query, Change("reopen", analyst(by), now_us(), _note(note)), yes, as_json)


def _note(text: str) -> str:
    return valid_text(text, "the note")


def _change(ids: Sequence[str] | None, query: AlertQuery, change: Change, yes: bool, as_json: bool) -> None:
    starts = list(dict.fromkeys(alert_id(text) for text in ids or ()))
    if starts and query != AlertQuery():
        raise typer.BadParameter("either ids or filters", param_hint="ID")
    if not starts and query == AlertQuery():
        raise typer.BadParameter("name alerts by id, or choose them with filters", param_hint="ID")
    with opened() as store:
        chosen, missing = _named(store, starts) if starts else (_matching(store, query, change, yes), [])
        results = [*store.triage(chosen, change), *missing]
    for done in results:
        _say(done, as_json)
    if any(done.refused for done in results):
        raise typer.Exit(1)


def _named(store: AlertStore, starts: Sequence[str]) -> tuple[list[str], list[Triaged]]:
    chosen, missing = [], []
    for start in starts:
        state = store.get(start)
        if state is None:
            missing.append(Triaged(start, None, not_found(start)))
        else:
            chosen.append(str(state["querywatch"]["alert_id"]))
    return chosen, missing


def _matching(store: AlertStore, query: AlertQuery, change: Change, yes: bool) -> list[str]:
    """Return the alerts that match now, after somebody confirmed their number; later ones are left alone."""
    found = store.list(replace(query, limit=MOST + 1, fields=("querywatch.alert_id",)))
    if not found:
        typer.echo("querywatch: no alerts match", err=True)
        raise typer.Exit(1)
    if len(found) > MOST:
        typer.echo(f"querywatch: more than {MOST} alerts match; narrow the filters, nothing was changed", err=True)
        raise typer.Exit(1)
    if not yes:
        number = f"{len(found)} alert{'s' if len(found) > 1 else ''}"
        typer.confirm(f"{number} match: {change.action} all of them?", abort=True, err=True)
    return [str(state["querywatch"]["alert_id"]) for state in found]


def _say(done: Triaged, as_json: bool) -> None:
    own = done.state["querywatch"] if done.state else {}
    if as_json:
        fields = {name: own[name] for name in ("status", "assignee", "disposition") if own.get(name)}
        refused = {"refused": done.refused} if done.refused else {}
        typer.echo(json.dumps({"alert_id": done.alert_id, **fields, **refused}))
    elif done.refused:
        lines = [printable(line) for line in done.refused.splitlines()]
        typer.echo("\n".join([f"querywatch: {done.alert_id[:8]} not changed: {lines[0]}", *lines[1:]]), err=True)
    else:
        owner = f", {own['assignee']}" if own.get("assignee") else ""
        was = f" as {own['disposition']}" if own.get("disposition") else ""
        typer.echo(f"{done.alert_id[:8]} {own['status']}{was}{printable(owner)}")
