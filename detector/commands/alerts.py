"""`querywatch alerts list | show`: what was found, on one screen.

Light on purpose: neither kernels nor the pipeline are imported.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table

from detector.alerts import SEVERITIES, Document
from detector.commands.text import cell
from detector.settings import load_settings
from detector.stores import AlertQuery, AlertStore, Documents
from detector.wiring import open_store

app = typer.Typer(name="alerts", help="List and read alerts.", no_args_is_help=True, pretty_exceptions_enable=False)

STATUSES = ("new", "acknowledged", "investigating", "contained", "closed")
_STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan"}
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: one document a line for list.")]
Replay = Annotated[bool, typer.Option("--replay", help="Read what replays found instead of the live alerts.")]


@app.command("list")
def list_alerts(
    *,
    since: Annotated[str, typer.Option(help="Only alerts of the last 30m, 24h, 7d or 2w (event time).")] = "",
    severity: Annotated[list[str] | None, typer.Option(help="low, medium, high or critical; may be repeated.")] = None,
    rule: Annotated[str, typer.Option(help="Only this rule, by its id.")] = "",
    model: Annotated[str, typer.Option(help="Only attacks on this model.")] = "",
    client: Annotated[str, typer.Option(help="Only this client, alone or in a campaign.")] = "",
    status: Annotated[str, typer.Option(help="new, acknowledged, investigating, contained or closed.")] = "",
    replay: Replay = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first."""
    for option, value in (("--rule", rule), ("--model", model), ("--client", client)):
        _text(value, option)
    query = AlertQuery(
        since_us=_since_us(since),
        severities=tuple(_known(name, SEVERITIES, "--severity") for name in severity or ()),
        rule=rule,
        model=model,
        client=client,
        status=_known(status, STATUSES, "--status") if status else "",
        limit=limit + 1,  # one more tells whether there are more
    )
    with _store(replay) as store:
        found = store.list(query)
    if as_json:
        for state in found[:limit]:
            typer.echo(json.dumps(state))
    elif found:
        _print_list(found[:limit], more=len(found) > limit)
    else:
        typer.echo("no alerts" if query == AlertQuery(limit=query.limit) else "no alerts match")


@app.command()
def show(
    alert: Annotated[str, typer.Argument(metavar="ID", help="The alert's id or the start of it (4 characters).")],
    replay: Replay = False,
    as_json: AsJson = False,
) -> None:
    """Show one alert: why it was raised, how sure it is, where the queries are, what to do."""
    if not re.fullmatch(r"[0-9a-f]{4,32}", alert.lower()):
        raise typer.BadParameter("an id has 4 to 32 of the signs 0-9 and a-f", param_hint="ID")
    with _store(replay) as store:
        state = store.get(alert.lower())
        events = store.events(state["querywatch"]["alert_id"]) if state else []
    if state is None:
        typer.echo(f"querywatch: no alert, or more than one, has an id that starts with {alert.lower()}", err=True)
        typer.echo(f"  querywatch alerts list{' --replay' if replay else ''}   shows the ids", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps({"alert": state, "events": events}))
        return
    console = _console()
    for part in _page(state, events, replay):
        console.print(part)


@contextmanager
def _store(replay: bool) -> Iterator[AlertStore]:
    store = open_store(load_settings(), replay=replay, patience_s=2.0)  # somebody is waiting
    try:
        yield store
    finally:
        store.close()


def _since_us(text: str) -> int | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    if match is None:
        raise typer.BadParameter("a number and m, h, d or w, such as 24h", param_hint="--since")
    age_s = int(match[1]) * _UNITS_S[match[2]]
    return max(0, int((time.time() - age_s) * 1e6))  # noqa: TID251  a person's "last 24 hours" ends now


