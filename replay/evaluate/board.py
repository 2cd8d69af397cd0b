"""The scoreboard: captures through every detector, scored, as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from detector import __version__
from detector.rules import Ruleset
from detector.settings import Settings
from replay.evaluate.ablation import difference, without
from replay.evaluate.anchors import run_anchors
from replay.evaluate.cost import Spent, cost, measure
from replay.evaluate.degrade import LEVELS, Level, degraded
from replay.evaluate.matched import matched
from replay.evaluate.outcome import Outcomes, judge
from replay.evaluate.score import Json, parted, score, summary
from replay.evaluate.stream import Progress, Stream, read_stream
from replay.evaluate.targets import targets
from replay.evaluate.truth import OWN_FIELDS, Client, read_truth, truth_of
from replay.evaluate.watch import Found, watch

_Told = Callable[[str], Progress | None]

SCHEMA = "querywatch_scoreboard/1"
OWN = "querywatch"


class Case(NamedTuple):
    """Captures read one after the other as one stream, and what is true of it."""

    files: tuple[Path, ...]
    truth: list[Client]


class Wanted(NamedTuple):
    """What to work out, beside detection and false alerts."""

    half: str = "report"
    level: Level = "vectors"  # of detail, for everything
    anchors: bool = True
    by: tuple[str, ...] = ()  # fields of the truth to part the clients by
    ablation: bool = False
    cost: bool = False
    levels: bool = False  # the other levels of detail, for comparison
    workers: int = 1  # processes for the ablation
    cache: Path | None = None  # folder that keeps what the anchors found


DEFAULT = Wanted()


class Tally(NamedTuple):
    """One detector over all cases."""

    outcomes: Outcomes
    seconds: float


@dataclass(slots=True)
class _Pools:
    """What all cases together gave."""

    streams: list[Stream] = field(default_factory=list)
    systems: dict[str, Tally] = field(default_factory=dict)
    levels: dict[str, Outcomes] = field(default_factory=dict)
    without: dict[str, Outcomes] = field(default_factory=dict)
    spent: list[Spent] = field(default_factory=list)

    def add(self, stream: Stream, found: Mapping[str, Found]) -> None:
        """Add what the detectors found in one case."""
        for name, one in found.items():
            before = self.systems.setdefault(name, Tally(Outcomes(), 0.0))
            before.outcomes.extend(judge(stream, one.alarms, one.crossings, one.peaks))
            self.systems[name] = Tally(before.outcomes, before.seconds + one.seconds)


class UnknownFieldError(ValueError):
    """The truth of no client has the field to part by; the message lists those that it has."""


def cases(captures: Sequence[Path], truths: Sequence[Path] = ()) -> list[Case]:
    """Pair captures with truth files; TruthError where one is missing or broken.

    Without truth files each capture is a case with the truth beside it. As many truth files as captures: likewise, in
    their order. Otherwise all captures together are one stream, and all truth files together say what is true of it.
    """
    if not truths or len(truths) == len(captures):
        beside = truths or [truth_of(capture) for capture in captures]
        return [Case((c,), read_truth([t])) for c, t in zip(captures, beside, strict=True)]
    return [Case(tuple(captures), read_truth(truths))]


def evaluate(
    all_cases: Sequence[Case],
    settings: Settings,
    ruleset: Ruleset,
    wanted: Wanted = DEFAULT,
    progress: Callable[[str], Progress] | None = None,
) -> Json:
    """Run every detector over every case and return the scoreboard.

    `progress` is called with the name of each pass and returns what is told how far it got. CaptureError,
    UnknownClientsError and UnknownFieldError where a capture or an option cannot be used.
    """
    _check_fields(all_cases, wanted.by)
    pools = _Pools()
    for given in all_cases:
        told = _teller(given, progress)
        with TemporaryDirectory(prefix="querywatch-evaluate-") as folder:
            case = _at(given, wanted.level, settings, Path(folder), told)
            _evaluate(case, settings, ruleset, wanted, pools, told)
            for level in [x for x in LEVELS if wanted.levels and x != wanted.level]:
                less = _at(given, level, settings, Path(folder), told)
                seen = read_stream(less.files, less.truth, settings, told(f"read {level} of"))
                alarms = watch(less.files, seen, settings, ruleset, told(f"detect {level} of")).alarms
                pools.levels.setdefault(level, Outcomes()).extend(judge(seen, alarms))
    return _document(pools, ruleset, wanted, indexed=bool(settings.training.folder))


def _evaluate(case: Case, settings: Settings, ruleset: Ruleset, wanted: Wanted, pools: _Pools, told: _Told) -> None:
    """Run everything that is wanted over one case and pool the results."""
    stream = read_stream(case.files, case.truth, settings, told("read"))
    pools.streams.append(stream)
    found = {OWN: watch(case.files, stream, settings, ruleset, told("detect"))}
    if wanted.anchors:
        found |= run_anchors(case.files, stream, settings, told("compare"), wanted.cache)
    pools.add(stream, found)
    if wanted.cost:
        pools.spent.append(measure(case.files, stream, settings, ruleset, told("profile")))
    if wanted.ablation:
        for variant, alarms in without(case.files, stream, settings, ruleset, wanted.workers, told("ablate")):
            pools.without.setdefault(variant.name, Outcomes()).extend(judge(stream, alarms))


def _teller(case: Case, progress: Callable[[str], Progress] | None) -> _Told:
    return lambda what: progress(f"{what} {case.files[0].name}") if progress is not None else None


def _at(case: Case, level: Level, settings: Settings, folder: Path, told: _Told) -> Case:
    """Return the case at a level of detail, its captures written to the folder unless they are there already."""
    if level == "vectors":
        return case
    path = folder / f"{case.files[0].name.partition('.')[0]}-{level}.jsonl"
    if not path.exists():
        degraded(case.files, level, settings, path, told(f"reduce to {level}"))
    return Case((path,), case.truth)


def _check_fields(all_cases: Sequence[Case], by: Sequence[str]) -> None:
    known = {name for case in all_cases for client in case.truth for name in (*OWN_FIELDS, *client.fields)}
    for name in by:
        if name not in known:
            raise UnknownFieldError(f"no client has {name!r} in its truth; there are {', '.join(sorted(known))}")


def _document(pools: _Pools, ruleset: Ruleset, wanted: Wanted, *, indexed: bool) -> Json:
    events = sum(len(stream.pair) for stream in pools.streams)
    outcomes = {name: tally.outcomes.half(wanted.half) for name, tally in pools.systems.items()}
    systems: Json = {}
    for name, tally in pools.systems.items():
        systems[name] = score(outcomes[name], families=name == OWN)
        systems[name]["events_per_s"] = round(events / tally.seconds) if tally.seconds else None
    own = outcomes.pop(OWN)
    levels = {wanted.level: pools.systems[OWN].outcomes} | pools.levels if pools.levels else {}
    document: Json = {
        "schema": SCHEMA,
        "version": __version__,
        "rules": ruleset.hash,
        "half": wanted.half,
        "level": wanted.level,
        "captures": [_capture(stream) for stream in pools.streams],
        "targets": targets(own, indexed=indexed),
        "systems": systems,
        "by": {name: parted(own, name) for name in wanted.by},
        "matched": matched(own, outcomes),
        "cost": cost(pools.spent) if pools.spent else {},
        "ablation": {name: difference(own, left.half(wanted.half)) for name, left in pools.without.items()},
        "levels": {name: summary(seen.half(wanted.half)) for name, seen in levels.items()},
    }
    return dict(_rounded(document))


def _rounded(value: Any) -> Any:
    """Return JSON data with floats of six significant digits: a scoreboard is for keeping and comparing."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _capture(stream: Stream) -> dict[str, Any]:
    return {
        "name": stream.name,
        "digest": stream.digest,
        "events": len(stream.pair),
        "clients": len(stream.truth),
        "truth_without_events": stream.missing,
        "refused": stream.refused,
    }
