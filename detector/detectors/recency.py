"""Recency: does each new query descend from one of the latest?

Who optimises goes on from where the search stands: the nearest earlier query is a recent one. Whoever draws records
in any fixed way, however narrow or crowded, has nearest neighbours of every age. The age of the nearest among the m
remembered queries is a conformal p-value, age / m; it is bet on where that neighbour is nearer than benign ones are
to each other (their 95 % quantile). Records come in blocks, too: copies of one after the other, habits that change.
They are exchangeable inside a block only, so for a query that joins a chain of near ones, m counts from where the
narrowest such chain began (radii: 5, 20 and 50 % of how near benign rows are to each other). Paths (sensors, video,
sliders) have recent neighbours too, so the queries must also turn back (cosine below −0.1) more often than not: the
smaller of the two e-values counts. That is `nearest`. In `whole` m counts all that are remembered: changing habits fool
it, a crowd does not, so it is no more than a second witness for tests that crowds fool (steering).

Null: the order of the client's queries is exchangeable, or they go on in their direction at least every second time.
Sees: hill climbing, populations, gradient estimates, boundary walks, noise copies, also between four dummies of five:
a dummy's neighbour is of any age. Needs no answers. Cannot see: searches wider than the reference; repeats; much of
a search that narrows, where a chain begins with every narrower radius. Fooled by: fast drifts, records in a sorted
order, explainers that walk from one record to another (`explainer.parts` tells most of them).
Source: our measurement (docs/detection.md); conformal ranks after Vovk, Gammerman & Shafer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I32, I64, U8, InputLevel, OutputLevel
from detector.evidence import CAP, LIVE, multiply, open_start, pair_evidence
from detector.kernel import in_place
from detector.ring import WINDOW

LEAST = 16  # queries remembered before an age means something
BACK = -0.1  # a step turns back below this cosine; a walk without a direction does so less than every second time
TURN_BETS = np.array([0.6, 0.7, 0.85])
POWERS = np.array([0.2, 0.5, 0.8])  # bets k·p^(k−1), each with its own wealth


class RecencyState(NamedTuple):
    """One row a client slot."""

    clock: I64  # [slots] fresh queries with a cosine
    began: I32  # [slots, LIVE]
    ages: F64  # [slots, LIVE, 3]
    turns: F64  # [slots, LIVE, 3]
    whole_began: I32  # [slots, LIVE] the same of `whole`
    whole_ages: F64  # [slots, LIVE, 3]
    whole_turns: F64  # [slots, LIVE, 3]


class Recency:
    """See the module."""

    name = "recency"
    version = 2
    need = Need(InputLevel.SKETCH, OutputLevel.NONE)
    signals = (
        Signal("recency.nearest", "log10 e-value", -200, 200, "queries keep starting from the latest, back and forth"),
        Signal(
            "recency.whole", "log10 e-value", -200, 200, "the same among all remembered; changing habits count, too"
        ),
    )

    def state(self, capacity: int) -> RecencyState:
        """Return state for that many clients."""
        return RecencyState(
            clock=np.zeros(capacity, np.int64),
            began=np.zeros((capacity, LIVE), np.int32),
            ages=np.zeros((capacity, LIVE, len(POWERS))),
            turns=np.zeros((capacity, LIVE, len(TURN_BETS))),
            whole_began=np.zeros((capacity, LIVE), np.int32),
            whole_ages=np.zeros((capacity, LIVE, len(POWERS))),
            whole_turns=np.zeros((capacity, LIVE, len(TURN_BETS))),
        )

    def observe(self, view: View, state: RecencyState) -> Mapping[str, F32]:
        """Bet on every fresh query in order."""
        nearest, whole = np.full((2, len(view.slot)), np.nan, np.float32)
        scales, m = view.scales, view.reference
        near = (view.joined * scales.r0[m] < scales.q95[m]).astype(np.uint8)
        _observe(view.slot, view.cosine, view.age, view.span, view.number, near, state, nearest, whole)
        return {"recency.nearest": nearest, "recency.whole": whole}


@in_place
def _observe(
    slot: I64, cosine: F32, age: I32, span: I32, number: I64, near: U8, state: RecencyState, nearest: F32, whole: F32
) -> None:
    for i in range(len(slot)):
        if np.isnan(cosine[i]):
            continue
        c = slot[i]
        clock, turned = state.clock[c], cosine[i] < BACK
        among = span[i] if near[i] else 0
        nearest[i] = _bet(state.ages[c], state.turns[c], state.began[c], clock, age[i], among, turned)
        among = min(number[i] - 1, WINDOW) if near[i] else 0
        whole[i] = _bet(state.whole_ages[c], state.whole_turns[c], state.whole_began[c], clock, age[i], among, turned)
        state.clock[c] += 1


@in_place
def _bet(ages: F64, turns: F64, began: I32, clock: int, age: int, among: int, turned: bool) -> float:
    """Bet on one event; return the evidence after it."""
    open_start(ages, turns, began, clock, len(POWERS))
    if among >= LEAST:
        for j in range(len(POWERS)):
            e = POWERS[j] * (age / among) ** (POWERS[j] - 1.0)
            for start in range(LIVE):
                if began[start]:
                    ages[start, j] = min(ages[start, j] * e, CAP)
    multiply(turns, began, turned, 0.5, TURN_BETS)
    return pair_evidence(ages, turns, began, clock, len(POWERS))


DETECTOR = Recency()
