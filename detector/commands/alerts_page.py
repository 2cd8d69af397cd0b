"""One alert on a screen: what `querywatch alerts show` prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from detector.alerts import Document
from detector.commands.alerts_query import moment
from detector.commands.text import cell
from detector.stores import Documents

STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan"}


def page(state: Document, events: Documents, log: Documents, replay: bool) -> Iterator[RenderableType]:
    """Yield what `show` prints of an alert, its events and its triage log."""
    own = state["querywatch"]
    severity = own["severity"]
    yield cell(f"{severity.upper()}  {state['rule']['name']}", style=STYLES.get(severity, ""))
    yield cell(state["event"]["reason"])
    yield ""
    yield _facts(state, events)
    yield ""
    yield evidence(own["evidence"])
    if own.get("quiet"):
        yield cell(own["quiet"])
    if own["contributions"]:
        yield ""
        yield contributions(own["contributions"])
    if log:
        yield ""
        yield _log(log)
    yield ""
    yield from _advice(state, replay)


def _facts(state: Document, events: Documents) -> RenderableType:
    own, event = state["querywatch"], state["event"]
    address = state.get("source", {}).get("ip", "")
    first_match, last = own["episode"]["start"], state["@timestamp"]
    facts = {
        "alert": own["alert_id"],
        "status": ", ".join(own[name] for name in ("status", "disposition", "assignee") if own.get(name)),
        "client": f"{own['client']['id']} ({own['client']['kind']})" + (f" from {address}" if address else ""),
        "model": _model(own["model"]),
        "attack": own["attack"]["family"]
        + (f", aimed at {own['attack']['target']}" if own["attack"]["target"] else ""),
        "ATLAS": _atlas(state),
        "episode": f"{moment(first_match)} to {moment(last)} UTC; the client's first query {moment(event['start'])}",
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
        facts["why one"] = links(own["campaign"].get("links", {}))
    if len(events) > 1:
        steps = (f"{moment(e['@timestamp'])[11:]} {e['querywatch']['severity']}" for e in events)
        facts["history"] = " → ".join(steps)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, cell(value))
    return table


def links(links: dict[str, float]) -> str:
    """Say why the clients of a campaign are taken for one."""
    if "trajectory" not in links:
        return ""
    networks = int(links.get("networks", 0))
    where = f", from {networks} network{'s' if networks != 1 else ''}" if networks else ""
    return f"they go on from each other's queries (log10 e-value {number(links['trajectory'])}){where}"


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


def evidence(items: list[Document]) -> RenderableType:
    """Return every threshold of the rule with what was observed, and what benign clients showed."""
    table = Table(box=None, pad_edge=False, header_style="bold", title="evidence", title_justify="left")
    for name in ("signal", "observed", "threshold", "unit", "benign p50 / p95 / p99", "met", "margin"):
        table.add_column(name, justify="right" if name in {"observed", "threshold", "margin"} else "left", no_wrap=True)
    for item in items:
        baseline = item.get("baseline")
        benign = " / ".join(number(baseline[p]) for p in ("p50", "p95", "p99")) if baseline else "–"
        table.add_row(
            cell(item["signal"]),
            cell(number(item["observed"])),
            cell(f"{item['op']} {number(item['threshold'])}"),
            cell(item["unit"]),
            cell(benign),
            cell("yes" if item["met"] else "no", style="bold" if item["met"] else "dim"),
            cell(number(item.get("margin"))),
        )
    return table


def contributions(values: dict[str, float]) -> RenderableType:
    """Return the evidence of each test, the strongest first."""
    table = Table(box=None, pad_edge=False, show_header=False, title="contributions (log10 e)", title_justify="left")
    top = max((v for v in values.values() if v is not None and v > 0), default=1.0)
    for name, value in sorted(values.items(), key=lambda item: -(item[1] or 0.0)):
        width = round(30 * max(value or 0.0, 0.0) / top)
        table.add_row(cell(name), cell(number(value)), cell("█" * width, style="blue"))
    return table


def _log(entries: Documents) -> RenderableType:
    """Return the last steps of the triage log."""
    table = Table(box=None, pad_edge=False, show_header=False, title="triage log", title_justify="left")
    left_out = len(entries) - 8
    if left_out > 0:
        table.add_row("", cell(f"… {left_out} before"))
    for entry in entries[-8:]:
        why = entry["querywatch"]["triage"]["reason"]
        table.add_row(cell(moment(entry["@timestamp"])), cell(entry["message"] + (f": {why}" if why else ""), 160))
    return table


def number(value: Any) -> str:
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
    yield cell(f"  querywatch alerts explain {own['alert_id'][:8]}{flag}")
    step = {"new": "ack {}", "closed": "reopen {}"}.get(own["status"], "close {} --as true_positive --note …")
    if not replay:
        yield cell(f"  querywatch alerts {step.format(own['alert_id'][:8])}")
    if re.fullmatch(r"[\w.@:/-]+", own["client"]["id"]):  # anything else could not be pasted into a shell safely
        yield cell(f"  querywatch alerts list{flag} --client {own['client']['id']}")
    yield cell(f"  querywatch rules show {state['rule']['id']}")
