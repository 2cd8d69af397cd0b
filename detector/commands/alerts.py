"""`querywatch alerts …`: the analyst's working day, on either store.

Light on purpose: neither kernels nor the pipeline are imported.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table

from detector.alerts import Document
from detector.commands import alerts_explain, alerts_export, alerts_stats, alerts_triage
from detector.commands.alerts_page import STYLES, page
from detector.commands.alerts_query import AsJson, Replay, alert_id, console, filtered, moment, opened, the_alert
from detector.commands.text import cell
from detector.stores import AlertQuery, Documents

app = typer.Typer(
    name="alerts", help="List, read and triage alerts.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.command("list")
@filtered
def list_alerts(
    *,
    query: AlertQuery,
    replay: Replay = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first."""
    with opened(replay) as store:
        found = store.list(replace(query, limit=limit + 1))  # one more tells whether there are more
    if as_json:
        for state in found[:limit]:
            typer.echo(json.dumps(state))
    elif found:
        _print_list(found[:limit], more=len(found) > limit)
    else:
        typer.echo("no alerts" if query == AlertQuery() else "no alerts match")


@app.command()
def show(
    alert: Annotated[str, typer.Argument(metavar="ID", help="The alert's id or the start of it (4 characters).")],
    replay: Replay = False,
    as_json: AsJson = False,
) -> None:
    """Show one alert: why it was raised, how sure it is, where the queries are, who did what, what to do."""
    start = alert_id(alert)
    with opened(replay) as store:
        state = the_alert(store, start, replay)
        whole = state["querywatch"]["alert_id"]
        events, log = store.events(whole), store.log(whole)
    if as_json:
        typer.echo(json.dumps({"alert": state, "events": events, "log": log}))
        return
    screen = console()
    for part in page(state, events, log, replay):
        screen.print(part)


for command in (
    alerts_explain.explain,
    alerts_triage.ack,
    alerts_triage.assign,
    alerts_triage.note,
    alerts_triage.close,
    alerts_triage.reopen,
    alerts_stats.stats,
    alerts_export.export,
):
    app.command()(command)


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
            cell(severity, style=STYLES.get(severity, "")),
            cell(moment(state["@timestamp"])[:16]),
            cell(f"{own['queries']:,}"),
            cell(_who(own), 32),
            cell(own["model"]["name"], 24),
            cell(state["rule"]["id"], 32),
            cell(own["status"] + (f", {own['assignee']}" if own.get("assignee") else ""), 32),
        )
    screen = console()
    screen.print(table)
    if more:
        screen.print(f"… and more: the newest {len(states)} are shown, --limit shows others", style="dim")


def _who(own: Document) -> str:
    campaign = own.get("campaign")
    return f"{own['client']['id']} + {campaign['size'] - 1} more" if campaign else str(own["client"]["id"])
