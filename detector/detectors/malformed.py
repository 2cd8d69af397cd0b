"""Malformed traffic: far more calls that the model cannot read than its other clients send.

Malformed is what was refused as such (400 to 499, but for access, time-outs and rate limits), what held no numbers, and
a vector of another width than the model's. Null: a call is malformed with a chance of at most p0, three times the usual
share of the model's clients and at least 5 %, whatever came before. Sees somebody who feels for the form of the input,
or whether faults give anything away. Cannot see records that could not become events at all: those are dead letters,
counted by reason and not by client. Fooled by: a client with a bug, a new version of a model's interface: rules grade
it low.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I64, U8, InputLevel, OutputLevel
from detector.evidence import bernoulli_above
from detector.kernel import in_place
from detector.malformed import malformed

LEAST, TIMES = 0.05, 3.0
SHARES = np.array([0.15, 0.4, 0.8])
SHARE = 1 / 32  # weight of the newest call in the running share


class MalformedState(NamedTuple):
    """One row a client slot."""

    clock: I64  # [slots] calls
    wealth: F64  # [slots, 3]
    share: F32  # [slots]


class Out(NamedTuple):
    """Columns [n] of the signals."""

    calls: F32
    share: F32


class Malformed:
    """See the module."""

    name = "malformed"
    version = 1
    need = Need(InputLevel.NONE, OutputLevel.NONE)
    signals = (
        Signal("malformed.calls", "log10 e-value", -200, 200, "more malformed calls than the model's clients send"),
        Signal("malformed.share", "share", 0, 1, "running share of malformed calls"),
    )

    def state(self, capacity: int) -> MalformedState:
        """Return state for that many clients."""
        return MalformedState(
            clock=np.zeros(capacity, np.int64),
            wealth=np.zeros((capacity, len(SHARES))),
            share=np.zeros(capacity, np.float32),
        )

    def observe(self, view: View, state: MalformedState) -> Mapping[str, F32]:
        """Bet on every call in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        scales, m = view.scales, view.reference
        bad = malformed(view.batch, scales.input_width[m])
        _observe(view.slot, bad, scales.malformed_rate[m], state, out)
        return {f"malformed.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _observe(slot: I64, bad: U8, rate: F64, state: MalformedState, out: Out) -> None:
    for i in range(len(slot)):
        c = slot[i]
        p0 = min(max(LEAST, TIMES * rate[i]), 0.9)
        out.calls[i] = bernoulli_above(state.wealth[c], state.clock[c], bad[i] == 1, p0, SHARES)
        state.share[c] += SHARE * (bad[i] - state.share[c])
        out.share[i] = state.share[c]
        state.clock[c] += 1


DETECTOR = Malformed()
