"""Probing: a client asks around chosen records and watches the confidence.

threads      Tight clouds of near copies around records (noise, augmentation, boundary distance): queries join a tight
             thread more often than benign ones do, and jump back and forth in it.
runs         One input at least five times back to back, record after record: repeats against noisy answers.
bisection    Collinear steps of half the length, at least twice in a row: the search for a decision boundary.

Null of each: such events are no more frequent than its p0, which follows the model's own benign rate.
Cannot see: one query a record. Fooled by: near-identical records sent densely (threads); sliders that snap (bisection,
runs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.evidence import LIVE, bernoulli, multiply, open_start, pair_evidence
from detector.kernel import in_place

SHARES = np.array([0.15, 0.4, 0.8])
TURN_BETS = np.array([0.6, 0.75, 0.95])
RUN_BETS = np.array([0.4, 0.8])
HALF_BETS = np.array([0.08, 0.2, 0.5])
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


class Out(NamedTuple):
    """Columns [n] of the signals."""

    threads: F32
    runs: F32
    bisection: F32


class Moves(NamedTuple):
    """Columns [n] of the view, and of the reference of each row's model."""

    slot: I64
    fresh: U8
    step: F32
    cosine: F32
    tight: F32
    tight_joined: U8
    run: I32
    digest: U64
    near_rate: F64


class Probing:
    """See the module."""

    name = "probing"
    version = 1
    need = Need(InputLevel.DIGEST, OutputLevel.NONE)
    signals = (
        Signal("probing.threads", "log10 e-value", -200, 200, "tight clouds of near copies around records"),
        Signal("probing.runs", "log10 e-value", -200, 200, "record after record repeated back to back"),
        Signal("probing.bisection", "log10 e-value", -200, 200, "collinear steps of half the length"),
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
        )

    def observe(self, view: View, state: ProbingState) -> Mapping[str, F32]:
        """Bet on every event in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        scales, m = view.scales, view.reference
        moves = Moves(view.slot, view.fresh, view.step, view.cosine, view.tight, view.tight_joined, view.run,
                      view.batch.input_digest, scales.near_rate[m])  # fmt: skip
        _observe(moves, state, np.empty(len(SHARES)), out)
        return {f"probing.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _observe(moves: Moves, state: ProbingState, bets: F64, out: Out) -> None:
    for i in range(len(moves.slot)):
        c = moves.slot[i]
        if moves.run[i]:
            out.runs[i] = _run(c, moves.run[i], moves.digest[i], state)
        if not moves.fresh[i]:
            continue
        out.threads[i] = _thread(i, c, moves, state, bets)
        if not np.isnan(moves.cosine[i]):
            half = abs(moves.cosine[i]) > 0.97 and 0.42 <= moves.step[i] / state.last_step[c] <= 0.58
            again = half and state.halved[c] == 1  # one halved step happens to a slider that moves on
            out.bisection[i] = bernoulli(state.halves[c], state.turned[c], again, 0.03, HALF_BETS)
            state.halved[c] = half
            state.turned[c] += 1
        state.last_step[c] = moves.step[i]
        state.clock[c] += 1


@in_place
def _thread(i: int, c: int, moves: Moves, state: ProbingState, bets: F64) -> float:
    p0 = max(0.05, min(2.5 * moves.near_rate[i], 0.9))
    open_start(state.joins[c], state.turns[c], state.began[c], state.clock[c], len(SHARES))
    for j in range(len(SHARES)):
        bets[j] = p0 + (1.0 - p0) * SHARES[j]
    multiply(state.joins[c], state.began[c], moves.tight_joined[i] == 1, p0, bets)
    if not np.isnan(moves.tight[i]):
        multiply(state.turns[c], state.began[c], moves.tight[i] < -0.3, 0.45, TURN_BETS)
    return pair_evidence(state.joins[c], state.turns[c], state.began[c], state.clock[c], len(SHARES))


@in_place
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


DETECTOR = Probing()
