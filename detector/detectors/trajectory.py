"""Trajectory: raw measures of a client's queries that an analyst can check and rules can ask for; no evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, I64, U8, InputLevel, OutputLevel
from detector.kernel import kernel

SHARE = 1 / 32  # weight of the newest query in running shares


class TrajectoryState(NamedTuple):
    """One row a client slot."""

    local: F32  # [slots] running share of queries near an own earlier one
    certainty: F32  # [slots] running mean of the top-1 confidence


class Out(NamedTuple):
    """Columns [n] of the signals."""

    local: F32
    certainty: F32


class Trajectory:
    """See the module."""

    name = "trajectory"
    version = 1
    need = Need(InputLevel.NONE, OutputLevel.NONE)
    signals = (
        Signal("trajectory.queries", "queries", 0, 1e12, "queries of the client to the model so far"),
        Signal("trajectory.local", "share", 0, 1, "running share of queries within 0.8 r0 of an own earlier one"),
        Signal("trajectory.certainty", "probability", 0, 1, "running mean of the answers' top-1 confidence"),
    )

    def state(self, capacity: int) -> TrajectoryState:
        """Return state for that many clients."""
        return TrajectoryState(np.zeros(capacity, np.float32), np.zeros(capacity, np.float32))

    def observe(self, view: View, state: TrajectoryState) -> Mapping[str, F32]:
        """Update the running measures."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        _observe(view.slot, view.fresh, view.joined, view.batch.confidence, state, out)
        own = {f"trajectory.{name}": getattr(out, name) for name in Out._fields}
        return {"trajectory.queries": view.queries.astype(np.float32), **own}


@kernel
def _observe(slot: I64, fresh: U8, joined: F32, confidence: F32, state: TrajectoryState, out: Out) -> None:
    for i in range(len(slot)):
        c = slot[i]
        if fresh[i]:
            state.local[c] += SHARE * ((joined[i] < 0.8) - state.local[c])
        if 0.0 <= confidence[i] <= 1.0:  # a log may hold margins instead
            state.certainty[c] += SHARE * (confidence[i] - state.certainty[c])
        out.local[i] = state.local[c]
        out.certainty[i] = state.certainty[c]


DETECTOR = Trajectory()
