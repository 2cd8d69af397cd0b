"""Probing: a client asks around chosen records and watches the confidence.

threads      Tight clouds of near copies around records (noise, augmentation, boundary distance): queries join a tight
             thread more often than benign ones do, and jump back and forth in it.
runs         One input at least five times back to back, record after record: repeats against noisy answers.
bisection    Collinear steps of half the length, at least twice in a row: the search for a decision boundary.
coordinates  One feature changed at a time, another one each time (SimBA, ZOO, finite differences).
sweep        The same feature changed on record after record: attribute inference (Fredrikson 2014).

Null of each: such events are no more frequent than its p0, which follows the model's own benign rate.
Cannot see: one query a record; one-feature changes of inputs over 32 features (a sketch mixes them).
Fooled by: near-identical records sent densely (threads); noise on inputs, fairness audits (sweep); notebooks and
SHAP (coordinates); sliders that snap (bisection, runs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I16, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.evidence import LIVE, above, bernoulli, multiply, open_start, pair_evidence
from detector.kernel import kernel
from detector.sketch import DIMENSIONS

SHARES = np.array([0.15, 0.4, 0.8])
TURN_BETS = np.array([0.6, 0.75, 0.95])
RUN_BETS = np.array([0.4, 0.8])
HALF_BETS = np.array([0.08, 0.2, 0.5])
ONE_BETS = np.array([0.38, 0.66, 0.95])
LONG_RUN = 5
RUNS = 16  # records remembered as repeated before


class ProbingState(NamedTuple):
    """One row a client slot."""

    clock: I64  # [slots] fresh queries seen
    began: I32  # [slots, LIVE]
    joins: F64  # [slots, LIVE, 3]
    turns: F64  # [slots, LIVE, 3]
    turned: I64  # [slots] fresh queries with a cosine
    halves: F64  # [slots, 3]
    halved: U8  # [slots] 1 where the last step was half of the one before
    last_step: F32  # [slots]
    runs: F64  # [slots, 2]
    run_clock: I64  # [slots] complete runs
    run: I32  # [slots] length of the current run
    run_digest: U64  # [slots]
    repeated: U64  # [slots, 16]
    repeats: I32  # [slots]
    ones: F64  # [slots, 3]
    sweeps: F64  # [slots, 3]
    coordinate: I32  # [slots] the last feature changed alone + 1
    base: I16  # [slots, 32] the record of the last sweep pair


class Out(NamedTuple):
    """Columns [n] of the signals."""

    threads: F32
    runs: F32
    bisection: F32
    coordinates: F32
    sweep: F32


class Moves(NamedTuple):
    """Columns [n] of the view, and of the reference of each row's model."""

    slot: I64
    fresh: U8
    step: F32
    cosine: F32
    tight: F32
    tight_joined: U8
    run: I32
    coordinate: I32
    partners: I32
    sketch: I16
    digest: U64
    near_rate: F64
    coordinate_rate: F64
    width: I64


