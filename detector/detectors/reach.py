"""Reach: how far a client got, if it attacks: counts that an analyst can check; no evidence.

records   Records probed: inputs asked about at least three times in near copies (tight threads), or five times back to
          back. What a membership test spends on each person or thing that it asks about.
copy      What the answers to distinct queries are worth against what a copy needs: equations over the unknowns of a
          linear model of the same width and classes. A query answered with all scores gives classes − 1 equations, a
          confidence one, a bare label log2(classes) bits of the ten that a number of three digits has. Linear models
          fall at about 1, trees and networks at 1 to 100 (Tramèr et al., USENIX Security 2016).
bracket   The smallest step inside a thread that changed the answer, r0: how closely the decision boundary is known.

Sees what every client did, hostile or not: meaningful beside evidence only, as the progress of a family.
Cannot see: records asked about once; what distinct identities gathered together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.answers import CLASSES
from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.history import TIGHT
from detector.kernel import in_place

COPIES = 2  # near copies of an input, from which on it is probed
LONG_RUN = 5  # queries of one input back to back, likewise
NEAR = 0.3  # r0: closer queries tell a copy little that is new
LABEL = np.log2(np.maximum(np.arange(CLASSES + 1), 1)) / 10  # equations in a bare label of so many classes


class ReachState(NamedTuple):
    """One row a client slot."""

    copies: U8  # [slots, 128] near copies of the query with that number, modulo
    records: I32  # [slots]
    repeated: U64  # [slots] the input last counted for its repeats
    equations: F64  # [slots]
    founder: I32  # [slots] wide thread of the newest fresh query
    label: I64  # [slots] its answer
    bracket: F32  # [slots] 0 = none yet


class Out(NamedTuple):
    """Columns [n] of the signals."""

    records: F32
    copy: F32
    bracket: F32


class Reach:
    """See the module."""

    name = "reach"
    version = 1
    need = Need(InputLevel.DIGEST, OutputLevel.NONE)
    signals = (
        Signal("reach.records", "records", 0, 1e12, "inputs asked about in near copies or back to back"),
        Signal("reach.copy", "ratio", 0, 1e12, "equations in the answers over the unknowns of a linear copy"),
        Signal("reach.bracket", "r0", 0, 1e6, "smallest step inside a thread that changed the answer"),
    )

    def state(self, capacity: int) -> ReachState:
        """Return state for that many clients."""
        return ReachState(
            copies=np.zeros((capacity, TIGHT), np.uint8),
            records=np.zeros(capacity, np.int32),
            repeated=np.zeros(capacity, np.uint64),
            equations=np.zeros(capacity),
            founder=np.zeros(capacity, np.int32),
            label=np.zeros(capacity, np.int64),
            bracket=np.zeros(capacity, np.float32),
        )

    def observe(self, view: View, state: ReachState) -> Mapping[str, F32]:
        """Count every event in order."""
        columns = np.full((len(Out._fields), len(view.slot)), np.nan, np.float32)
        out = Out(*columns)
        batch, slot, number = view.batch, view.slot, view.number
        digest, label = batch.input_digest, batch.label_key
        classes, width = view.scales.classes[view.reference], view.scales.width[view.reference]
        _records(slot, number, view.record, view.run, digest, state.copies, state.repeated, state.records, out.records)
        _copy(slot, number, view.joined, batch.output_level, classes, width, state.equations, out.copy)
        _bracket(slot, number, view.founder, view.step, label, state.founder, state.label, state.bracket, out.bracket)
        columns[:, digest == 0] = np.nan  # no input to speak of
        return {f"reach.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _records(
    slot: I64, number: I64, record: I32, run: I32, digest: U64, copies: U8, repeated: U64, records: I32, out: F32
) -> None:
    for i in range(len(slot)):
        c, first = slot[i], record[i]
        if run[i] == LONG_RUN and digest[i] != repeated[c]:
            repeated[c] = digest[i]
            records[c] += 1
        if number[i] and first == number[i]:
            copies[c, first % TIGHT] = 0
        elif number[i] and number[i] - first < TIGHT and copies[c, first % TIGHT] < COPIES:
            copies[c, first % TIGHT] += 1
            records[c] += copies[c, first % TIGHT] == COPIES
        out[i] = records[c]


@in_place
def _copy(slot: I64, number: I64, joined: F32, level: U8, classes: I64, width: I64, equations: F64, out: F32) -> None:
    for i in range(len(slot)):
        c = slot[i]
        if number[i] and level[i] and not joined[i] < NEAR:
            equations[c] += LABEL[classes[i]] if level[i] == 1 else classes[i] - 1.0 if level[i] == 3 else 1.0
        if width[i]:
            out[i] = equations[c] / ((width[i] + 1.0) * (classes[i] - 1.0))


@in_place
def _bracket(
    slot: I64, number: I64, founder: I32, step: F32, label: I64, last: I32, answer: I64, least: F32, out: F32
) -> None:
    for i in range(len(slot)):
        c = slot[i]
        if number[i]:
            flipped = label[i] >= 0 and answer[c] >= 0 and label[i] != answer[c]
            closer = least[c] == 0.0 or step[i] < least[c]
            if flipped and founder[i] == last[c] and closer and step[i] > 0.0:
                least[c] = step[i]
            last[c] = founder[i]
            answer[c] = label[i]
        if least[c] > 0.0:
            out[i] = least[c]


DETECTOR = Reach()
