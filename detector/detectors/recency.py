"""Recency: does each new query descend from one of the latest?

Who optimises goes on from where the search stands: the nearest earlier query is a recent one. Whoever draws records
in any fixed way, however narrow or crowded, has nearest neighbours of every age. The age of the nearest among the m
remembered queries is a conformal p-value, age / m; it is bet on where that neighbour is nearer than benign ones are
to each other (their 95 % quantile). Records come in blocks, too: copies of one after the other, habits that change.
They are exchangeable inside a block only, so for a query that joins a chain of near ones, m counts from where the
narrowest such chain began (radii: 5, 20 and 50 % of how near benign rows are to each other). Paths (sensors, video,
sliders) have recent neighbours too, so the queries must also turn back (cosine below −0.1) more often than not: the
smaller of the two e-values counts.

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


class Recency:
    """See the module."""

    name = "recency"
    version = 2
    need = Need(InputLevel.SKETCH, OutputLevel.NONE)
    signals = (
        Signal("recency.nearest", "log10 e-value", -200, 200, "queries keep starting from the latest, back and forth"),
    )

    def state(self, capacity: int) -> RecencyState:
        """Return state for that many clients."""
        return RecencyState(
            clock=np.zeros(capacity, np.int64),
            began=np.zeros((capacity, LIVE), np.int32),
            ages=np.zeros((capacity, LIVE, len(POWERS))),
            turns=np.zeros((capacity, LIVE, len(TURN_BETS))),
        )

    def observe(self, view: View, state: RecencyState) -> Mapping[str, F32]:
        """Bet on every fresh query in order."""
        out = np.full(len(view.slot), np.nan, np.float32)
        scales, m = view.scales, view.reference
        near = (view.joined * scales.r0[m] < scales.q95[m]).astype(np.uint8)
        _observe(view.slot, view.cosine, view.age, view.span, near, state, out)
        return {"recency.nearest": out}


@in_place
def _observe(slot: I64, cosine: F32, age: I32, span: I32, near: U8, state: RecencyState, out: F32) -> None:
    for i in range(len(slot)):
        if np.isnan(cosine[i]):
            continue
        c = slot[i]
        ages, turns, began = state.ages[c], state.turns[c], state.began[c]
        open_start(ages, turns, began, state.clock[c], len(POWERS))
        if near[i] and span[i] >= LEAST:
            for j in range(len(POWERS)):
                e = POWERS[j] * (age[i] / span[i]) ** (POWERS[j] - 1.0)
                for start in range(LIVE):
                    if began[start]:
                        ages[start, j] = min(ages[start, j] * e, CAP)
        multiply(turns, began, cosine[i] < BACK, 0.5, TURN_BETS)
        out[i] = pair_evidence(ages, turns, began, state.clock[c], len(POWERS))
        state.clock[c] += 1


DETECTOR = Recency()
