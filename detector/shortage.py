"""What could not be seen: events that hold less detail than a detector needs, so that no alerts never hides no data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.detectors import Detector, Need
from detector.events import I64, EventBatch, ModelRef
from detector.families import FAMILIES
from detector.registry import OUTPUTS, Registry

_INPUT = ("", "digests of inputs", "inputs", "whole inputs")  # by InputLevel
_OUTPUT = ("", "labels", "confidences", "scores")  # by OutputLevel


class Shortage(NamedTuple):
    """One detector that some events of one model version starve."""

    model: str
    version: str
    detector: str
    events: int  # that hold too little
    of: int  # all events of the model that were judged
    missing: tuple[str, ...]  # what they lack, in words
    unanswered: bool  # by models.yml the API never answers with so much: nobody sees it, so nobody can log it

    @property
    def share(self) -> float:
        """The part of the model's events that the detector is blind to, 0–1."""
        return self.events / self.of

    def __str__(self) -> str:
        why = ", which the API does not give" if self.unanswered else ""
        model = f"{self.model} {self.version}".strip()
        return f"{model}: {self.detector} lacks {' and '.join(self.missing)} in {100 * self.share:.3g} %{why}"


class Detail:
    """Counts events by model and by how much of input and answer they hold. For people: no part of the result."""

    def __init__(self) -> None:
        self.counts: dict[ModelRef, I64] = {}  # [4, 4] by InputLevel and OutputLevel; as many models as have references
        self.unreadable: dict[ModelRef, int] = {}  # events that the model's training index cannot look up

    def count(self, batch: EventBatch, unreadable: NDArray[np.bool_]) -> None:
        """Count the events of a chunk; `unreadable` [n] marks those that the model's training index cannot look up."""
        cell = batch.model.astype(np.int64) * 16 + batch.input_level * 4 + batch.output_level
        found = np.bincount(cell, minlength=16 * len(batch.models)).reshape(-1, 4, 4)
        for ref, counts in zip(batch.models, found, strict=True):
            if counts.any():
                self.counts[ref] = self.counts.get(ref, 0) + counts
        for m in np.unique(batch.model[unreadable]).tolist():
            ref = batch.models[m]
            self.unreadable[ref] = self.unreadable.get(ref, 0) + int((batch.model[unreadable] == m).sum())

    def shortages(self, detectors: Iterable[Detector], registry: Registry) -> list[Shortage]:
        """Return every detector that a model starves, by model and detector."""
        found = []
        for ref, counts in sorted(self.counts.items()):
            output = registry.entry(ref).output
            for detector in detectors:
                need = detector.need
                enough = int(counts[need.input :, need.output :].sum())
                if enough < counts.sum():
                    unanswered = output is not None and OUTPUTS[output] < need.output
                    missing = _missing(counts, need)
                    events = int(counts.sum()) - enough
                    found.append(Shortage(*ref, detector.name, events, int(counts.sum()), missing, unanswered))
            if lost := self.unreadable.get(ref, 0):
                found.append(Shortage(*ref, "training", lost, int(counts.sum()), ("whole inputs",), unanswered=False))
        return found


def _missing(counts: I64, need: Need) -> tuple[str, ...]:
    lacks = ((counts[: need.input].any(), _INPUT[need.input]), (counts[:, : need.output].any(), _OUTPUT[need.output]))
    return tuple(word for lacking, word in lacks if lacking)


def starved_tests(detectors: Iterable[Detector], batch: EventBatch, row: int) -> tuple[str, ...]:
    """Return the tests of all families that can say nothing of one event, because it holds too little."""
    blind = {
        d.name for d in detectors if d.need.input > batch.input_level[row] or d.need.output > batch.output_level[row]
    }
    tests = dict.fromkeys(test for family in FAMILIES for test, _ in family.tests)
    return tuple(test for test in tests if test.split(".", 1)[0] in blind)
