"""Steering: does the client choose its next query because of our last answers?

Three tests, each an e-process, from "signals" in docs/detection.md:

climb         New scores of some class rank ever higher among the client's last 64 (a conformal bet), *and* the queries
              jump back and forth instead of drifting. The smaller of the two counts: a sensor drifts and its scores may
              rise with it, an ordinary client jumps but its scores come in no order.
climb_thread  The same inside threads of near queries, so that dummy queries in between do not hide it.
cloud         Queries return close to earlier ones, jumping back: a cloud around a point that moves slowly.

Null: the scores are exchangeable given the past, or the path goes on in its direction at least every second time; for
the cloud, such close returns make up at most a third.
Sees: hill climbing, evolution strategies, finite differences, boundary walks. Cannot see: populations that spread far
and change slowly, one query a record. Fooled by: batches sorted by score; white noise round a set point (cloud).
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
    bernoulli,
    multiply,
    open_start,
    pair_evidence,
    power_bet,
    share,
    uniform,
)
from detector.kernel import kernel

SCORES = 64  # scores remembered of each
LEAST = 8  # scores needed before a rank means something
TURN_BETS = np.array([0.6, 0.7, 0.85])
CLOUD_BETS = np.array([0.45, 0.65, 0.9])
BACK = -0.1  # a step turns back below this cosine; a walk without a direction does so less than every second time
PLAIN, THREAD = 0, 1


class SteeringState(NamedTuple):
    """One row a client slot; index 0 = climb, 1 = climb in threads."""

    scores: I16  # [slots, 2, 16, 64]
    used: I32  # [slots, 2] scores remembered so far
    since: I32  # [slots, 2, 16] `used` + 1 when its class took the place, 0 = at the beginning
    best: F32  # [slots, 16] highest probability reached on it inside a thread
    clock: I64  # [slots, 2] events that the test has seen
    began: I32  # [slots, 2, LIVE]
    ranks: F32  # [slots, 2, LIVE, 32] products of the rank bets, up and down for each class
    turns: F64  # [slots, 2, LIVE, 3] products of the bets on turning back
    cloud: F64  # [slots, 3]


class Moves(NamedTuple):
    """Columns [n] of the view that the kernel reads."""

    slot: I64
    fresh: U8
    cosine: F32
    near: F32
    path: U8
    thread: F32
    classes: I64  # places in use
    answer: I16
    places: I64
    replaced: I8
    level: U8
    probability: U8
    key: U64


class Out(NamedTuple):
    """Columns [n] of the signals."""

    climb: F32
    climb_thread: F32
    cloud: F32
    progress: F32
    target: F32


class Steering:
    """See the module."""

    name = "steering"
    version = 1
    need = Need(InputLevel.SKETCH, OutputLevel.LABEL)
    signals = (
        Signal(
            "steering.climb", "log10 e-value", -200, 200, "scores of a class rise while queries jump back and forth"
        ),
        Signal("steering.climb_thread", "log10 e-value", -200, 200, "the same inside threads of near queries"),
        Signal("steering.cloud", "log10 e-value", -200, 200, "queries keep returning close to earlier ones"),
        Signal("steering.progress", "probability", 0, 1, "highest confidence reached on the class climbed towards"),
        Signal("steering.target", "place", 0, 15, "the place of the class climbed towards among those followed"),
    )

    def state(self, capacity: int) -> SteeringState:
        """Return state for that many clients."""
        return SteeringState(
            scores=np.zeros((capacity, 2, CLASSES, SCORES), np.int16),
            used=np.zeros((capacity, 2), np.int32),
            since=np.zeros((capacity, 2, CLASSES), np.int32),
            best=np.zeros((capacity, CLASSES), np.float32),
            clock=np.zeros((capacity, 2), np.int64),
            began=np.zeros((capacity, 2, LIVE), np.int32),
            ranks=np.zeros((capacity, 2, LIVE, 2 * CLASSES), np.float32),
            turns=np.zeros((capacity, 2, LIVE, len(TURN_BETS))),
            cloud=np.zeros((capacity, len(CLOUD_BETS))),
        )

    def observe(self, view: View, state: SteeringState) -> Mapping[str, F32]:
        """Bet on every event in order."""
        blank = np.full((len(Out._fields), len(view.slot)), np.nan, np.float32)
        out = Out(*blank)
        batch, scales = view.batch, view.scales
        moves = Moves(
            slot=view.slot,
            fresh=view.fresh,
            cosine=view.cosine,
            near=view.near,
            path=view.path,
            thread=view.thread,
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
    bets = np.ones(2 * CLASSES)
    for i in range(len(moves.slot)):
        c = moves.slot[i]
        if moves.replaced[i] >= 0:
            _forget(c, moves.replaced[i], state)
        if not moves.fresh[i] or moves.level[i] == 0:
            continue
        if not np.isnan(moves.cosine[i]):
            close = moves.near[i] < 0.4 and moves.cosine[i] < -0.3
            out.cloud[i] = bernoulli(state.cloud[c], state.clock[c, PLAIN], close, 0.33, CLOUD_BETS)
            out.climb[i] = _climb(i, PLAIN, moves.cosine[i], moves, state, bets)
        if not np.isnan(moves.thread[i]):
            _reach(i, moves, state)
            out.climb_thread[i] = _climb(i, THREAD, moves.thread[i], moves, state, bets)
        elif state.clock[c, THREAD] > 0:
            out.climb_thread[i] = _evidence(c, THREAD, moves.classes[i], state)
        if max(out.climb[i], out.climb_thread[i]) > 0.0:
            _aim(i, moves, state, out)


@kernel
def _climb(i: int, kind: int, cosine: float, moves: Moves, state: SteeringState, bets: F64) -> float:
    """Bet on one event: that it turns back, and, off a mere path, on the rank of each class's score."""
    c, places = moves.slot[i], moves.classes[i]
    began = state.began[c, kind]
    open_start(state.ranks[c, kind], state.turns[c, kind], began, state.clock[c, kind], 2 * places)
    multiply(state.turns[c, kind], began, cosine < BACK, 0.5, TURN_BETS)
    if not moves.path[i]:
        _rank(i, kind, moves, state, bets)
    state.clock[c, kind] += 1
    return _evidence(c, kind, places, state)


