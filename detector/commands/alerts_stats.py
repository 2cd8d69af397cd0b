"""`querywatch alerts stats`: what became of the alerts, by rule; how fast; who makes the noise; what ATLAS is covered.

Precision counts what analysts decided: true positives among true, benign and false positives. Duplicates and alerts
that nobody could decide say nothing of a rule and are left out, as are open ones: few decisions make a rough number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from detector.alerts import Document
from detector.commands.alerts_query import AsJson, console, filtered, opened
from detector.commands.alerts_rules import ruleset
from detector.commands.text import cell
from detector.lifecycle import STATUSES
from detector.stores import AlertQuery, Documents

MOST = 100_000  # alerts that are counted
FIELDS = (
    "rule.id",
    "related.user",
    "threat.technique",
    "querywatch.status",
    "querywatch.disposition",
    "querywatch.raised_at",
    "querywatch.acknowledged_at",
    "querywatch.closed_at",
    "querywatch.episode.suppressed",
    "querywatch.model.name",
)


@filtered
def stats(
    *,
    query: AlertQuery,
    top: Annotated[int, typer.Option(min=1, max=1000, help="So many of the noisiest clients and models.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Count what became of the alerts: precision by rule, times, noise, ATLAS coverage."""
    with opened() as store:
        states = store.list(replace(query, limit=MOST + 1, fields=FIELDS))
    if len(states) > MOST:
        typer.echo(f"querywatch: more than {MOST:,} alerts match; narrow them with --since", err=True)
        raise typer.Exit(1)
    rules = ruleset()
    found = counted(states, top) | {"atlas": coverage(states, None if rules is None else rules_by_technique(rules))}
    if as_json:
        typer.echo(json.dumps(found))
        return
    screen = console()
    for part in _page(found):
        screen.print(part)


def counted(states: Documents, top: int = 5) -> dict[str, Any]:
    """Return what the states say, as data. Times are seconds of the wall clock."""
    own = [state["querywatch"] for state in states]
    by_rule: dict[str, Documents] = {}
    for state in states:
        by_rule.setdefault(state["rule"]["id"], []).append(state)
    status = Counter(o["status"] for o in own)
    return {
        "alerts": len(states),
        "status": {name: status[name] for name in STATUSES},
        "suppressed": sum(o["episode"]["suppressed"] for o in own),
        "to_acknowledge_s": _times(own, "acknowledged_at"),
        "to_close_s": _times(own, "closed_at"),
        "rules": [_rule(name, by_rule[name]) for name in sorted(by_rule)],
        "clients": _noisiest(states, lambda s: s["related"]["user"], top),
        "models": _noisiest(states, lambda s: [s["querywatch"]["model"]["name"]], top),
    }


def _rule(name: str, states: Documents) -> dict[str, Any]:
    own = [state["querywatch"] for state in states]
    was = Counter(str(o["disposition"]) for o in own if o.get("disposition"))
    true, benign = was["true_positive"], was["benign_positive"]
    false = was["false_positive.logic"] + was["false_positive.data"]
    decided = true + benign + false
    return {
        "rule": name,
        "alerts": len(own),
        "closed": sum(was.values()),
        "true": true,
        "benign": benign,
        "false": false,
        "undecided": was["duplicate"] + was["undetermined"],
        "precision": round(true / decided, 4) if decided else None,
        "suppressed": sum(o["episode"]["suppressed"] for o in own),
    }


def _times(own: Sequence[Document], until: str) -> dict[str, Any]:
    """Return median and 90th percentile of the seconds from raising an alert to a step, and of how many alerts."""
    waits = sorted(
        max(0.0, (_time(o[until]) - _time(o["raised_at"])).total_seconds())
        for o in own
        if o.get(until) and o.get("raised_at")
    )
    if not waits:
        return {"alerts": 0, "median": None, "p90": None}
    return {"alerts": len(waits), "median": median(waits), "p90": waits[(9 * len(waits) - 1) // 10]}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _noisiest(states: Documents, names: Callable[[Document], Iterable[str]], top: int) -> list[dict[str, Any]]:
    alerts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for state in states:
        for name in names(state):
            alerts[name] += 1
            wrong[name] += str(state["querywatch"].get("disposition", "")).startswith(("false", "benign"))
    order = sorted(alerts, key=lambda name: (-alerts[name], name))[:top]
    return [{"name": name, "alerts": alerts[name], "harmless": wrong[name]} for name in order]


def rules_by_technique(rules: Any) -> dict[str, tuple[str, list[str]]]:
    """Return name and rules of every ATLAS technique of the table."""
    found: dict[str, tuple[str, list[str]]] = {id_: (t.name, []) for id_, t in rules.atlas.techniques.items()}
    for rule in rules.active:
        found[rule.attack][1].append(rule.id)
    return found


def coverage(states: Documents, techniques: dict[str, tuple[str, list[str]]] | None) -> list[dict[str, Any]]:
    """Return, for each technique with rules or alerts, both; then those that no rule looks for."""
    names: dict[str, str] = {}
    alerts: Counter[str] = Counter()
    for state in states:
        technique = state.get("threat", {}).get("technique")
        if technique:
            lowest = technique.get("subtechnique", technique)
            names[lowest["id"][0]] = lowest["name"][0]
            alerts[lowest["id"][0]] += 1
    known = techniques or {}
    rows: list[dict[str, Any]] = [
        {"id": id_, "name": known.get(id_, (names.get(id_, ""), []))[0], "rules": known.get(id_, ("", []))[1]}
        for id_ in sorted(names.keys() | known.keys())
    ]
    rows = [row | {"alerts": alerts[row["id"]]} for row in rows]
    return sorted(rows, key=lambda row: not (row["rules"] or row["alerts"]))


def _page(found: dict[str, Any]) -> Iterable[RenderableType]:
    states = ", ".join(f"{count:,} {name}" for name, count in found["status"].items() if count)
    yield cell(f"{found['alerts']:,} alerts" + (f": {states}" if states else ""))
    yield cell(f"{found['suppressed']:,} further matches counted, not raised")
    for name, text in (("to_acknowledge_s", "acknowledged"), ("to_close_s", "closed")):
        times = found[name]
        if times["alerts"]:
            took = f"median {_duration(times['median'])}, nine in ten within {_duration(times['p90'])}"
            yield cell(f"{text}: {took} ({times['alerts']:,} alerts)")
    if not found["alerts"]:
        return
    yield ""
    names = ("rule", "alerts", "closed", "true", "benign", "false", "undecided", "precision", "suppressed")
    yield _table("rules", names, [{**row, "precision": _share(row["precision"])} for row in found["rules"]])
    yield ""
    yield _table("noisiest clients", ("name", "alerts", "harmless"), found["clients"])
    yield ""
    yield _table("noisiest models", ("name", "alerts", "harmless"), found["models"])
    yield ""
    covered = [row for row in found["atlas"] if row["rules"] or row["alerts"]]
    rows = [{**row, "rules": ", ".join(row["rules"])} for row in covered]
    yield _table("MITRE ATLAS", ("id", "name", "alerts", "rules"), rows)
    rest = [row["id"] for row in found["atlas"] if row not in covered]
    if rest:
        yield cell(f"no rule names: {', '.join(rest)}")


def _table(title: str, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for name in columns:
        table.add_column(cell(name), justify="left" if name in {"rule", "name", "id", "rules"} else "right")
    for row in rows:
        table.add_row(*(cell(f"{row[c]:,}" if isinstance(row[c], int) else row[c], 48) for c in columns))
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
