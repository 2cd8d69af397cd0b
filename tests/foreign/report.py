"""What was found in captures of known truth, as Markdown: by family, evasion, attack and benign kind.

It counts what `querywatch evaluate` counts, by the same code, and puts Wilson's intervals beside it. Captures whose
name starts with `holdout-` are pooled apart from the others, at which whoever tunes a detector may look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from scipy.stats import binomtest

from detector.rules import Ruleset
from detector.settings import load_settings
from detector.wiring import rules_of
from replay.evaluate.anchors import run_anchors
from replay.evaluate.board import OWN, cases
from replay.evaluate.outcome import CampaignOutcome, ClientOutcome, Outcomes, judge
from replay.evaluate.score import alarms, confusion, delays, is_hard
from replay.evaluate.stream import Stream, read_stream
from replay.evaluate.watch import MEDIUM, watch

_T = TypeVar("_T")

FIRST, LAST = "<!-- report -->", "<!-- end of report -->"
HELD_OUT = "holdout-"
RECOURSE = "counterfactual"  # the benign kind whose queries are those of a boundary search: docs/detection.md


class PageError(ValueError):
    """A page has no place for a report; the message says what is missing."""


class Scored(NamedTuple):
    """Captures, pooled, and what each detector made of them."""

    streams: list[Stream]
    systems: dict[str, Outcomes]  # querywatch first


def report(captures: Sequence[Path], *, anchors: bool = False) -> str:
    """Replay captures and return the report. TruthError, CaptureError and UnknownClientsError as `evaluate`."""
    held_out = [path for path in captures if path.name.startswith(HELD_OUT)]
    others = [path for path in captures if path not in held_out]
    ruleset = rules_of(load_settings())
    parts = [f"Rules {ruleset.hash}."]
    for title, files in (("Held out", held_out), ("For development", others)):
        if files:
            parts += [f"### {title}", *tables(_scored(files, ruleset, anchors))]
    return "\n\n".join(parts)


def _scored(captures: Sequence[Path], ruleset: Ruleset, anchors: bool) -> Scored:
    settings, scored = load_settings(), Scored([], {})
    for case in cases(captures):
        stream = read_stream(case.files, case.truth, settings)
        found = {OWN: watch(case.files, stream, settings, ruleset)}
        found |= run_anchors(case.files, stream, settings) if anchors else {}
        scored.streams.append(stream)
        for name, one in found.items():
            scored.systems.setdefault(name, Outcomes()).extend(judge(stream, one.alarms))
    return scored


def check(page: Path) -> None:
    """Raise PageError where a page has no place for a report: to be asked before the long work."""
    _around(page)


def put(text: str, page: Path) -> None:
    """Replace what stands between the marks of a page. PageError where it has none."""
    before, after = _around(page)
    page.write_text(f"{before}{FIRST}\n\n{text}\n\n{LAST}{after}")


def _around(page: Path) -> tuple[str, str]:
    try:
        text = page.read_text()
    except OSError as error:
        raise PageError(f"{page}: {(error.strerror or str(error)).lower()}") from None
    before, first, rest = text.partition(FIRST)
    _, last, after = rest.partition(LAST)
    if not first or not last:
        raise PageError(f"{page}: the lines {FIRST} and {LAST} are missing")
    return before, after


def tables(scored: Scored) -> Iterator[str]:
    """Yield the parts of a report on pooled captures."""
    own = scored.systems[OWN]
    yield "\n".join(
        f"- {stream.name}: {len(stream.pair):,} events of {len(stream.truth):,} clients; {stream.refused} refused"
        for stream in scored.streams
    )
    yield _families(own)
    yield _evasions(own)
    if len(scored.systems) > 1:
        yield _beside(scored.systems)
    yield _attacks(own)
    yield _benign(own)


def wilson(found: int, n: int) -> str:
    """Return Wilson's two-sided 95 % interval of a rate, – of nothing."""
    if not n:
        return "–"
    interval = binomtest(found, n).proportion_ci(0.95, method="wilson")
    return f"{100 * interval.low:.0f}–{100 * interval.high:.0f} %"


