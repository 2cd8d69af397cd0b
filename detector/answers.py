"""What the model answered, as numbers that tests can rank: one for each class that a client is followed on.

Up to 16 classes a client. With scores of at most 16 classes each has its place; otherwise a class gets a place when
it is the answer, if need be that of the class answered longest ago. Scores become 16 bits that rise with them: the bits
of a float rise like its logarithm, so p and 1 − p give log-odds in base 2 (× 1024) without computing any. An answer
without all scores counts as its confidence for the answered class and against the others; a bare label as a constant.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from detector.detectors import References
from detector.events import F32, I8, I16, I32, I64, U8, EventBatch
from detector.kernel import in_place

CLASSES = 16
UNSURE = 512  # what a label without confidence counts as


class AnswerState(NamedTuple):
    """One row a client slot; all-zero = new."""

    classes: I64  # [slots, 16] label + 2 of the class at each place, 0 = free
    topped: I64  # [slots, 16] when it was last the answer
    clock: I64  # [slots] answers so far


class Answers(NamedTuple):
    """Columns [n] of `detectors.View`."""

    answer: I16  # [n, 16]
    places: I64  # [n, 16] the label at each place, −1 = none
    replaced: I8  # [n] the place that changed hands with this event, −1 = none


class Given(NamedTuple):
    """Columns [n] of the batch that the kernel reads."""

    scores: F32
    offsets: I64
    confidence: F32
    label: I64
    level: U8
    probability: U8
    classes: I64


def answer_state(capacity: int) -> AnswerState:
    """Return state for that many clients."""
    wide = np.zeros((2, capacity, CLASSES), np.int64)
    return AnswerState(wide[0], wide[1], np.zeros(capacity, np.int64))


def observe(batch: EventBatch, slot: I64, reference: I32, scales: References, state: AnswerState) -> Answers:
    """Write every answer as numbers, in order."""
    n = len(slot)
    out = Answers(np.zeros((n, CLASSES), np.int16), np.full((n, CLASSES), -1, np.int64), np.full(n, -1, np.int8))
    given = Given(
        scores=batch.scores.values,
        offsets=batch.scores.offsets,
        confidence=batch.confidence,
        label=batch.label_key,
        level=batch.output_level,
        probability=scales.probability[reference],
        classes=scales.classes[reference],
    )
    _observe(slot, given, state, out)
    return out


@in_place
def _observe(slot: I64, given: Given, state: AnswerState, out: Answers) -> None:
    for i in range(len(slot)):
        c, places = slot[i], given.classes[i]
        if given.level[i] == 0:
            continue
        state.clock[c] += 1
        first, width = given.offsets[i], given.offsets[i + 1] - given.offsets[i]
        if 0 < width <= places:
            for k in range(width):
                state.classes[c, k] = k + 2
                out.places[i, k] = k
                out.answer[i, k] = code(given.scores[first + k], given.probability[i])
            continue
        out.replaced[i] = _follow(c, places, given.label[i], state)
        certain = UNSURE
        if given.level[i] > 1:
            certain = max(code(given.confidence[i], given.probability[i]), UNSURE)
        for k in range(places):
            label = state.classes[c, k] - 2
            out.places[i, k] = label if label >= 0 else -1
            if 0 <= label < width:
                out.answer[i, k] = code(given.scores[first + label], given.probability[i])
            else:
                out.answer[i, k] = certain if label == given.label[i] else -certain


@in_place
def _follow(c: int, places: int, label: int, state: AnswerState) -> int:
    """Give the answered class a place, and return the place that changed hands, −1 where none did."""
    if label < 0:
        return -1
    place = 0
    for k in range(places):
        if state.classes[c, k] == label + 2:
            state.topped[c, k] = state.clock[c]
            return -1
        if state.topped[c, k] < state.topped[c, place]:
            place = k
    state.classes[c, place] = label + 2
    state.topped[c, place] = state.clock[c]
    return place


@in_place
def code(score: float, probability: bool) -> int:
    """Store a score as 16 bits that rise with it, finest near 0 and near 1 for a probability."""
    if np.isnan(score):
        return 0
    if not probability:
        bits = int(np.float32(abs(score)).view(np.int32)) >> 16
        return bits if score >= 0 else -bits
    if score <= 0.5:
        return (int(np.float32(max(score, 1e-7)).view(np.int32)) - 0x3F000000) >> 13
    return -((int(np.float32(max(1.0 - score, 1e-7)).view(np.int32)) - 0x3F000000) >> 13)


@in_place
def probability_of(stored: int) -> float:
    """Return the probability that `code` stored, to three digits."""
    small = float(np.int32((-abs(stored) << 13) + 0x3F000000).view(np.float32))
    return small if stored <= 0 else 1.0 - small


class Labels:
    """The texts of text labels, for alerts; bounded: beyond the bound a label stays a number."""

    def __init__(self, most: int = 65536) -> None:
        self._most = most
        self._texts: dict[int, str] = {}

    def learn(self, batch: EventBatch) -> None:
        """Remember the text labels of a chunk."""
        rows = np.flatnonzero(batch.label_key >= 1 << 32)
        if len(rows):
            keys, first = np.unique(batch.label_key[rows], return_index=True)
            for key, i in zip(keys.tolist(), first.tolist(), strict=True):
                if key not in self._texts and len(self._texts) < self._most:
                    self._texts[key] = batch.label[int(rows[i])]

    def export(self) -> U8:
        """Return all texts as bytes (MessagePack), for a checkpoint."""
        return np.frombuffer(msgspec.msgpack.encode(sorted(self._texts.items())), np.uint8)

    def restore(self, data: U8) -> None:
        """Take in what `export` gave."""
        self._texts |= dict(msgspec.msgpack.decode(data.tobytes(), type=list[tuple[int, str]]))

    def text(self, key: int) -> str:
        """Return a label as text, "" for none."""
        return "" if key < 0 else self._texts.get(key, str(key))
