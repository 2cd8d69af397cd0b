"""Block steering: do blocks of queries move along the slope of the answers?

Over its past queries (exponentially weighted, about 64) the client's answers for a class have a slope in sketch space
(ridge regression). If the mean of the next 16 queries moves up that slope, again and again, the client follows our
answers, however it spreads its queries: evolution strategies, finite differences, NES, SPSA. For each class and sign

    z = movement of the block's mean along the slope, in standard errors;  e = 1 ± 0.8 · clip(z / 3, −1, 1)

averaged over classes and signs. Null: given the past, movement along the slope is as likely up as down. A block that
goes on in its direction (mean cosine of its steps above −0.1) is a path and is not bet on: smooth trends move one way.
Sees: optimisers that a single rank cannot show. Cannot see: label-only answers of one class, fewer than 48 queries.
Costly tests run for those who earned them: half of the block nearer to each other, or farther apart, than benign ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.answers import CLASSES
from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I16, I64, U8, InputLevel, OutputLevel
from detector.evidence import CAP, spend, unspent
from detector.kernel import kernel
from detector.sketch import DIMENSIONS, UNITS

BLOCK = 16
MEMORY = 1 / 64  # weight of the newest query in the past
LEAST = 32  # queries in the past before a slope means something
TRIANGLE = DIMENSIONS * (DIMENSIONS + 1) // 2
RIDGE = 0.1  # of the mean variance of a coordinate


class GradientState(NamedTuple):
    """One row a client slot; coordinates in spreads, answers in units of log2 odds."""

    block: I16  # [slots, 16, 32] sketches of the current block
    answers: I16  # [slots, 16, 16]
    turned: F32  # [slots] sum of the cosines in the block
    unlike: F32  # [slots] share of queries nearer or farther than benign ones, running
    inside: I64  # [slots] queries in the block
    past: I64  # [slots] queries in the past
    mean: F32  # [slots, 32]
    level: F32  # [slots, 16] mean answer of each class
    spread: F32  # [slots, 528] covariance, the upper triangle row by row
    slope: F32  # [slots, 16, 32] covariance with the answers
    wealth: F64  # [slots, 32] up and down for each class


class Out(NamedTuple):
    """Columns [n] of the signals."""

    block: F32


class Gradient:
    """See the module."""

    name = "gradient"
    version = 1
    need = Need(InputLevel.SKETCH, OutputLevel.LABEL)
    signals = (Signal("gradient.block", "log10 e-value", -200, 200, "blocks of queries move along the answers' slope"),)

    def state(self, capacity: int) -> GradientState:
        """Return state for that many clients."""
        return GradientState(
            block=np.zeros((capacity, BLOCK, DIMENSIONS), np.int16),
            answers=np.zeros((capacity, BLOCK, CLASSES), np.int16),
            turned=np.zeros(capacity, np.float32),
            unlike=np.zeros(capacity, np.float32),
            inside=np.zeros(capacity, np.int64),
            past=np.zeros(capacity, np.int64),
            mean=np.zeros((capacity, DIMENSIONS), np.float32),
            level=np.zeros((capacity, CLASSES), np.float32),
            spread=np.zeros((capacity, TRIANGLE), np.float32),
            slope=np.zeros((capacity, CLASSES, DIMENSIONS), np.float32),
            wealth=np.zeros((capacity, 2 * CLASSES)),
        )

    def observe(self, view: View, state: GradientState) -> Mapping[str, F32]:
        """Collect every event, and bet at the end of each block."""
        out = Out(np.full(len(view.slot), np.nan, np.float32))
        classes = view.scales.classes[view.reference]
        moves = Moves(
            view.slot, view.fresh, view.cosine, view.joined, view.sketch, view.answer, view.batch.output_level, classes
        )
        _observe(moves, state, out.block)
        return {"gradient.block": out.block}


class Moves(NamedTuple):
    """Columns [n] of the view that the kernel reads."""

    slot: I64
    fresh: U8
    cosine: F32
    joined: F32
    sketch: I16
    answer: I16
    level: U8
    classes: I64


@kernel
def _observe(moves: Moves, state: GradientState, out: F32) -> None:
    factor = np.empty((DIMENSIONS, DIMENSIONS), np.float64)
    for i in range(len(moves.slot)):
        c, classes = moves.slot[i], moves.classes[i]
        if not moves.fresh[i] or moves.level[i] == 0:
            continue
        k = state.inside[c]
        state.block[c, k] = moves.sketch[i]
        state.answers[c, k] = moves.answer[i]
        if not np.isnan(moves.cosine[i]):
            state.turned[c] += moves.cosine[i]
        unlike = moves.joined[i] < 0.8 or moves.joined[i] > 1.25
        state.unlike[c] += (unlike - state.unlike[c]) / 16
        state.inside[c] = k + 1
        if k + 1 == BLOCK:
            if state.past[c] >= LEAST:
                _bet(c, classes, state, factor)
            _learn(c, classes, state)
        if state.past[c] > LEAST:
            bets = (state.past[c] - LEAST) // BLOCK
            total = 0.0
            for j in range(2 * classes):
                total += state.wealth[c, j]
            out[i] = math.log10(min(total + unspent(max(bets - 1, 0) * BLOCK), CAP))


@kernel
def _bet(c: int, classes: int, state: GradientState, factor: F64) -> None:
    """Bet on the movement of one block along each class's slope."""
    start = spend(state.past[c] - LEAST) / (2 * classes)
    for j in range(2 * classes):
        state.wealth[c, j] += start
    if state.unlike[c] < 0.5 or state.turned[c] > -0.1 * BLOCK or not _factorise(state.spread[c], factor):
        return
    move = np.zeros(DIMENSIONS)
    for b in range(BLOCK):
        for d in range(DIMENSIONS):
            move[d] += state.block[c, b, d] / (UNITS * BLOCK)
    for d in range(DIMENSIONS):
        move[d] -= state.mean[c, d]
    slope = np.empty(DIMENSIONS)
    for k in range(classes):
        _solve(factor, state.slope[c, k], slope)
        along = 0.0
        for d in range(DIMENSIONS):
            along += slope[d] * move[d]
        variance = _quadratic(state.spread[c], slope)
        if variance > 0.0:
            z = min(max(along / math.sqrt(variance / BLOCK) / 3.0, -1.0), 1.0)
            state.wealth[c, 2 * k] = min(state.wealth[c, 2 * k] * (1.0 + 0.8 * z), CAP)
            state.wealth[c, 2 * k + 1] = min(state.wealth[c, 2 * k + 1] * (1.0 - 0.8 * z), CAP)


