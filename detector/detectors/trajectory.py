"""Trajectory: raw measures of a client's queries that an analyst can check and rules can ask for; no evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, I32, I64, U8, InputLevel, OutputLevel
from detector.kernel import in_place
from detector.ring import WINDOW

SHARE = 1 / 32  # weight of the newest query in running shares


class TrajectoryState(NamedTuple):
    """One row a client slot."""

    local: F32  # [slots] running share of queries near an own earlier one
    certainty: F32  # [slots] running mean of the top-1 confidence
    rise: F32  # [slots] running mean of the confidence gained since the thread's first query
    wander: F32  # [slots] running mean of the distance from it
    risen: I64  # [slots] queries that rise has seen
    wandered: I64  # [slots] queries that wander has seen
    flips: F32  # [slots] running share of thread queries answered otherwise than the one before
    began: U8  # [slots, 256] confidence of fresh queries by number, × 254, + 1; 0 = none
    founder: I32  # [slots] thread of the newest fresh query
    label: I64  # [slots] its answer


class Out(NamedTuple):
    """Columns [n] of the signals."""

    local: F32
    certainty: F32
    rise: F32
    wander: F32
    flips: F32


class Trajectory:
    """See the module."""

    name = "trajectory"
    version = 1
    need = Need(InputLevel.NONE, OutputLevel.NONE)
    signals = (
        Signal("trajectory.queries", "queries", 0, 1e12, "queries of the client to the model so far"),
        Signal("trajectory.local", "share", 0, 1, "running share of queries within 0.8 r0 of an own earlier one"),
        Signal("trajectory.certainty", "probability", 0, 1, "running mean of the answers' top-1 confidence"),
        Signal(
            "trajectory.rise", "probability", -1, 1, "running mean of confidence gained since a thread's first query"
        ),
        Signal("trajectory.wander", "r0", 0, 1e6, "running mean of the distance from a thread's first query"),
        Signal("trajectory.flips", "share", 0, 1, "running share of steps inside a thread that change the answer"),
    )

    def state(self, capacity: int) -> TrajectoryState:
        """Return state for that many clients."""
        local, certainty, rise, wander, flips = np.zeros((5, capacity), np.float32)
        return TrajectoryState(
            local=local,
            certainty=certainty,
            rise=rise,
            wander=wander,
            risen=np.zeros(capacity, np.int64),
            wandered=np.zeros(capacity, np.int64),
            flips=flips,
            began=np.zeros((capacity, WINDOW), np.uint8),
            founder=np.zeros(capacity, np.int32),
            label=np.zeros(capacity, np.int64),
        )

    def observe(self, view: View, state: TrajectoryState) -> Mapping[str, F32]:
        """Update the running measures."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        moves = Moves(
            view.slot, view.joined, view.number, view.origin, view.founder, view.batch.confidence, view.batch.label_key
        )
        _observe(moves, state, out)
        own = {f"trajectory.{name}": getattr(out, name) for name in Out._fields}
        return {"trajectory.queries": view.queries.astype(np.float32), **own}


class Moves(NamedTuple):
    """Columns [n] of the view that the kernel reads."""

    slot: I64
    joined: F32
    number: I64
    origin: F32
    founder: I32
    confidence: F32
    label: I64


@in_place
def _observe(moves: Moves, state: TrajectoryState, out: Out) -> None:
    for i in range(len(moves.slot)):
        c, confidence = moves.slot[i], moves.confidence[i]
        certain = 0.0 <= confidence <= 1.0  # a log may hold margins instead
        if certain:
            state.certainty[c] += SHARE * (confidence - state.certainty[c])
        if moves.number[i]:
            state.local[c] += SHARE * ((moves.joined[i] < 0.8) - state.local[c])
            _inside(i, certain, moves, state)
        out.local[i] = state.local[c]
        out.certainty[i] = state.certainty[c]
        out.rise[i] = state.rise[c] if state.risen[c] else np.nan
        out.wander[i] = state.wander[c] if state.wandered[c] else np.nan
        out.flips[i] = state.flips[c]


@in_place
def _inside(i: int, certain: bool, moves: Moves, state: TrajectoryState) -> None:
    """Measure a fresh query against its thread: the first query of it, and the one before."""
    c, number, founder = moves.slot[i], moves.number[i], moves.founder[i]
    state.began[c, (number - 1) % WINDOW] = int(moves.confidence[i] * 254) + 1 if certain else 0
    first = (state.began[c, (founder - 1) % WINDOW] - 1) / 254
    if certain and number - WINDOW < founder < number and first >= 0.0:
        state.risen[c] += 1
        state.rise[c] += max(SHARE, 1 / state.risen[c]) * (moves.confidence[i] - first - state.rise[c])
    if not np.isnan(moves.origin[i]):
        state.wandered[c] += 1
        state.wander[c] += max(SHARE, 1 / state.wandered[c]) * (moves.origin[i] - state.wander[c])
    if founder == state.founder[c] and moves.label[i] >= 0:
        state.flips[c] += SHARE * ((moves.label[i] != state.label[c]) - state.flips[c])
    state.founder[c] = founder
    state.label[c] = moves.label[i]


DETECTOR = Trajectory()
