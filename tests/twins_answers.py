"""Slow truth beside answers.py, and the numbers that detectors draw from answers and keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from detector import answers
from detector.events import EventBatch

MASK = (1 << 64) - 1


class AnswersTwin:
    """One client's answers as numbers, one for each class that it is followed on."""

    def __init__(self) -> None:
        self.labels: list[int | None] = []
        self.answered: list[int] = []  # when the class at each place was last the answer
        self.clock = 0

    def observe(self, batch: EventBatch, i: int, places: int, probability: bool) -> tuple[list[int], list[int], int]:
        """Return the numbers, their labels (−1 = none) and the place that changed hands (−1 = none), of one event."""
        if not self.labels:
            self.labels, self.answered = [None] * places, [0] * places
        if batch.output_level[i] == 0:
            return [], [], -1
        self.clock += 1
        scores = batch.scores.row(i)
        if 0 < len(scores) <= places:
            self.labels[: len(scores)] = range(len(scores))
            return [code(score, probability) for score in scores], list(range(len(scores))), -1
        answered = int(batch.label_key[i])
        replaced = self._follow(answered)
        certain = answers.UNSURE
        if batch.output_level[i] > 1:
            certain = max(certain, code(batch.confidence[i], probability))
        values = []
        for label in self.labels:
            if label is not None and label < len(scores):
                values.append(code(scores[label], probability))
            else:
                values.append(certain if label == answered else -certain)
        return values, [-1 if label is None else label for label in self.labels], replaced

    def _follow(self, label: int) -> int:
        """Give the answered class a place: its own, a free one, or that of the class answered longest ago."""
        if label < 0:
            return -1
        mine = label in self.labels
        place = self.labels.index(label) if mine else self.answered.index(min(self.answered))
        self.labels[place], self.answered[place] = label, self.clock
        return -1 if mine else place


def probability_of(stored: int) -> float:
    """Undo `code` for a probability, but for the bits that it dropped."""
    small = float(np.int32(_bits(0.5) - (abs(stored) << 13)).view(np.float32))
    return small if stored <= 0 else 1.0 - small


def code(score: float | np.float32, probability: bool) -> int:
    """Store a score as 16 bits: the upper bits of its float, of p below and of 1 − p above one half."""
    if math.isnan(score):
        return 0
    if not probability:
        size = _bits(abs(score)) >> 16
        return size if score >= 0 else -size
    if score <= 0.5:
        return (_bits(max(float(score), 1e-7)) - _bits(0.5)) >> 13
    return -((_bits(max(1.0 - float(score), 1e-7)) - _bits(0.5)) >> 13)


def _bits(value: Any) -> int:
    return int(np.float32(value).view(np.int32))


def splitmix(key: int, count: int, salt: int) -> float:
    """Return a number in (0, 1] from three whole numbers, in Python's whole numbers."""
    x = key ^ (count * 0x9E3779B97F4A7C15 & MASK) ^ (salt * 0xD1342543DE82EF95 & MASK)
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    x ^= x >> 31
    return ((x >> 11) + 1) / 2**53