@kernel
def _learn(c: int, classes: int, state: GradientState) -> None:
    """Let the block become part of the past."""
    gap = np.empty(DIMENSIONS, np.float32)
    for b in range(BLOCK):
        weight = np.float32(max(MEMORY, 1.0 / (state.past[c] + 1)))
        keep = np.float32(1.0) - weight
        for d in range(DIMENSIONS):
            gap[d] = np.float32(state.block[c, b, d]) / np.float32(UNITS) - state.mean[c, d]
            state.mean[c, d] += weight * gap[d]
        first = 0
        for d in range(DIMENSIONS):
            row, rest = state.spread[c, first : first + DIMENSIONS - d], gap[d:]
            for other in range(DIMENSIONS - d):
                row[other] = keep * (row[other] + weight * gap[d] * rest[other])
            first += DIMENSIONS - d
        for k in range(classes):
            rise = np.float32(state.answers[c, b, k]) / np.float32(1024.0) - state.level[c, k]
            state.level[c, k] += weight * rise
            slope = state.slope[c, k]
            for d in range(DIMENSIONS):
                slope[d] = keep * (slope[d] + weight * rise * gap[d])
        state.past[c] += 1
    state.inside[c] = 0
    state.turned[c] = 0.0


@kernel
def _place(row: int, column: int) -> int:
    """Return where the triangle holds an entry, row ≤ column."""
    return row * DIMENSIONS - row * (row - 1) // 2 + column - row


@kernel
def _quadratic(spread: F32, x: F64) -> float:
    """Return xᵀ · covariance · x."""
    total, place = 0.0, 0
    for d in range(DIMENSIONS):
        row = 0.5 * spread[place] * x[d]
        for other in range(d + 1, DIMENSIONS):
            row += spread[place + other - d] * x[other]
        total += 2.0 * x[d] * row
        place += DIMENSIONS - d
    return float(total)


@kernel
def _factorise(spread: F32, factor: F64) -> bool:
    """Factorise the covariance plus ridge (Cholesky); false where it has no spread at all."""
    trace = 0.0
    for d in range(DIMENSIONS):
        trace += spread[_place(d, d)]
    if trace <= 0.0:
        return False
    for row in range(DIMENSIONS):
        for column in range(row + 1):
            value = float(spread[_place(column, row)]) + (RIDGE * trace / DIMENSIONS if row == column else 0.0)
            for d in range(column):
                value -= factor[row, d] * factor[column, d]
            if row == column:
                if value <= 0.0:
                    return False
                factor[row, row] = math.sqrt(value)
            else:
                factor[row, column] = value / factor[column, column]
    return True


@kernel
def _solve(factor: F64, right: F32, out: F64) -> None:
    """Solve (covariance + ridge) · out = right with its factor."""
    for row in range(DIMENSIONS):
        value = float(right[row])
        for d in range(row):
            value -= factor[row, d] * out[d]
        out[row] = value / factor[row, row]
    for row in range(DIMENSIONS - 1, -1, -1):
        value = out[row]
        for d in range(row + 1, DIMENSIONS):
            value -= factor[d, row] * out[d]
        out[row] = value / factor[row, row]


DETECTOR = Gradient()
