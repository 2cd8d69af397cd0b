"""`querywatch alerts explain`: each condition, what each test contributed, and what would have kept the rule quiet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from detector.alerts import Document
from detector.commands.alerts_page import STYLES, number
from detector.commands.alerts_query import AsJson, Replay, alert_id, console, moment, opened, the_alert
from detector.commands.alerts_rules import logic, of_alert, ruleset
from detector.commands.text import cell
from detector.stores import Documents

if TYPE_CHECKING:
    from detector.rules import Ruleset


def explain(
    alert: Annotated[str, typer.Argument(metavar="ID", help="The alert's id or the start of it (4 characters).")],
    replay: Replay = False,
    as_json: AsJson = False,
) -> None:
    """Explain one alert: which conditions were met and by how much, and which thresholds would have kept it quiet."""
    start = alert_id(alert)
    with opened(replay) as store:
        state = the_alert(store, start, replay)
        events = store.events(state["querywatch"]["alert_id"])
    found = explained(state, events, ruleset())
    if as_json:
        typer.echo(json.dumps(found))
        return
    screen = console()
    for part in _page(found):
        screen.print(part)


def explained(state: Document, events: Documents, rules: Ruleset | None) -> dict[str, Any]:
    """Return what `explain` says, as data; `rules` are those of the rules folder now, None where it cannot be read."""
    own = state["querywatch"]
    status, rule = of_alert(state, rules)
    met = {(item["signal"], item["op"], item["threshold"]): item["met"] for item in own["evidence"]}
    return {
        "alert_id": own["alert_id"],
        "severity": own["severity"],
        "reason": state["event"]["reason"],
        "rule": {
            "id": state["rule"]["id"],
            "version": state["rule"]["version"],
            "hash": own["rule_hash"],
            "file": status,
        },
        "logic": logic(rule, met) if rule is not None else [],
        "conditions": [_condition(item) for item in own["evidence"]],
        "contributions": _contributions(own["contributions"]),
        "quiet": own.get("quiet", ""),
        "steps": list(_steps(events)),
        "blind": list(own.get("starved", ())),
        "baseline": own["baseline"],
    }


def _condition(item: Document) -> dict[str, Any]:
    """Say of one threshold whether it was met, and what would have turned that."""
    observed, op = item["observed"], item["op"]
    if observed is None:
        turned = "the log held too little for this signal"
    elif item["met"]:
        beyond = {">=": "above", ">": "at least", "<=": "below", "<": "at most"}[op]
        turned = f"not met with a threshold {beyond} {number(observed)}"
    else:
        turned = f"met with {number(abs(observed - item['threshold']))} {'more' if op in {'>=', '>'} else 'less'}"
    p99 = (item.get("baseline") or {}).get("p99")
    return {**item, "turned": turned, "beyond_benign": observed is not None and p99 is not None and observed > p99}


def _contributions(values: dict[str, float | None]) -> list[dict[str, Any]]:
    """Share out the family's evidence: a mean of e-values, so each test gives its own e-value to the sum."""
    known = {test: value for test, value in values.items() if value is not None}
    top = max(known.values(), default=0.0)
    weights = {test: 10.0 ** (value - top) for test, value in known.items()}
    total = sum(weights.values())
    shares = [{"test": test, "log10_e": known[test], "share": round(weights[test] / total, 4)} for test in known]
    return sorted(shares, key=lambda item: -item["log10_e"])


def _steps(events: Documents) -> Iterator[dict[str, Any]]:
    """Yield each raise and escalation with the conditions that it met for the first time."""
    before: set[tuple[str, str, float]] = set()
    for event in events:
        own = event["querywatch"]
        met = {(i["signal"], i["op"], i["threshold"]): i["observed"] for i in own["evidence"] if i["met"]}
        new = [f"{signal} {number(met[signal, op, at])} {op} {at:g}" for signal, op, at in met.keys() - before]
        before |= met.keys()
        yield {
            "time": event["@timestamp"],
            "severity": own["severity"],
            "queries": own["queries"],
            "newly_met": sorted(new),
        }


def _page(found: dict[str, Any]) -> Iterator[RenderableType]:
    severity, rule = found["severity"], found["rule"]
    yield cell(f"{severity.upper()}  {found['alert_id'][:8]}", style=STYLES.get(severity, ""))
    yield cell(found["reason"])
    yield ""
    yield cell(f"rule {rule['id']} version {rule['version']}: {rule['file']}")
    for line in found["logic"]:
        yield cell(f"  {line}")
    yield ""
    yield _table(found["conditions"])
    yield ""
    yield from _shares(found["contributions"])
    if found["quiet"]:
        yield cell(found["quiet"])
    if found["blind"]:
        yield cell(f"Blind: the log holds too little for {', '.join(found['blind'])}.")
    yield cell(f"Compared with: {found['baseline']}.")
    yield ""
    yield cell("steps", style="bold")
    for step in found["steps"]:
        new = f": {', '.join(step['newly_met'])}" if step["newly_met"] else ""
        yield cell(f"  {moment(step['time'])} {step['severity']} after {step['queries']:,} queries{new}")


def _table(conditions: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", title="conditions", title_justify="left")
    for name in ("signal", "observed", "threshold", "unit", "benign p99", "met", "what would have turned it"):
        table.add_column(cell(name))
    for item in conditions:
        p99 = (item.get("baseline") or {}).get("p99")
        table.add_row(
            cell(item["signal"]),
            cell(number(item["observed"])),
            cell(f"{item['op']} {item['threshold']:g}"),
            cell(item["unit"]),
            cell(number(p99) + (" (beyond)" if item["beyond_benign"] else "")),
            cell("yes" if item["met"] else "no"),
            cell(item["turned"]),
        )
    return table


def _shares(contributions: list[dict[str, Any]]) -> Iterator[RenderableType]:
    if not contributions:
        return
    table = Table(box=None, pad_edge=False, header_style="bold", title="contributions", title_justify="left")
    for name in ("test", "log10 e", "share of the e-value"):
        table.add_column(cell(name))
    for item in contributions:
        bar = "█" * round(20 * item["share"])
        table.add_row(cell(item["test"]), cell(number(item["log10_e"])), cell(f"{item['share']:>6.1%} {bar}"))
    yield table
    yield ""
