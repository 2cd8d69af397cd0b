"""What each detector adds: the whole pipeline again, each time with one test silenced, or all tests of one detector.

A silenced test says nothing, so it bets nothing: its weight in the family's mean is not given to the others. What a
detector measures beside its tests stays, because other parts ask for it. Everything else runs as ever, so whatever
follows from the evidence (suspicion, the baseline, episodes) follows from what is left.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog

from detector.detectors import Detector, State, View, discover
from detector.events import F32
from detector.families import FAMILIES
from detector.rules import Ruleset
from detector.settings import Settings
from replay.evaluate.outcome import CampaignOutcome, Outcomes
from replay.evaluate.score import Json, alarms, delays, is_hard
from replay.evaluate.stream import Stream
from replay.evaluate.watch import Alarm, watch


class Variant(NamedTuple):
    """The tests that are silenced, under the name of the detector or of the one test."""

    name: str
    tests: tuple[str, ...]


class Silenced:
    """A detector some of whose tests say nothing."""

    def __init__(self, detector: Detector, tests: Sequence[str]) -> None:
        self.name, self.version = detector.name, detector.version
        self.need, self.signals = detector.need, detector.signals
        self.state = detector.state
        self._detector = detector
        self._tests = tests

    def observe(self, view: View, state: State) -> Mapping[str, F32]:
        """Observe as ever, and keep quiet about the tests."""
        columns = self._detector.observe(view, state)
        return {name: np.full_like(c, np.nan) if name in self._tests else c for name, c in columns.items()}


def variants() -> list[Variant]:
    """Return what can be silenced: each detector that feeds a family, and each of its tests where it has several."""
    fed = dict.fromkeys(test for family in FAMILIES for test, _ in family.tests)
    found = []
    for detector in discover():
        tests = tuple(signal.name for signal in detector.signals if signal.name in fed)
        if tests:
            found.append(Variant(detector.name, tests))
        if len(tests) > 1:
            found += [Variant(test, (test,)) for test in tests]
    return found


def without(
    files: Sequence[Path],
    stream: Stream,
    settings: Settings,
    ruleset: Ruleset,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Variant, list[Alarm]]]:
    """Yield the alarms of every variant; `progress` is called with (variants done, of all)."""
    every = variants()
    tasks = [_Task(files, stream, settings.model_dump(), ruleset, variant.tests) for variant in every]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _quiet) as pool:
        results = pool.map(_run, tasks) if workers > 1 else map(_run, tasks)
        for done, (variant, found) in enumerate(zip(every, results, strict=True), 1):
            if progress is not None:
                progress(done, len(every))
            yield variant, found


class _Task(NamedTuple):
    """One variant, as it goes to another process."""

    files: Sequence[Path]
    stream: Stream
    settings: dict[str, Any]
    ruleset: Ruleset
    tests: tuple[str, ...]


def _quiet() -> None:
    """Log warnings only: another process starts with the defaults."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))


def _run(task: _Task) -> list[Alarm]:
    detectors: list[Detector] = [Silenced(detector, task.tests) for detector in discover()]
    settings = Settings(**task.settings)
    return watch(task.files, task.stream, settings, task.ruleset, detectors=tuple(detectors)).alarms


def difference(full: Outcomes, left: Outcomes) -> Json:
    """Return what is lost and gained without a test: campaigns, queries to the first alert, false alerts."""
    pairs = list(zip(full.campaigns, left.campaigns, strict=True))
    both = [(a, b) for a, b in pairs if a.first is not None and b.first is not None]
    return {
        "lost": _by_family([a for a, b in pairs if a.first is not None and b.first is None]),
        "gained": _by_family([a for a, b in pairs if a.first is None and b.first is not None]),
        "right_family": _right(left.campaigns) - _right(full.campaigns),
        "queries": {
            "with": delays([a.first.queries if a.first else None for a, _ in both])["median"],
            "without": delays([b.first.queries if b.first else None for _, b in both])["median"],
        },
        "false_alerts": {
            "ordinary": _false(left, hard=False) - _false(full, hard=False),
            "hard": _false(left, hard=True) - _false(full, hard=True),
        },
    }


def _by_family(campaigns: Sequence[CampaignOutcome]) -> dict[str, int]:
    families = [c.truth.family for c in campaigns]
    return {family: families.count(family) for family in sorted(set(families))}


def _right(campaigns: Sequence[CampaignOutcome]) -> int:
    return sum(c.first is not None and c.first.family == c.truth.family for c in campaigns)


def _false(outcomes: Outcomes, *, hard: bool) -> int:
    return int(alarms([c for c in outcomes.clients if c.benign_queries and is_hard(c) == hard])["false_alerts"])