def _families(own: Outcomes) -> str:
    header = ("family", "found", "95 %", "median queries", "unhidden found", "95 %", "median queries")
    every = [*_grouped(own.campaigns, lambda c: c.truth.family), ("all", own.campaigns)]
    rows = [[name, *_found(mine), *_found([c for c in mine if c.truth.evasion == "none"])] for name, mine in every]
    right = confusion(own.campaigns)["highest"]["right"]
    named = f"The alert of the highest risk names the right family in {right['found']} of {right['n']} found campaigns."
    won = [c for c in own.campaigns if c.truth.value_of("succeeded") == "true"]
    harm = f"Of the inversions that reached their class with confidence 0.9, {_found(won)[0]} are found."
    return f"{_table(header, rows)}\n\n{named} {harm}"


def _evasions(own: Outcomes) -> str:
    rows = [[name, *_found(mine)] for name, mine in _grouped(own.campaigns, lambda c: c.truth.evasion)]
    return _table(("evasion", "found", "95 %", "median queries"), rows)


def _attacks(own: Outcomes) -> str:
    groups = _grouped(own.campaigns, lambda c: f"{c.truth.family}: {c.truth.kind}")
    rows = [[name, found, median] for name, mine in groups for found, _, median in [_found(mine)]]
    return _table(("attack", "found", "median queries"), rows)


def _beside(systems: dict[str, Outcomes]) -> str:
    """Return what every detector finds, and whom it alarms, side by side."""
    families = sorted({c.truth.family for c in systems[OWN].campaigns})
    rows = [
        [family, *(_found([c for c in one.campaigns if c.truth.family == family])[0] for one in systems.values())]
        for family in families
    ]
    for name, hard in (("ordinary clients alarmed", False), ("hard clients alarmed", True)):
        rows.append([name, *(_alarmed([c for c in _calm(one) if is_hard(c) == hard]) for one in systems.values())])
    return _table(("", *systems), rows)


def _benign(own: Outcomes) -> str:
    calm = _calm(own)
    hard = [c for c in calm if is_hard(c)]
    rows = [
        _alarm_row("**ordinary**", [c for c in calm if not is_hard(c)]),
        _alarm_row("**hard**", hard),
        _alarm_row(f"**hard but {RECOURSE}**", [c for c in hard if c.truth.kind != RECOURSE]),
        *(_alarm_row(kind, mine) for kind, mine in _grouped(calm, lambda c: c.truth.kind)),
    ]
    header = (
        "benign kind",
        "alarmed at medium",
        "95 %",
        "at high",
        "queries",
        "false alerts a million",
        "at most (95 %)",
    )
    return _table(header, rows)


def _alarm_row(name: str, clients: Sequence[ClientOutcome]) -> list[str]:
    told = alarms(clients)
    medium, high = told["medium"], told["high"]
    million = "–" if told["per_million"] is None else f"{told['per_million']:,.0f}"
    return [
        *(name, _alarmed(clients), wilson(medium["found"], medium["n"]), str(high["found"])),
        *(f"{told['queries']:,}", million, f"{told['per_million_high95']:,.0f}"),
    ]


def _calm(outcomes: Outcomes) -> list[ClientOutcome]:
    return [c for c in outcomes.clients if not c.truth.hostile]


def _alarmed(clients: Sequence[ClientOutcome]) -> str:
    return f"{sum(c.false_level >= MEDIUM for c in clients)} of {len(clients)}"


def _found(campaigns: Sequence[CampaignOutcome]) -> tuple[str, str, str]:
    """Return how many campaigns are found, with an interval, and the median queries to the first alert of those."""
    queries = [c.first.queries for c in campaigns if c.first is not None]
    median = delays(queries)["median"]
    found = f"{len(queries)} of {len(campaigns)}"
    return found, wilson(len(queries), len(campaigns)), "–" if median is None else f"{median:.0f}"


def _grouped(items: Iterable[_T], key: Callable[[_T], str]) -> list[tuple[str, list[_T]]]:
    groups: dict[str, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return sorted(groups.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