def _text(value: str, option: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that the terminal's encoding does not know arrive as half signs
        raise typer.BadParameter("not valid text in this terminal's encoding", param_hint=option) from None


def _known(name: str, names: Iterable[str], option: str) -> str:
    if name not in names:
        raise typer.BadParameter(f"there are {', '.join(names)}", param_hint=option)
    return name


def _console() -> Console:
    plain = Console(highlight=False, markup=False, emoji=False)
    return plain if plain.is_terminal else Console(highlight=False, markup=False, emoji=False, width=200)


def _print_list(states: Documents, more: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "severity", "last seen (UTC)", "queries", "client", "model", "rule", "status"):
        narrow = name in {"client", "model", "rule"}  # what a small terminal may cut
        table.add_column(cell(name), no_wrap=not narrow, justify="right" if name == "queries" else "left")
    for state in states:
        own = state["querywatch"]
        severity = own["severity"]
        table.add_row(
            cell(own["alert_id"][:8]),
            cell(severity, style=_STYLES.get(severity, "")),
            cell(_moment(state["@timestamp"])[:16]),
            cell(f"{own['queries']:,}"),
            cell(_who(own), 32),
            cell(own["model"]["name"], 24),
            cell(state["rule"]["id"], 32),
            cell(own["status"]),
        )
    console = _console()
    console.print(table)
    if more:
        console.print(f"… and more: the newest {len(states)} are shown, --limit shows others", style="dim")


def _who(own: Document) -> str:
    campaign = own.get("campaign")
    return f"{own['client']['id']} + {campaign['size'] - 1} more" if campaign else str(own["client"]["id"])


def _moment(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")


def _page(state: Document, events: Documents, replay: bool) -> Iterator[RenderableType]:
    own = state["querywatch"]
    severity = own["severity"]
    yield cell(f"{severity.upper()}  {state['rule']['name']}", style=_STYLES.get(severity, ""))
    yield cell(state["event"]["reason"])
    yield ""
    yield _facts(state, events)
    yield ""
    yield _evidence(own["evidence"])
    if own.get("quiet"):
        yield cell(own["quiet"])
    if own["contributions"]:
        yield ""
        yield _contributions(own["contributions"])
    yield ""
    yield from _advice(state, replay)


def _facts(state: Document, events: Documents) -> RenderableType:
    own, event = state["querywatch"], state["event"]
    address = state.get("source", {}).get("ip", "")
    first_match, last = own["episode"]["start"], state["@timestamp"]
    facts = {
        "alert": own["alert_id"],
        "status": own["status"] + (f", {own['assignee']}" if own.get("assignee") else ""),
        "client": f"{own['client']['id']} ({own['client']['kind']})" + (f" from {address}" if address else ""),
        "model": _model(own["model"]),
        "attack": own["attack"]["family"]
        + (f", aimed at {own['attack']['target']}" if own["attack"]["target"] else ""),
        "ATLAS": _atlas(state),
        "episode": f"{_moment(first_match)} to {_moment(last)} UTC; the client's first query {_moment(event['start'])}",
        "queries": f"{own['queries']:,}; {own['episode']['suppressed']:,} further matches counted",
        "risk": f"{event['risk_score']:g} of 100",
        "baseline": own["baseline"],
        "rule": f"{state['rule']['id']} version {state['rule']['version']} ({own['rule_hash']})",
        "positions": _position(own["position"]),
        "steepest": ", ".join(
            f"{rise['offset']} (+{rise['gain']:.2g})" for rise in own["position"].get("steepest", ())
        ),
    }
    if own.get("starved"):
        facts["blind"] = f"too little detail in the log for {', '.join(own['starved'])}"
    if "campaign" in own:
        members = own["campaign"]["clients"]
        more = f" and {len(members) - 12} more" if len(members) > 12 else ""
        facts["campaign"] = f"{len(members)} clients: {', '.join(members[:12])}{more}"
        facts["why one"] = _links(own["campaign"].get("links", {}))
    if len(events) > 1:
        steps = (f"{_moment(e['@timestamp'])[11:]} {e['querywatch']['severity']}" for e in events)
        facts["history"] = " → ".join(steps)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, cell(value))
    return table


def _links(links: dict[str, float]) -> str:
    """Say why the clients of a campaign are taken for one."""
    if "trajectory" not in links:
        return ""
    networks = int(links.get("networks", 0))
    where = f", from {networks} network{'s' if networks != 1 else ''}" if networks else ""
    return f"they go on from each other's queries (log10 e-value {_number(links['trajectory'])}){where}"


def _model(model: Document) -> str:
    known = [f"sensitivity {model['sensitivity']}"] if "sensitivity" in model else []
    known += [f"owner {model['owner']}"] if "owner" in model else []
    return f"{model['name']} {model['version']}" + (f" ({', '.join(known)})" if known else "")


def _atlas(state: Document) -> str:
    threat = state.get("threat")
    if not threat:
        return ""
    technique = threat["technique"]
    lowest = technique.get("subtechnique", technique)
    tactics = ", ".join(threat["tactic"]["name"])
    return f"{lowest['id'][0]} {lowest['name'][0]} ({tactics})"


def _position(span: Document) -> str:
    return f"{span['topic']}[{span['partition']}] offsets {span['first_offset']} to {span['last_offset']}"


def _evidence(items: list[Document]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", title="evidence", title_justify="left")
    for name in ("signal", "observed", "threshold", "unit", "benign p50 / p95 / p99", "met", "margin"):
        table.add_column(name, justify="right" if name in {"observed", "threshold", "margin"} else "left", no_wrap=True)
    for item in items:
        baseline = item.get("baseline")
        benign = " / ".join(_number(baseline[p]) for p in ("p50", "p95", "p99")) if baseline else "–"
        table.add_row(
            cell(item["signal"]),
            cell(_number(item["observed"])),
            cell(f"{item['op']} {_number(item['threshold'])}"),
            cell(item["unit"]),
            cell(benign),
            cell("yes" if item["met"] else "no", style="bold" if item["met"] else "dim"),
            cell(_number(item.get("margin"))),
        )
    return table


def _contributions(values: dict[str, float]) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False, title="contributions (log10 e)", title_justify="left")
    top = max((v for v in values.values() if v is not None and v > 0), default=1.0)
    for name, value in sorted(values.items(), key=lambda item: -(item[1] or 0.0)):
        width = round(30 * max(value or 0.0, 0.0) / top)
        table.add_row(cell(name), cell(_number(value)), cell("█" * width, style="blue"))
    return table


def _number(value: Any) -> str:
    """Return a number as people read it; what JSON cannot hold (infinity) was stored as null."""
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.3g}"


def _advice(state: Document, replay: bool) -> Iterator[RenderableType]:
    own = state["querywatch"]
    if own["playbook"].strip():
        yield cell("playbook", style="bold")
        yield Group(*(cell(line) for line in own["playbook"].strip().splitlines()))
    if "containment" in own:
        yield cell("containment: " + ", ".join(f"{k} {v}" for k, v in own["containment"].items()))
    flag = " --replay" if replay else ""
    yield cell("next", style="bold")
    yield cell(f"  querywatch alerts show {own['alert_id'][:8]}{flag} --json")
    if re.fullmatch(r"[\w.@:/-]+", own["client"]["id"]):  # anything else could not be pasted into a shell safely
        yield cell(f"  querywatch alerts list{flag} --client {own['client']['id']}")
    yield cell(f"  querywatch rules show {state['rule']['id']}")