class Probing:
    """See the module."""

    name = "probing"
    version = 1
    need = Need(InputLevel.DIGEST, OutputLevel.NONE)
    signals = (
        Signal("probing.threads", "log10 e-value", -200, 200, "tight clouds of near copies around records"),
        Signal("probing.runs", "log10 e-value", -200, 200, "record after record repeated back to back"),
        Signal("probing.bisection", "log10 e-value", -200, 200, "collinear steps of half the length"),
        Signal("probing.coordinates", "log10 e-value", -200, 200, "one feature changed at a time, another each time"),
        Signal("probing.sweep", "log10 e-value", -200, 200, "the same feature changed on record after record"),
    )

    def state(self, capacity: int) -> ProbingState:
        """Return state for that many clients."""
        return ProbingState(
            clock=np.zeros(capacity, np.int64),
            began=np.zeros((capacity, LIVE), np.int32),
            joins=np.zeros((capacity, LIVE, len(SHARES))),
            turns=np.zeros((capacity, LIVE, len(TURN_BETS))),
            turned=np.zeros(capacity, np.int64),
            halves=np.zeros((capacity, len(HALF_BETS))),
            halved=np.zeros(capacity, np.uint8),
            last_step=np.zeros(capacity, np.float32),
            runs=np.zeros((capacity, len(RUN_BETS))),
            run_clock=np.zeros(capacity, np.int64),
            run=np.zeros(capacity, np.int32),
            run_digest=np.zeros(capacity, np.uint64),
            repeated=np.zeros((capacity, RUNS), np.uint64),
            repeats=np.zeros(capacity, np.int32),
            ones=np.zeros((capacity, len(ONE_BETS))),
            sweeps=np.zeros((capacity, len(SHARES))),
            coordinate=np.zeros(capacity, np.int32),
            base=np.zeros((capacity, DIMENSIONS), np.int16),
        )

    def observe(self, view: View, state: ProbingState) -> Mapping[str, F32]:
        """Bet on every event in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        scales, m = view.scales, view.reference
        moves = Moves(view.slot, view.fresh, view.step, view.cosine, view.tight, view.tight_joined, view.run,
                      view.coordinate, view.partners, view.sketch, view.batch.input_digest,
                      scales.near_rate[m], scales.coordinate_rate[m], scales.width[m])  # fmt: skip
        _observe(moves, state, out)
        return {f"probing.{name}": getattr(out, name) for name in Out._fields}


@kernel
def _observe(moves: Moves, state: ProbingState, out: Out) -> None:
    for i in range(len(moves.slot)):
        c = moves.slot[i]
        if moves.run[i]:
            out.runs[i] = _run(c, moves.run[i], moves.digest[i], state)
        if not moves.fresh[i]:
            continue
        out.threads[i] = _thread(i, c, moves, state)
        if not np.isnan(moves.cosine[i]):
            half = abs(moves.cosine[i]) > 0.97 and 0.42 <= moves.step[i] / state.last_step[c] <= 0.58
            again = half and state.halved[c] == 1  # one halved step happens to a slider that moves on
            out.bisection[i] = bernoulli(state.halves[c], state.turned[c], again, 0.03, HALF_BETS)
            state.halved[c] = half
            state.turned[c] += 1
        state.last_step[c] = moves.step[i]
        if 0 < moves.width[i] <= DIMENSIONS:
            _features(i, c, moves, state, out)
        state.clock[c] += 1


@kernel
def _thread(i: int, c: int, moves: Moves, state: ProbingState) -> float:
    p0 = max(0.05, min(2.5 * moves.near_rate[i], 0.9))
    open_start(state.joins[c], state.turns[c], state.began[c], state.clock[c], len(SHARES))
    multiply(state.joins[c], state.began[c], moves.tight_joined[i] == 1, p0, above(p0, SHARES))
    if not np.isnan(moves.tight[i]):
        multiply(state.turns[c], state.began[c], moves.tight[i] < -0.3, 0.45, TURN_BETS)
    return pair_evidence(state.joins[c], state.turns[c], state.began[c], state.clock[c], len(SHARES))


@kernel
def _run(c: int, run: int, digest: int, state: ProbingState) -> float:
    """Bet on a run when the next one begins: is it long, and its record not so repeated before?"""
    if run == 1 and state.run[c]:
        hit = state.run[c] >= LONG_RUN
        for k in range(RUNS):
            hit = hit and state.repeated[c, k] != state.run_digest[c]
        if hit:
            state.repeated[c, state.repeats[c] % RUNS] = state.run_digest[c]
            state.repeats[c] += 1
        value = bernoulli(state.runs[c], state.run_clock[c], hit, 0.2, RUN_BETS)
        state.run_clock[c] += 1
    else:
        value = np.nan
    state.run[c] = run
    state.run_digest[c] = digest
    return value


@kernel
def _features(i: int, c: int, moves: Moves, state: ProbingState, out: Out) -> None:
    """Bet on changes of one feature alone; where benign rows differ so too, the data are too coarse to tell."""
    j = moves.coordinate[i]
    if moves.coordinate_rate[i] < 0.02:
        other = j >= 0 and j + 1 != state.coordinate[c]
        out.coordinates[i] = bernoulli(state.ones[c], state.clock[c], other, 0.15, ONE_BETS)
    p0 = max(0.06, min(3.0 * moves.coordinate_rate[i], 0.9))
    swept = j >= 0 and moves.partners[i] == 1 and j + 1 == state.coordinate[c]
    if swept:
        apart = 0
        for k in range(moves.width[i]):
            apart += k != j and state.base[c, k] != moves.sketch[i, k]
        swept = apart >= max(2.0, 0.3 * moves.width[i])
    out.sweep[i] = bernoulli(state.sweeps[c], state.clock[c], swept, p0, above(p0, SHARES))
    if j >= 0:
        state.coordinate[c] = j + 1
        state.base[c] = moves.sketch[i]


DETECTOR = Probing()
