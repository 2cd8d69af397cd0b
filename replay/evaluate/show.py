"""A scoreboard as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table

from replay.evaluate.board import OWN
from replay.evaluate.compare import Difference
from replay.evaluate.score import Json
from replay.evaluate.tables import extras
from replay.evaluate.words import at_most, bar, number, percent, share, value

_GROUPS = (
    ("families", "family"),
    ("kinds", "attack"),
    ("techniques", "technique"),
    ("evasions", "evasion"),
    ("interfaces", "interface"),
    ("models", "model"),
    ("all", "all"),
)


def show(board: Json, console: Console) -> None:
    """Print the whole scoreboard."""
    for part in parts(board):
        console.print(part)


def parts(board: Json) -> Iterator[Table | str]:
    """Yield the whole scoreboard, table by table."""
    systems, own = board["systems"], board["systems"][OWN]
    if board["level"] != "vectors":
        yield f"level of detail: {board['level']}"
    for capture in board["captures"]:
        yield f"{capture['name']}: {capture['events']:,} events, {capture['clients']:,} clients"
        yield from _remarks(capture, own)
    yield _detection(systems, board["half"])
    yield _benign(systems)
    yield _false_alerts(systems)
    if own["campaigns"]["named"]["n"]:
        named, wrong = own["campaigns"]["named"], own["campaigns"]["wrong_members"]
        yield f"campaigns of several clients named: {share(named)}; wrong members among those listed: {share(wrong)}"
    for which in ("first", "highest"):
        yield _confusion(own["confusion"][which], which)
    yield _curve(own["curve"])
    yield from extras(board)


def _remarks(capture: Json, own: Json) -> Iterator[str]:
    if capture["refused"]:
        yield f"  {capture['refused']:,} records refused"
    if capture["truth_without_events"]:
        yield f"  {capture['truth_without_events']:,} rows of the truth have no event in it"
    if own["unlabelled"]["clients"]:
        seen = own["unlabelled"]
        yield f"  {seen['clients']:,} clients without truth, not scored; {seen['alarmed']:,} of them alarmed"


def _detection(systems: Json, half: str) -> Table:
    """Return one table with a section for each breakdown."""
    table = Table(
        title_justify="left", title=f"half: {half}; campaigns detected, median/p90 queries to the first alert"
    )
    table.add_column("", no_wrap=True)
    for column in ("campaigns", *systems, "clients (querywatch)"):
        table.add_column(column, justify="right")
    for breakdown, title in _GROUPS:
        if breakdown != "all":
            table.add_row(title, style="bold")
        for group, row in systems[OWN][breakdown].items():
            cells = [_found(system[breakdown].get(group)) for system in systems.values()]
            shown = f"  {group.partition(': ')[2] if breakdown == 'kinds' else group}"
            table.add_row(shown, str(row["campaigns"]["n"]), *cells, share(row["clients"]))
        table.add_section()
    return table


def _found(row: Json | None) -> str:
    if row is None or not row["campaigns"]["found"]:
        return "0 %"
    delay = row["queries"]
    return f"{percent(row['campaigns']['rate'])} {delay['median']:.0f}/{delay['p90']:.0f}"


def _benign(systems: Json) -> Table:
    own = systems[OWN]["benign"]
    others = [name for name in systems if name != OWN]
    table = Table(
        "benign kind, model",
        "clients",
        "queries",
        "medium (at most)",
        "high (at most)",
        "low",
        *others,
        title_justify="left",
    )
    table.title = "benign clients alarmed: querywatch at medium and at high with upper 95 % bounds, others at all"
    for part in ("kinds", "models", ""):
        for name in own[part] if part else ("ordinary", "hard"):
            rows = [system["benign"][part][name] if part else system["benign"][name] for system in systems.values()]
            row = rows[0]
            cells = [f"{row['medium']['n']:,}", f"{row['queries']:,}", at_most(row["medium"]), at_most(row["high"])]
            cells += [percent(row["low"]["rate"]), *(percent(other["medium"]["rate"]) for other in rows[1:])]
            table.add_row(name, *cells)
        table.add_section()
    return table


def _false_alerts(systems: Json) -> Table:
    table = Table(
        "", *systems, title="false alerts per million benign queries (upper 95 % bound)", title_justify="left"
    )
    for name in ("ordinary", "hard"):
        rows = [system["benign"][name] for system in systems.values()]
        cells = [
            f"{row['per_million']:,.0f} ({row['per_million_high95']:,.0f})" if row["queries"] else "–" for row in rows
        ]
        table.add_row(name, *cells)
    table.add_row("events per CPU second", *(number(system["events_per_s"]) for system in systems.values()))
    return table


def _confusion(confusion: Json, which: str) -> Table:
    said = sorted({name for row in confusion["table"].values() for name in row} - {"missed"})
    table = Table("truth", *said, "missed", title_justify="left")
    table.title = f"family named by the {which} alert, campaigns; right: {share(confusion['right'])}"
    for family, row in confusion["table"].items():
        table.add_row(family, *(str(row.get(name, "")) for name in [*said, "missed"]))
    return table


def _curve(rows: Iterable[Json]) -> Table:
    table = Table("evidence ≥", "campaigns detected", "", "median queries", "hard benign alarmed", "", "ordinary")
    table.title, table.title_justify = "operating curve", "left"
    for row in rows:
        table.add_row(
            str(row["threshold"]),
            bar(row["campaigns"]["rate"]),
            percent(row["campaigns"]["rate"]),
            number(row["queries"]["median"]),
            bar(row["hard"]["rate"]),
            percent(row["hard"]["rate"]),
            percent(row["ordinary"]["rate"]),
        )
    return table


def show_difference(difference: Difference, console: Console) -> None:
    """Print what got worse, then what got better."""
    if difference.note:
        console.print(f"warning: {difference.note}", markup=False)
    if not difference.changes:
        console.print("compared: no change")
        return
    table = Table("", "detector", "measure", "before", "after", title="compared", title_justify="left")
    for change in sorted(difference.changes, key=lambda change: change.better):
        table.add_row(
            "better" if change.better else "WORSE",
            change.system,
            change.measure,
            value(change.before),
            value(change.after),
        )
    console.print(table)
