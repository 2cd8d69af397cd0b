"""Steering: does the client choose its next query because of our last answers?

parent        The earlier query nearest to the new one, but for the newest, is one of those with the best answers for
              some class (a conformal bet on its rank among the last 256, or those since the
              query's chain of near copies began), *and* the queries jump back and forth instead
              of drifting. Whoever climbs starts from the best point so far; whoever samples round a mean moves the mean
              there. The smaller of the two counts: a path keeps to its newest points, whose scores may rise with it;
              an ordinary client jumps, but next to good and bad answers alike.

Null: which earlier query the new one is nearest to does not depend on their scores, or the path goes on in its
direction at least every second time.
Sees: hill climbing, populations, evolution strategies, finite differences, boundary walks. Cannot see: searches between
many dummies of the class aimed at; answers that are the same for all queries. Fooled by: batches sorted by score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.answers import CLASSES, probability_of
from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I8, I16, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.evidence import LIVE, multiply, open_start, pair_evidence, power_bet, share, uniform
from detector.history import WINDOW
from detector.kernel import kernel

LEAST = 8  # scores needed before a rank means something
TURN_BETS = np.array([0.6, 0.7, 0.85])
BACK = -0.1  # a step turns back below this cosine; a walk without a direction does so less than every second time
NONE = np.iinfo(np.int16).min  # no score at this place of the ring: lower than any


class SteeringState(NamedTuple):
    """One row a client slot."""

    scores: I16  # [slots, 16, 256] of the fresh queries at their places in the history's ring
    best: F32  # [slots, 16] highest probability reached on each class on a query near an own earlier one
    clock: I64  # [slots] fresh queries that the test has seen
    began: I32  # [slots, LIVE]
    ranks: F32  # [slots, LIVE, 16] products of the rank bets for each class
    turns: F64  # [slots, LIVE, 3] products of the bets on turning back


class Moves(NamedTuple):
    """Columns [n] of the view that the kernel reads."""

    slot: I64
    fresh: U8
    cosine: F32
    joined: F32
    parent: I32
    span: I32
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

    parent: F32
    progress: F32
    target: F32


class Steering:
    """See the module."""

    name = "steering"
    version = 2
    need = Need(InputLevel.SKETCH, OutputLevel.LABEL)
    signals = (
        Signal("steering.parent", "log10 e-value", -200, 200, "queries keep starting from those with the best answers"),
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
            ranks=np.zeros((capacity, LIVE, CLASSES), np.float32),
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
            parent=view.parent,
            span=view.span,
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
        _observe(moves, state, out)
        return {f"steering.{name}": getattr(out, name) for name in Out._fields}


@kernel
def _observe(moves: Moves, state: SteeringState, out: Out) -> None:
    bets = np.ones(CLASSES)
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
            out.parent[i] = pair_evidence(state.ranks[c], state.turns[c], state.began[c], event, places)
            _reach(i, moves, state)
            if out.parent[i] > 0.0:
                _aim(i, moves, state, out)
        _remember(i, used and not moves.path[i], moves, state)


@kernel
def _bet(i: int, moves: Moves, state: SteeringState, bets: F64) -> None:
    """Bet on one event: that it turns back, and, off a mere path, on the rank of its parent's score for each class."""
    c, places = moves.slot[i], moves.classes[i]
    began = state.began[c]
    open_start(state.ranks[c], state.turns[c], began, state.clock[c], places)
    multiply(state.turns[c], began, moves.cosine[i] < BACK, 0.5, TURN_BETS)
    if moves.path[i] or moves.parent[i] == 0:
        return
    parent = (moves.number[i] - 1 - moves.parent[i]) % WINDOW
    tie = uniform(moves.key[i], moves.number[i], 0)
    bets[:] = 1.0
    for k in range(places):
        score = state.scores[c, k, parent]
        if score != NONE:
            above, below, known = _count(state.scores[c, k], score, moves.number[i] - 1, moves.span[i])
            if known >= LEAST:
                bets[k] = power_bet(max(above + (known - above - below) * tie, 1.0) / known)
    for m in range(LIVE):
        if began[m]:
            share(state.ranks[c], m, bets, places)


@kernel
def _count(scores: I16, score: np.int16, fresh: int, span: int) -> tuple[int, int, int]:
    """Count the scores of the newest `span` queries above and below one, and all of them."""
    above, below, none = np.int16(0), np.int16(0), np.int16(0)  # as wide as the scores, so that it runs in SIMD
    start = (fresh - span) % WINDOW
    stop = start + span
    for w in range(start, min(stop, WINDOW)):
        above += np.int16(scores[w] > score)
        below += np.int16(scores[w] < score)
        none += np.int16(scores[w] == NONE)
    for w in range(stop - WINDOW):
        above += np.int16(scores[w] > score)
        below += np.int16(scores[w] < score)
        none += np.int16(scores[w] == NONE)
    return int(above), int(below) - int(none), span - int(none)


@kernel
def _remember(i: int, used: bool, moves: Moves, state: SteeringState) -> None:
    """Put the scores at the query's place of the ring; the place of one that is not used holds none."""
    c, place = moves.slot[i], (moves.number[i] - 1) % WINDOW
    for k in range(moves.classes[i]):
        known = used and moves.places[i, k] >= 0
        state.scores[c, k, place] = moves.answer[i, k] if known else NONE


@kernel
def _forget(c: int, place: int, state: SteeringState) -> None:
    """Begin anew at a place that changed hands: the bets on the class that had it are lost until the next start."""
    state.best[c, place] = 0.0
    if state.clock[c] > 0:
        state.scores[c, place, :] = NONE
        state.ranks[c, :, place] = 0.0


@kernel
def _reach(i: int, moves: Moves, state: SteeringState) -> None:
    """Remember the highest probability reached on each class near an own earlier query."""
    if moves.level[i] < 2 or not moves.probability[i] or not moves.joined[i] < 2.0:
        return
    for k in range(moves.classes[i]):
        reached = probability_of(moves.answer[i, k])
        state.best[moves.slot[i], k] = max(state.best[moves.slot[i], k], reached)


@kernel
def _aim(i: int, moves: Moves, state: SteeringState, out: Out) -> None:
    """Name the class whose bets are worth most, and how far it got."""
    c = moves.slot[i]
    most, aim = -1.0, -1
    for k in range(moves.classes[i]):
        if moves.places[i, k] < 0:
            continue
        worth = 0.0
        for m in range(LIVE):
            if state.began[c, m]:
                worth += state.ranks[c, m, k]
        if worth > most:
            most, aim = worth, k
    if aim >= 0:
        out.target[i] = aim
        out.progress[i] = state.best[c, aim]


DETECTOR = Steering()
