"""The scoreboard: captures through every detector, scored, as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector import __version__
from detector.rules import Ruleset
from detector.settings import Settings
from replay.evaluate.anchors import run_anchors
from replay.evaluate.outcome import Outcomes, judge
from replay.evaluate.score import Json, score
from replay.evaluate.stream import Progress, Stream, read_stream
from replay.evaluate.truth import Client, read_truth, truth_of
from replay.evaluate.watch import Found, watch

SCHEMA = "querywatch_scoreboard/1"
OWN = "querywatch"


class Case(NamedTuple):
    """Captures read one after the other as one stream, and what is true of it."""

    files: tuple[Path, ...]
    truth: list[Client]


class Tally(NamedTuple):
    """One detector over all cases."""

    outcomes: Outcomes
    seconds: float


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
    *,
    half: str = "report",
    with_anchors: bool = True,
    progress: Callable[[str], Progress] | None = None,
) -> Json:
    """Run every detector over every case and return the scoreboard.

    `progress` is called with the name of each pass and returns what is told how far it got. CaptureError and
    UnknownClientsError where a capture cannot be used.
    """
    tallies: dict[str, Tally] = {}
    streams: list[Stream] = []
    for case in all_cases:

        def told(what: str, case: Case = case) -> Progress | None:
            return progress(f"{what} {case.files[0].name}") if progress is not None else None

        stream = read_stream(case.files, case.truth, settings, told("read"))
        streams.append(stream)
        found: dict[str, Found] = {OWN: watch(case.files, stream, settings, ruleset, told("detect"))}
        if with_anchors:
            found |= run_anchors(case.files, stream, settings, told("compare"))
        for name, one in found.items():
            before = tallies.setdefault(name, Tally(Outcomes(), 0.0))
            before.outcomes.extend(judge(stream, one.alarms, one.crossings))
            tallies[name] = Tally(before.outcomes, before.seconds + one.seconds)
    return _document(streams, tallies, ruleset, half)


def _document(streams: Sequence[Stream], tallies: dict[str, Tally], ruleset: Ruleset, half: str) -> Json:
    events = sum(len(stream.pair) for stream in streams)
    systems: Json = {}
    for name, tally in tallies.items():
        systems[name] = score(tally.outcomes.half(half), families=name == OWN)
        systems[name]["events_per_s"] = round(events / tally.seconds) if tally.seconds else None
    document: Json = {
        "schema": SCHEMA,
        "version": __version__,
        "rules": ruleset.hash,
        "half": half,
        "captures": [_capture(stream) for stream in streams],
        "systems": systems,
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
