"""Reach: how far a client got, if it attacks: counts that an analyst can check; no evidence.

records   Records probed: inputs asked about at least three times in near copies (tight threads), or five times back to
          back. What a membership test spends on each person or thing that it asks about.
swept     Records of which one and the same feature was tried with another value: the unit of attribute inference.
copy      What the answers to distinct queries are worth against what a copy needs: equations over the unknowns of a
          linear model of the same width and classes. A query answered with all scores gives classes − 1 equations, a
          confidence one, a bare label log2(classes) bits of the ten that a number of three digits has. Linear models
          fall at about 1, trees and networks at 1 to 100 (Tramèr et al., USENIX Security 2016).
bracket   The smallest step inside a thread that changed the answer, r0: how closely the decision boundary is known.

Sees what every client did, hostile or not: meaningful beside evidence only, as the progress of a family.
Cannot see: records asked about once; sweeps of inputs over 32 features; what distinct identities gathered together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.history import TIGHT
from detector.kernel import kernel

COPIES = 2  # near copies of an input, from which on it is probed
LONG_RUN = 5  # queries of one input back to back, likewise
NEAR = 0.3  # r0: closer queries tell a copy little that is new
LABEL_BITS = 10.0  # of an unknown


class ReachState(NamedTuple):
    """One row a client slot."""

    copies: U8  # [slots, 128] near copies of the query with that number, modulo
    records: I32  # [slots]
    repeated: U64  # [slots] the input last counted for its repeats
    coordinate: I32  # [slots] the feature that was changed alone last, + 1
    swept: I32  # [slots]
    equations: F64  # [slots]
    founder: I32  # [slots] wide thread of the newest fresh query
    label: I64  # [slots] its answer
    bracket: F32  # [slots] 0 = none yet


class Out(NamedTuple):
    """Columns [n] of the signals."""

    records: F32
    swept: F32
    copy: F32
    bracket: F32


class Moves(NamedTuple):
    """Columns [n] of the view, and of the reference of each row's model."""

    slot: I64
    number: I64
    record: I32
    founder: I32
    step: F32
    joined: F32
    run: I32
    digest: U64
    coordinate: I32
    partners: I32
    label: I64
    level: U8
    width: I64
    classes: I64


class Reach:
    """See the module."""

    name = "reach"
    version = 1
    need = Need(InputLevel.DIGEST, OutputLevel.NONE)
    signals = (
        Signal("reach.records", "records", 0, 1e12, "inputs asked about in near copies or back to back"),
        Signal("reach.swept", "records", 0, 1e12, "records of which the same feature was tried with another value"),
        Signal("reach.copy", "ratio", 0, 1e12, "equations in the answers over the unknowns of a linear copy"),
        Signal("reach.bracket", "r0", 0, 1e6, "smallest step inside a thread that changed the answer"),
    )

    def state(self, capacity: int) -> ReachState:
        """Return state for that many clients."""
        return ReachState(
            copies=np.zeros((capacity, TIGHT), np.uint8),
            records=np.zeros(capacity, np.int32),
            repeated=np.zeros(capacity, np.uint64),
            coordinate=np.zeros(capacity, np.int32),
            swept=np.zeros(capacity, np.int32),
            equations=np.zeros(capacity),
            founder=np.zeros(capacity, np.int32),
            label=np.zeros(capacity, np.int64),
            bracket=np.zeros(capacity, np.float32),
        )

    def observe(self, view: View, state: ReachState) -> Mapping[str, F32]:
        """Count every event in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        batch, scales, m = view.batch, view.scales, view.reference
        moves = Moves(view.slot, view.number, view.record, view.founder, view.step, view.joined, view.run,
                      batch.input_digest, view.coordinate, view.partners, batch.label_key, batch.output_level,
                      scales.width[m], scales.classes[m])  # fmt: skip
        _observe(moves, state, out)
        return {f"reach.{name}": getattr(out, name) for name in Out._fields}


@kernel
def _observe(moves: Moves, state: ReachState, out: Out) -> None:
    for i in range(len(moves.slot)):
        c = moves.slot[i]
        if moves.digest[i] == 0:  # no input to speak of
            continue
        if moves.run[i] == LONG_RUN and moves.digest[i] != state.repeated[c]:
            state.repeated[c] = moves.digest[i]
            state.records[c] += 1
        if moves.number[i]:
            _fresh(i, c, moves, state)
        out.records[i] = state.records[c]
        out.swept[i] = state.swept[c]
        if moves.width[i] > 0:
            out.copy[i] = state.equations[c] / ((moves.width[i] + 1.0) * (moves.classes[i] - 1.0))
        if state.bracket[c] > 0.0:
            out.bracket[i] = state.bracket[c]


@kernel
def _fresh(i: int, c: int, moves: Moves, state: ReachState) -> None:
    number, record, founder, label = moves.number[i], moves.record[i], moves.founder[i], moves.label[i]
    if record == number:
        state.copies[c, number % TIGHT] = 0
    elif number - record < TIGHT and state.copies[c, record % TIGHT] < COPIES:
        state.copies[c, record % TIGHT] += 1
        state.records[c] += state.copies[c, record % TIGHT] == COPIES
    if moves.coordinate[i] >= 0:
        state.swept[c] += moves.partners[i] == 1 and moves.coordinate[i] + 1 == state.coordinate[c]
        state.coordinate[c] = moves.coordinate[i] + 1
    if not moves.joined[i] < NEAR:
        state.equations[c] += _worth(moves.level[i], moves.classes[i])
    if founder == state.founder[c] and label >= 0 and state.label[c] >= 0 and label != state.label[c]:
        closer = state.bracket[c] == 0.0 or moves.step[i] < state.bracket[c]
        if closer and moves.step[i] > 0.0:
            state.bracket[c] = moves.step[i]
    state.founder[c] = founder
    state.label[c] = label


@kernel
def _worth(level: int, classes: int) -> float:
    """Return how many equations an answer gives: none, a label, a confidence or all scores."""
    if level == 0:
        return 0.0
    if level == 1:
        return math.log2(classes) / LABEL_BITS
    return classes - 1.0 if level == 3 else 1.0


DETECTOR = Reach()
