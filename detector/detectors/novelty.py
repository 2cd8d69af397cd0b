"""Novelty: queries that somebody made up, feature by feature or from another domain.

A query is *made* when its values are unusual one by one and do not depend on each other as those of benign rows do
(genuine.py). Both are asked of the query as it is and after taking away the client's own mean shift: the answer that
accuses less counts, so that drift, another site or a constant fault do not. A query within 0.8 r0 of an own earlier one
says nothing new (sensors, sliders, video, copies).

Null: at most an eighth of a client's distinct queries are made, whatever came before. Sees random and generated inputs,
data-free extraction, active learning far from the data, inputs of another domain, inversion from noise. Cannot see
genuine records or blends of them, values drawn one by one from benign ones, steps of a tenth of the range from genuine
records. Fooled by: load tests with synthetic inputs (the same act; only repetition tells), strong noise on
inputs, explainers that sample widely (LIME), random faults in many features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I16, I32, I64, U8, InputLevel, OutputLevel
from detector.evidence import bernoulli
from detector.genuine import BINS, LEAST_ENERGY, ROBUST
from detector.kernel import in_place
from detector.sketch import CLIP, DIMENSIONS

MADE, BETS = 0.125, np.array([0.2, 0.4, 0.85])
MEMORY = 1 / 64  # weight of the newest query in the client's means
OWN = 0.8  # r0 within which a query is a variant of an own earlier one
SHARE = 1 / 32  # weight of the newest query in the running share


class NoveltyState(NamedTuple):
    """One row a client slot."""

    clock: I64  # [slots] queries bet on
    seen: I64  # [slots] fresh queries
    mean: F32  # [slots, 32] of the client's sketches, exponentially weighted
    values: F32  # [slots, 32] the same of the features that are followed by themselves
    made: F64  # [slots, 3]
    share: F32  # [slots]
    inputs: I64  # [slots]


class Out(NamedTuple):
    """Columns [n] of the signals."""

    made: F32
    share: F32
    inputs: F32


class Moves(NamedTuple):
    """Columns [n] of the view that the kernel reads."""

    slot: I64
    fresh: U8
    joined: F32
    sketch: I16
    reference: I32
    input: F32  # all vectors, one after the other
    offsets: I64


class Known(NamedTuple):
    """What the kernel reads of `References`: a tuple of many arrays costs time wherever it is handed on."""

    feature: I32
    feature_center: F32
    feature_scale: F32
    bin_low: F32
    bin_scale: F32
    surprise: F32
    value_mean: F32
    unusual: F64
    inverse_sd: F32
    precision: F32
    dependence: F64


class Novelty:
    """See the module."""

    name = "novelty"
    version = 2
    need = Need(InputLevel.SKETCH, OutputLevel.NONE)
    signals = (
        Signal("novelty.made", "log10 e-value", -200, 200, "more than an eighth of the distinct queries were made up"),
        Signal("novelty.share", "share", 0, 1, "running share of distinct queries that were made up"),
        Signal("novelty.inputs", "queries", 0, 1e12, "distinct queries that were made up, so far"),
    )

    def state(self, capacity: int) -> NoveltyState:
        """Return state for that many clients."""
        return NoveltyState(
            clock=np.zeros(capacity, np.int64),
            seen=np.zeros(capacity, np.int64),
            mean=np.zeros((capacity, DIMENSIONS), np.float32),
            values=np.zeros((capacity, DIMENSIONS), np.float32),
            made=np.zeros((capacity, len(BETS))),
            share=np.zeros(capacity, np.float32),
            inputs=np.zeros(capacity, np.int64),
        )

    def observe(self, view: View, state: NoveltyState) -> Mapping[str, F32]:
        """Bet on every distinct query in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        batch = view.batch
        moves = Moves(view.slot, view.fresh, view.joined, view.sketch, view.reference, batch.input.values,
                      batch.input.offsets)  # fmt: skip
        room = np.empty((4, DIMENSIONS), np.float32)
        _observe(moves, Known(*(getattr(view.scales, name) for name in Known._fields)), state, room, out)
        return {f"novelty.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _observe(moves: Moves, known: Known, state: NoveltyState, room: F32, out: Out) -> None:
    x, values, shifted, z = room[0], room[1], room[2], room[3]
    for i in range(len(moves.slot)):
        c, m = moves.slot[i], moves.reference[i]
        if not moves.fresh[i] or not np.isfinite(known.unusual[m] + known.dependence[m]):
            continue
        _read(i, m, moves, known, x, values)
        state.seen[c] += 1
        weight = np.float32(max(MEMORY, 1.0 / state.seen[c]))
        for k in range(DIMENSIONS):
            state.mean[c, k] += weight * (x[k] - state.mean[c, k])
            state.values[c, k] += weight * (values[k] - state.values[c, k])
        if moves.joined[i] < OWN:
            continue
        made = _surprise(m, values, known) > known.unusual[m]
        if made:  # seldom so: the rest is not even asked
            for k in range(DIMENSIONS):
                shifted[k] = values[k] - (state.values[c, k] - known.value_mean[m, k])
            made = _surprise(m, shifted, known) > known.unusual[m]
            made = made and _dependence(m, x, state.mean[c], known, z) > known.dependence[m]
        state.inputs[c] += made
        state.share[c] += SHARE * (made - state.share[c])
        out.made[i] = bernoulli(state.made[c], state.clock[c], made, MADE, BETS)
        out.share[i] = state.share[c]
        out.inputs[i] = state.inputs[c]
        state.clock[c] += 1


@in_place
def _read(i: int, m: int, moves: Moves, known: Known, x: F32, values: F32) -> None:
    """Write the sketch of row i, and the values of the features that its model follows by themselves."""
    start = moves.offsets[i]
    for k in range(DIMENSIONS):
        x[k] = np.float32(moves.sketch[i, k])
        j = known.feature[m, k]
        values[k] = x[k]
        if j >= 0:
            value = (moves.input[start + j] - known.feature_center[m, k]) * known.feature_scale[m, k]
            values[k] = np.rint(min(max(value, np.float32(-CLIP)), np.float32(CLIP)))


@in_place
def _surprise(m: int, values: F32, known: Known) -> float:
    """Return the mean of ln(uniform / benign) over the features."""
    total = 0.0
    for k in range(DIMENSIONS):
        place = (values[k] - known.bin_low[m, k]) * known.bin_scale[m, k]
        if place < 0.0:
            b = 0
        elif place > BINS:
            b = BINS + 1
        else:
            b = min(int(place), BINS - 1) + 1
        total += known.surprise[m, k, b]
    return total


@in_place
def _dependence(m: int, x: F32, mean: F32, known: Known, z: F32) -> float:
    """Return z'Pz / z'z of a query seen from its client's own mean, z in clipped standard deviations."""
    least, own, whole = 0.0, 0.0, 0.0
    for k in range(DIMENSIONS):
        value = (x[k] - mean[k]) * known.inverse_sd[m, k]
        z[k] = min(max(value, np.float32(-ROBUST)), np.float32(ROBUST))
        least += LEAST_ENERGY * (known.inverse_sd[m, k] > 0.0)
        own += z[k] * z[k]
    for k in range(DIMENSIONS):
        row = np.float32(0.0)
        for j in range(DIMENSIONS):
            row += known.precision[m, k, j] * z[j]
        whole += z[k] * row
    return float(whole / max(own, least))


DETECTOR = Novelty()
