"""Steering: does the client choose its next query because of our last answers?

Whoever climbs goes on from what was answered best, so the earlier query nearest to the new one is one of the best
answered. But queries asked together share their habits, and what lies in a crowd is both near to many and answered
like a prototype. So the nearest query, itself asked near an earlier one, is ranked by its answer for every class among
those asked at most 16 before or after it that were asked near an earlier one, too; its own descendants do not count.
Its rank is a conformal p-value. The queries must also jump back and forth instead of drifting: a path keeps to its
newest points, whose answers may rise with it. The smaller of the two e-values counts.

Null: which of the queries asked together the new one is nearest to does not depend on their answers, or the path goes
on in its direction at least every second time.
Sees: hill climbing, populations, evolution strategies, boundary walks; drifts and regimes that change do not fool it.
Cannot see: answers that are the same for all queries, searches among many dummies, searches that never turn back.
Fooled by: samples drawn round one record with the densest answered best (augmentation, LIME).
Source: our measurement (docs/detection.md); conformal ranks after Vovk, Gammerman & Shafer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.answers import CLASSES, probability_of
from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I8, I16, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.evidence import (
    LIVE,
    TAIL_POWERS,
    multiply,
    open_start,
    pair_evidence,
    share,
    tail_bets,
    uniform,
)
from detector.kernel import in_place
from detector.ring import WINDOW

AROUND, FELLOWS = 16, 4  # queries before and after the chosen one that it is ranked among, and how many there must be
TURN_BETS = np.array([0.6, 0.7, 0.85])
BACK = -0.1  # a step turns back below this cosine; a walk without a direction does so less than every second time
TAILS = len(TAIL_POWERS)
NONE = np.iinfo(np.int16).min  # no score at this place of the ring: lower than any


class SteeringState(NamedTuple):
    """One row a client slot."""

    scores: I16  # [slots, 16, 256] of the fresh queries at their places in the history's ring
    best: F32  # [slots, 16] highest probability reached on each class on a query near an own earlier one
    clock: I64  # [slots] fresh queries that the test has seen
    began: I32  # [slots, LIVE]
    kin: I16  # [slots, 256] how many fresh queries before each its nearest was, 0 = none was near
    ranks: F32  # [slots, LIVE, 16 · 3] products of each of the rank bets on each class
    turns: F64  # [slots, LIVE, 3] products of the bets on turning back


class Moves(NamedTuple):
    """Columns [n] of the view that the kernel reads."""

    slot: I64
    fresh: U8
    cosine: F32
    joined: F32
    age: I32
    near: U8  # the nearest is nearer than benign rows are to each other (their 95 % quantile)
    number: I64
    path: U8
    classes: I64  # places in use
    answer: I16
    places: I64
    replaced: I8
    level: U8
    probability: U8
    key: U64


class Out(NamedTuple):
    """Columns [n] of the signals."""

    chosen: F32
    progress: F32
    target: F32


class Steering:
    """See the module."""

    name = "steering"
    version = 3
    need = Need(InputLevel.SKETCH, OutputLevel.LABEL)
    signals = (
        Signal(
            "steering.chosen", "log10 e-value", -200, 200, "of those asked together the best answered is gone on from"
        ),
        Signal("steering.progress", "probability", 0, 1, "highest confidence reached on the class climbed towards"),
        Signal("steering.target", "place", 0, 15, "the place of the class climbed towards among those followed"),
    )

    def state(self, capacity: int) -> SteeringState:
        """Return state for that many clients."""
        return SteeringState(
            scores=np.zeros((capacity, CLASSES, WINDOW), np.int16),
            best=np.zeros((capacity, CLASSES), np.float32),
            clock=np.zeros(capacity, np.int64),
            began=np.zeros((capacity, LIVE), np.int32),
            kin=np.zeros((capacity, WINDOW), np.int16),
            ranks=np.zeros((capacity, LIVE, CLASSES * TAILS), np.float32),
            turns=np.zeros((capacity, LIVE, len(TURN_BETS))),
        )

    def observe(self, view: View, state: SteeringState) -> Mapping[str, F32]:
        """Bet on every event in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        batch, scales = view.batch, view.scales
        moves = Moves(
            slot=view.slot,
            fresh=view.fresh,
            cosine=view.cosine,
            joined=view.joined,
            age=view.age,
            near=(view.joined * scales.r0[view.reference] < scales.q95[view.reference]).astype(np.uint8),
            number=view.number,
            path=view.path,
            classes=scales.classes[view.reference],
            answer=view.answer,
            places=view.places,
            replaced=view.replaced,
            level=batch.output_level,
            probability=scales.probability[view.reference],
            key=batch.client_key,
        )
        _observe(moves, state, np.ones(CLASSES * TAILS), out)
        return {f"steering.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _observe(moves: Moves, state: SteeringState, bets: F64, out: Out) -> None:
    for i in range(len(moves.slot)):
        c = moves.slot[i]
        if moves.replaced[i] >= 0:
            _forget(c, moves.replaced[i], state)
        if moves.number[i] == 1:
            state.scores[c, :, :] = NONE
        if not moves.fresh[i]:
            continue
        used = moves.level[i] > 0 and not np.isnan(moves.cosine[i])
        if used:
            _bet(i, moves, state, bets)
            event = state.clock[c]
            state.clock[c] += 1
            places = moves.classes[i]
            out.chosen[i] = pair_evidence(state.ranks[c], state.turns[c], state.began[c], event, places * TAILS)
            _reach(i, moves, state)
            if out.chosen[i] > 0.0:
                _aim(i, moves, state, out)
        _remember(i, used and not moves.path[i], moves, state)


@in_place
def _bet(i: int, moves: Moves, state: SteeringState, bets: F64) -> None:
    """Bet on one event: that it turns back, and on the rank of its nearest's score for each class."""
    c, places, age = moves.slot[i], moves.classes[i], int(moves.age[i])
    began = state.began[c]
    open_start(state.ranks[c], state.turns[c], began, state.clock[c], places * TAILS)
    multiply(state.turns[c], began, moves.cosine[i] < BACK, 0.5, TURN_BETS)
    fresh = moves.number[i] - 1
    if moves.path[i] or not moves.near[i] or state.kin[c, (fresh - age) % WINDOW] == 0:
        return
    tie = uniform(moves.key[i], moves.number[i], 0)
    bets[:] = 1.0
    for k in range(places):
        score = state.scores[c, k, (fresh - age) % WINDOW]
        if score != NONE:
            above, below, known = _around(state.scores[c, k], state.kin[c], score, fresh, age)
            if known > FELLOWS:
                tail_bets(max(above + (known - above - below) * tie, 1e-3) / known, bets, k * TAILS)
    for m in range(LIVE):
        if began[m]:
            share(state.ranks[c], m, bets, places * TAILS)


@in_place
def _around(scores: I16, kin: I16, score: np.int16, fresh: int, age: int) -> tuple[int, int, int]:
    """Count the scores around that of this age, above and below it, and all of them with itself."""
    above, below, known = 0, 0, 1
    for other in range(max(age - AROUND, 1), min(age + AROUND, fresh, WINDOW) + 1):
        w = (fresh - other) % WINDOW
        if other == age or scores[w] == NONE or kin[w] == 0 or (other < age and other + kin[w] == age):
            continue
        above += scores[w] > score
        below += scores[w] < score
        known += 1
    return above, below, known


@in_place
def _remember(i: int, used: bool, moves: Moves, state: SteeringState) -> None:
    """Put the scores at the query's place of the ring; the place of one that is not used holds none."""
    c, place = moves.slot[i], (moves.number[i] - 1) % WINDOW
    state.kin[c, place] = moves.age[i] if moves.near[i] else 0
    for k in range(moves.classes[i]):
        known = used and moves.places[i, k] >= 0
        state.scores[c, k, place] = moves.answer[i, k] if known else NONE


@in_place
def _forget(c: int, place: int, state: SteeringState) -> None:
    """Begin anew at a place that changed hands: the bets on the class that had it are lost until the next start."""
    state.best[c, place] = 0.0
    if state.clock[c] > 0:
        state.scores[c, place, :] = NONE
        state.ranks[c, :, place * TAILS : (place + 1) * TAILS] = 0.0


@in_place
def _reach(i: int, moves: Moves, state: SteeringState) -> None:
    """Remember the highest probability reached on each class near an own earlier query."""
    if moves.level[i] < 2 or not moves.probability[i] or not moves.joined[i] < 2.0:
        return
    for k in range(moves.classes[i]):
        reached = probability_of(moves.answer[i, k])
        state.best[moves.slot[i], k] = max(state.best[moves.slot[i], k], reached)


@in_place
def _aim(i: int, moves: Moves, state: SteeringState, out: Out) -> None:
    """Name the class whose bets are worth most, and how far it got."""
    c = moves.slot[i]
    most, aim = -1.0, -1
    for k in range(moves.classes[i]):
        if moves.places[i, k] < 0:
            continue
        worth = 0.0
        for m in range(LIVE):
            for j in range(k * TAILS, (k + 1) * TAILS):
                worth += state.ranks[c, m, j] * (state.began[c, m] > 0)
        if worth > most:
            most, aim = worth, k
    if aim >= 0:
        out.target[i] = aim
        out.progress[i] = state.best[c, aim]


DETECTOR = Steering()
