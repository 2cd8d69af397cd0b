"""Novelty: fresh queries unlike anything benign clients ask this model.

A query is far when its nearest benign row is further than 95 % of benign rows are from another client's, both as it is
and after taking away the client's own mean shift (so that drift and another sensor do not count; up to twice the radius
of benign rows), and it is not merely near an own earlier query. Null: at most 30 % of such queries are far, or the path
goes on in its direction at least every second time (a sensor or a slider that left the usual range stays out a while).
Sees: random, synthetic and out-of-distribution queries (inversion from noise, data-free extraction). Cannot see:
genuine records. Fooled by: corrupted inputs, a new domain, LIME, synthetic load: never a verdict alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, References, Signal, View
from detector.events import F32, F64, I16, I32, I64, U8, InputLevel, OutputLevel
from detector.evidence import LIVE, multiply, open_start, pair_evidence
from detector.history import least
from detector.kernel import kernel
from detector.sketch import DIMENSIONS

BETS = np.array([0.45, 0.65, 0.9])
TURN_BETS = np.array([0.6, 0.7, 0.85])
MEMORY = 1 / 64  # weight of the newest query in the client's mean
OWN = 0.8  # queries that keep this distance (r0) from each other are no sensor's
SHIFT = 2.0  # shifts of the mean up to this many benign radii are harmless
SHARE = 1 / 32  # weight of the newest query in the running share


class NoveltyState(NamedTuple):
    """One row a client slot."""

    clock: I64  # [slots] queries bet on
    seen: I64  # [slots] fresh queries
    began: I32  # [slots, LIVE]
    fars: F64  # [slots, LIVE, 3]
    turns: F64  # [slots, LIVE, 3]
    mean: F64  # [slots, 32] of the client's queries, exponentially weighted
    share: F32  # [slots]
    degree: F32  # [slots] running mean of ln(distance / q95)


class Out(NamedTuple):
    """Columns [n] of the signals."""

    far: F32
    share: F32
    degree: F32


class Novelty:
    """See the module."""

    name = "novelty"
    version = 1
    need = Need(InputLevel.SKETCH, OutputLevel.NONE)
    signals = (
        Signal(
            "novelty.far", "log10 e-value", -200, 200, "fresh queries unlike benign ones, beyond a shift of the mean"
        ),
        Signal("novelty.share", "share", 0, 1, "running share of fresh queries unlike benign ones"),
        Signal(
            "novelty.degree", "ln", -20, 20, "running mean of the distance to benign queries over their 95 % quantile"
        ),
    )

    def state(self, capacity: int) -> NoveltyState:
        """Return state for that many clients."""
        return NoveltyState(
            clock=np.zeros(capacity, np.int64),
            seen=np.zeros(capacity, np.int64),
            began=np.zeros((capacity, LIVE), np.int32),
            fars=np.zeros((capacity, LIVE, len(BETS))),
            turns=np.zeros((capacity, LIVE, len(TURN_BETS))),
            mean=np.zeros((capacity, DIMENSIONS)),
            share=np.zeros(capacity, np.float32),
            degree=np.zeros(capacity, np.float32),
        )

    def observe(self, view: View, state: NoveltyState) -> Mapping[str, F32]:
        """Bet on every fresh query in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        _observe(view.slot, view.fresh, view.joined, view.cosine, view.sketch, view.reference, view.scales, state, out)
        return {f"novelty.{name}": getattr(out, name) for name in Out._fields}


@kernel
def _observe(
    slot: I64,
    fresh: U8,
    joined: F32,
    cosine: F32,
    sketch: I16,
    reference: I32,
    scales: References,
    state: NoveltyState,
    out: Out,
) -> None:
    squared = np.empty(scales.rows.shape[2], np.float32)
    x = np.empty(DIMENSIONS, np.float32)
    for i in range(len(slot)):
        c, m = slot[i], reference[i]
        if not fresh[i] or scales.row_count[m] == 0:
            continue
        weight = max(MEMORY, 1.0 / (state.seen[c] + 1))
        for k in range(DIMENSIONS):
            x[k] = np.float32(sketch[i, k])
            state.mean[c, k] += weight * (x[k] - state.mean[c, k])
        state.seen[c] += 1
        nearest = _nearest(scales.rows[m], scales.row_count[m], x, squared)
        far = nearest > scales.q95[m]
        own = joined[i] * scales.r0[m]
        if far and _take_shift(c, m, x, scales, state):
            shifted = _nearest(scales.rows[m], scales.row_count[m], x, squared)
            far = shifted > scales.q95[m]
            nearest = min(nearest, shifted)
        state.share[c] += SHARE * (far - state.share[c])
        out.share[i] = state.share[c]
        weight = max(SHARE, 1.0 / state.seen[c])
        state.degree[c] += weight * (np.log(max(nearest, 1.0) / scales.q95[m]) - state.degree[c])
        out.degree[i] = state.degree[c]
        if np.isnan(own) or own >= min(0.9 * nearest, OWN * scales.r0[m]):
            open_start(state.fars[c], state.turns[c], state.began[c], state.clock[c], len(BETS))
            multiply(state.fars[c], state.began[c], far, 0.3, BETS)
            if not np.isnan(cosine[i]):
                multiply(state.turns[c], state.began[c], cosine[i] < -0.2, 0.5, TURN_BETS)
            out.far[i] = pair_evidence(state.fars[c], state.turns[c], state.began[c], state.clock[c], len(BETS))
            state.clock[c] += 1


@kernel
def _take_shift(c: int, m: int, x: F32, scales: References, state: NoveltyState) -> bool:
    """Take the client's mean shift away from a query; false where it is too large for a tenant of its own."""
    total = 0.0
    for k in range(DIMENSIONS):
        shift = state.mean[c, k] - scales.mean[m, k]
        total += shift * shift
        x[k] -= np.float32(shift)
    return bool(total <= (SHIFT * scales.radius[m]) ** 2)


@kernel
def _nearest(rows: I16, count: int, x: F32, squared: F32) -> float:
    squared[:] = 0.0
    for k in range(DIMENSIONS):
        here = x[k]
        row = rows[k]
        for w in range(len(squared)):
            gap = np.float32(row[w]) - here
            squared[w] += gap * gap
    return float(np.sqrt(np.int32(least(squared.view(np.int32), count, 1, count)).view(np.float32)))


DETECTOR = Novelty()