@kernel
def _evidence(c: int, kind: int, places: int, state: SteeringState) -> float:
    event = max(state.clock[c, kind] - 1, 0)
    return pair_evidence(state.ranks[c, kind], state.turns[c, kind], state.began[c, kind], event, 2 * places)


@kernel
def _rank(i: int, kind: int, moves: Moves, state: SteeringState, bets: F64) -> None:
    """Bet on the rank of every class's score among its remembered ones, both upwards and downwards."""
    c, places = moves.slot[i], moves.classes[i]
    ring, ranks = state.scores[c, kind], state.ranks[c, kind]
    used = state.used[c, kind]
    tie = uniform(moves.key[i], used, kind)
    bets[:] = 1.0
    for k in range(places):
        value = moves.answer[i, k]
        known = used - max(state.since[c, kind, k] - 1, 0)
        if moves.places[i, k] >= 0 and known >= LEAST:
            above, below = _count(ring, k, used, known, value)
            n = min(known, SCORES) + 1
            ties = (n - above - below) * tie
            bets[2 * k] = power_bet((above + ties) / n)
            bets[2 * k + 1] = power_bet((below + ties) / n)
        ring[k, used % SCORES] = value
    for m in range(LIVE):
        if state.began[c, kind, m]:
            share(ranks, m, bets, 2 * places)
    state.used[c, kind] = used + 1


@kernel
def _count(ring: I16, k: int, used: int, known: int, value: int) -> tuple[int, int]:
    """Count the remembered scores above and below a value: the newest `known` of them, all 64 at most."""
    above, below = 0, 0
    if known >= SCORES or known == used:
        for w in range(min(known, SCORES)):
            above += ring[k, w] > value
            below += ring[k, w] < value
    else:  # the class is followed only since a while
        for age in range(1, known + 1):
            above += ring[k, (used - age) % SCORES] > value
            below += ring[k, (used - age) % SCORES] < value
    return above, below


@kernel
def _forget(c: int, place: int, state: SteeringState) -> None:
    """Begin anew at a place that changed hands: the bets on the class that had it are lost until the next start."""
    state.best[c, place] = 0.0
    for kind in range(2):
        if state.since[c, kind, place]:
            state.ranks[c, kind, :, 2 * place : 2 * place + 2] = 0.0
        state.since[c, kind, place] = state.used[c, kind] + 1


@kernel
def _reach(i: int, moves: Moves, state: SteeringState) -> None:
    """Remember the highest probability reached on each class inside a thread."""
    if moves.level[i] < 2 or not moves.probability[i]:
        return
    for k in range(moves.classes[i]):
        reached = probability_of(moves.answer[i, k])
        state.best[moves.slot[i], k] = max(state.best[moves.slot[i], k], reached)


@kernel
def _aim(i: int, moves: Moves, state: SteeringState, out: Out) -> None:
    """Name the class whose rising scores carry the evidence, and how far it got."""
    c = moves.slot[i]
    most, aim = -1.0, -1
    for k in range(moves.classes[i]):
        if moves.places[i, k] < 0:
            continue
        worth = 0.0
        for kind in range(2):
            for m in range(LIVE):
                if state.began[c, kind, m]:
                    worth += state.ranks[c, kind, m, 2 * k]
        if worth > most:
            most, aim = worth, k
    if aim >= 0:
        out.target[i] = aim
        out.progress[i] = state.best[c, aim]


DETECTOR = Steering()
