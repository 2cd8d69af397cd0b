"""The tables that answer one question each: targets, a field of the truth, anchors, what a detector adds and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rich.table import Table

from replay.evaluate.bounds import CONFIDENCE
from replay.evaluate.score import Json
from replay.evaluate.words import at_most, number, percent

_SHORT = {
    "inversion": "inversion",
    "attribute_inference": "attribute",
    "membership_inference": "membership",
    "extraction": "extraction",
    "adversarial_search": "adversarial",
}


def extras(board: Json) -> Iterator[Table]:
    """Yield what was asked for beside detection and false alerts, and the targets."""
    for name, groups in board["by"].items():
        yield _parted(name, groups)
    if board["matched"]:
        yield _matched(board["matched"])
    if board["levels"]:
        yield _levels(board["levels"])
    if board["ablation"] or board["cost"]:
        yield _detectors(board["ablation"], board["cost"])
    yield target_table(board)


def target_table(board: Json) -> Table:
    """Return every target and floor, and whether it is reached."""
    table = Table(title_justify="left")
    table.title = (
        f"targets and floors, half: {board['half']}; proven: the {100 * CONFIDENCE:.0f} % bound reaches it, too"
    )
    table.add_column("", max_width=50)
    for column in ("n", "found", "bound", "of plain", "target", "floor", "median/p90", "at most"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in board["targets"]:
        table.add_row(*_target(row))
    return table


def _target(row: Json) -> list[str]:
    less = row["measure"] in ("wrong", "false", "alarmed")
    show = _a_million if row["measure"] == "false" else percent
    bound = f"≤ {show(row['high95'])}" if less else f"≥ {show(row['low95'])}"
    plain, delay, limit = row["of_plain"], row["queries"], row["target_queries"]
    target = row["target"] if row["share_target"] is None else row["share_target"]
    in_time = {None: "no data", True: "reached", False: "MISSED"}[row["queries_reached"]]
    return [
        row["name"],
        f"{row['n']:,}",
        show(row["rate"]),
        bound if row["n"] else "–",
        "" if plain is None else f"{percent(plain['rate'])} (≥ {percent(plain['low95'])})",
        _wanted(target, row["verdict"], show),
        _wanted(row["floor"], row["floor_verdict"], show),
        "" if delay["median"] is None else f"{delay['median']:.0f}/{delay['p90']:.0f}",
        "" if limit is None else f"{limit:.0f} {in_time}",
    ]


def _wanted(level: float | None, said: str | None, show: Callable[[float | None], str]) -> str:
    if level is None:
        return ""
    return f"{show(level)} {'no data' if said is None else 'MISSED' if said == 'missed' else said}"


def _a_million(rate: float | None) -> str:
    return "–" if rate is None else f"{1e6 * rate:.3g} per M"


def _parted(name: str, groups: Json) -> Table:
    table = Table(name, "campaigns", "detected", "at least", "median/p90", title_justify="left")
    table.title = f"by {name}: campaigns detected, benign clients alarmed at medium, with 95 % bounds"
    for column in ("ordinary", "per million", "hard"):
        table.add_column(column, justify="right")
    for group, row in groups.items():
        found, delay, calm = row["campaigns"], row["queries"], row["ordinary"]
        table.add_row(
            group,
            f"{found['n']:,}",
            percent(found["rate"]),
            percent(found["low95"]) if found["n"] else "–",
            "" if delay["median"] is None else f"{delay['median']:.0f}/{delay['p90']:.0f}",
            at_most(calm["medium"]) if calm["queries"] else "–",
            f"{calm['per_million']:,.0f} ({calm['per_million_high95']:,.0f})" if calm["queries"] else "–",
            at_most(row["hard"]["medium"]) if row["hard"]["queries"] else "–",
        )
    return table


def _matched(rows: Iterable[Json]) -> Table:
    table = Table("anchor", "family", "n", title_justify="left")
    table.title = "anchors at equal false alarms: querywatch against anchor (found by one only; chance of that)"
    for column in ("as published", "ordinary, hard", "rules as shipped", "ordinary, hard", "beaten"):
        table.add_column(column, justify="right")
    for row in rows:
        cells = []
        for setting in ("published", "shipped"):
            one = row[setting]
            cells.append(
                f"{percent(one['querywatch']['rate'])} : {percent(one['anchor']['rate'])} "
                f"(+{one['more']} −{one['less']}; {one['chance']:.2g})"
            )
            cells.append(", ".join(percent(one[kind]["kept"]["rate"]) for kind in ("ordinary", "hard")))
        n = str(row["published"]["anchor"]["n"])
        table.add_row(row["anchor"], _SHORT[row["family"]], n, *cells, "yes" if row["beaten"] else "NO")
    return table


def _levels(levels: Json) -> Table:
    families = list(next(iter(levels.values()))["families"])
    table = Table("level of detail", title_justify="left", title="campaigns detected by how much the log holds")
    for column in (*(_SHORT[family] for family in families), "all", "ordinary alarmed", "hard alarmed"):
        table.add_column(column, justify="right")
    for name, row in levels.items():
        groups = [*(row["families"].get(family) for family in families), row["all"].get("all")]
        cells = ["–" if group is None else percent(group["campaigns"]["rate"]) for group in groups]
        table.add_row(name, *cells, *(percent(row[kind]["medium"]["rate"]) for kind in ("ordinary", "hard")))
    return table


def _detectors(ablation: Json, cost: Json) -> Table:
    families = [*dict.fromkeys(name for row in ablation.values() for name in (*row["lost"], *row["gained"]))]
    families = [family for family in _SHORT if family in families]
    table = Table("", title_justify="left")
    table.title = (
        "what each part costs, and campaigns lost (−) and gained (+) without it; a test: without that test alone"
    )
    columns = ["µs an event", "bytes a client"] if cost else []
    if ablation:
        columns += [*(_SHORT[family] for family in families), "queries", "right family", "false alerts"]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    parts = dict.fromkeys([*cost, *(name.partition(".")[0] for name in ablation)])
    for name in [name for part in parts for name in (part, *(v for v in ablation if v.startswith(f"{part}.")))]:
        spent, adds = cost.get(name), ablation.get(name)
        cells = [] if spent is None else [f"{spent['us_an_event']:.2f}", number(spent["bytes_a_client"])]
        cells += [""] * (2 * bool(cost) - len(cells))
        table.add_row(f"  {name}" if "." in name else name, *cells, *(_adds(adds, families) if adds else ()))
    return table


def _adds(row: Json, families: Iterable[str]) -> list[str]:
    delay, false = row["queries"], row["false_alerts"]
    changes = [_changes(row["lost"].get(family, 0), row["gained"].get(family, 0)) for family in families]
    slower = f"{number(delay['with'])} → {number(delay['without'])}" if delay["with"] != delay["without"] else ""
    calmer = " ".join(f"{false[kind]:+d} {kind}" for kind in ("ordinary", "hard") if false[kind])
    return [*changes, slower, f"{row['right_family']:+d}" if row["right_family"] else "", calmer]


def _changes(lost: int, gained: int) -> str:
    return " ".join([f"−{lost}"] * bool(lost) + [f"+{gained}"] * bool(gained))
