"""Choices: of a base and a trial made from it, which does the next query start from, and do our answers decide it?

A query is *derived* from an earlier one that it shares more blocks of features with than benign rows share with each
other. Derived queries make a chain: a base, and the trial made from it last. A query derived from either judges the
trial: it is *kept* where most of its changes are still there, else it is left; and the query is the next trial.

kept      Trials that are kept changed the score of some class more, in one direction, than those that are left: SimBA,
          Square, coordinate descent. A trial of the one fate is held against those of the other since the last bet.
          Null: scores are exchangeable given which trials are kept, so one is extreme among n others with probability
          1/(n + 1). Occlusion never keeps a trial, a slider never goes back to its base: nothing is bet on either.
mirrored  A query lies as far on the other side of the base as the trial, on other features than the pair before: ZOO,
          SimBA, finite differences, which ask for a slope. Null: at most a tenth of derived queries do so.
around    Another part of the same base was changed: explainers, and searches while they find nothing. Null: no more
          queries are so than benign rows look so by chance, or 5 %.

Cannot see: searches that change all features at once; answers that never change (kept); models whose data are so coarse
that benign rows often differ in one feature only. Fooled by: counterfactual search, whose transcripts are the same
(kept); sensitivity reports by central differences (mirrored).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.answers import CLASSES
from detector.blocks import BLOCKS, count, different, distance
from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I8, I16, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.evidence import CAP, bernoulli_above, spend, stake, standing
from detector.kernel import in_place
from detector.sketch import DIMENSIONS

SHARES = np.array([0.15, 0.4, 0.8])
KEPT_SHARES = np.array([0.5, 0.9])
MIRROR = 0.2  # a mirrored query misses its place by at most this share of the step
TOLD = 8  # recent queries that can become the base of a new chain
MOST = 15  # trials of one fate that one of the other is held against
TOP = 0  # the class that is the answer to the base: it has half of the stakes; class k is at k + 1
NONE = np.uint64(0)


class ChoicesState(NamedTuple):
    """One row a client slot; sets of blocks are bits."""

    clock: I64  # [slots] fresh whole inputs with an answer
    told: I32  # [slots] how many came without another in between, 8 at most: those below
    blocks: U8  # [slots, 8, 64]
    answers: I16  # [slots, 8, 16]
    sketches: I16  # [slots, 8, 32]
    linked: U8  # [slots] 1 while a chain is followed
    base: U8  # [slots, 64]
    trial: U8
    base_answer: I16  # [slots, 16]
    trial_answer: I16
    base_sketch: I16  # [slots, 32]
    trial_sketch: I16
    rounds: F64  # [slots, 3]
    links: I64  # [slots] queries that went on with a chain
    pair: U64  # [slots] blocks changed by the last mirrored pair
    mirrors: F64  # [slots, 3]
    run: I32  # [slots] trials of one fate since the last bet
    fate: U8  # [slots] 1 = kept
    high: I32  # [slots, 17] their greatest and least gains
    low: I32
    latest: U64  # [slots] blocks changed by the last of them
    moved: U64  # [slots] blocks changed by the last trial that was kept
    choices: I64  # [slots] bets on gains
    kept: F64  # [slots, 68] for each class: gains up and down, two stakes each


class Out(NamedTuple):
    """Columns [n] of the signals."""

    kept: F32
    mirrored: F32
    around: F32


class Moves(NamedTuple):
    """Columns [n] of the view, and of the reference of each row's model."""

    slot: I64
    whole: U8
    fresh: U8
    blocks: U8
    apart: U8
    apart_age: I32
    sketch: I16
    level: U8
    answer: I16
    replaced: I8
    classes: I64
    alike: I64
    alike_rate: F64


class Choices:
    """See the module."""

    name = "choices"
    version = 1
    need = Need(InputLevel.VECTOR, OutputLevel.LABEL)
    signals = (
        Signal("choices.kept", "log10 e-value", -200, 205, "changes stay or go as the answers to them were"),
        Signal("choices.mirrored", "log10 e-value", -200, 205, "pairs of queries that mirror each other at a base"),
        Signal("choices.around", "log10 e-value", -200, 205, "part after part of one and the same record changed"),
    )

    def state(self, capacity: int) -> ChoicesState:
        """Return state for that many clients."""
        blocks = np.zeros((2, capacity, BLOCKS), np.uint8)
        answers = np.zeros((2, capacity, CLASSES), np.int16)
        sketches = np.zeros((2, capacity, DIMENSIONS), np.int16)
        gains = np.zeros((2, capacity, CLASSES + 1), np.int32)
        return ChoicesState(
            clock=np.zeros(capacity, np.int64),
            told=np.zeros(capacity, np.int32),
            blocks=np.zeros((capacity, TOLD, BLOCKS), np.uint8),
            answers=np.zeros((capacity, TOLD, CLASSES), np.int16),
            sketches=np.zeros((capacity, TOLD, DIMENSIONS), np.int16),
            linked=np.zeros(capacity, np.uint8),
            base=blocks[0],
            trial=blocks[1],
            base_answer=answers[0],
            trial_answer=answers[1],
            base_sketch=sketches[0],
            trial_sketch=sketches[1],
            rounds=np.zeros((capacity, len(SHARES))),
            links=np.zeros(capacity, np.int64),
            pair=np.zeros(capacity, np.uint64),
            mirrors=np.zeros((capacity, len(SHARES))),
            run=np.zeros(capacity, np.int32),
            fate=np.zeros(capacity, np.uint8),
            high=gains[0],
            low=gains[1],
            latest=np.zeros(capacity, np.uint64),
            moved=np.zeros(capacity, np.uint64),
            choices=np.zeros(capacity, np.int64),
            kept=np.zeros((capacity, (CLASSES + 1) * 2 * len(KEPT_SHARES))),
        )

    def observe(self, view: View, state: ChoicesState) -> Mapping[str, F32]:
        """Bet on every event in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        scales, m = view.scales, view.reference
        moves = Moves(view.slot, view.whole, view.fresh, view.blocks, view.apart, view.apart_age, view.sketch,
                      view.batch.output_level, view.answer, view.replaced, scales.classes[m], scales.alike[m],
                      scales.alike_rate[m])  # fmt: skip
        _observe(moves, state, np.empty(CLASSES + 1, np.int32), out)
        return {f"choices.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _observe(moves: Moves, state: ChoicesState, gains: I32, out: Out) -> None:
    for i in range(len(moves.slot)):
        c = moves.slot[i]
        if moves.replaced[i] >= 0:  # answers before and after are not of the same classes
            state.linked[c], state.run[c], state.told[c] = 0, 0, 0
        if not moves.whole[i]:
            continue
        if moves.level[i] == 0:
            state.told[c] = 0
            continue
        around = moves.alike[i] > 0 and _follow(i, c, moves, state, gains)
        if moves.fresh[i]:
            if moves.alike[i]:
                p0 = max(0.05, min(2.0 * moves.alike_rate[i], 0.9))
                out.around[i] = bernoulli_above(state.rounds[c], state.clock[c], around, p0, SHARES)
            _remember(i, c, moves, state)
        if state.links[c]:
            out.mirrored[i] = standing(state.mirrors[c], state.links[c])
            out.kept[i] = standing(state.kept[c], state.choices[c])


@in_place
def _remember(i: int, c: int, moves: Moves, state: ChoicesState) -> None:
    w = state.clock[c] % TOLD
    for b in range(BLOCKS):
        state.blocks[c, w, b] = moves.blocks[i, b]
    for k in range(CLASSES):
        state.answers[c, w, k] = moves.answer[i, k]
    for k in range(DIMENSIONS):
        state.sketches[c, w, k] = moves.sketch[i, k]
    state.told[c] = min(state.told[c] + 1, TOLD)
    state.clock[c] += 1


@in_place
def _follow(i: int, c: int, moves: Moves, state: ChoicesState, gains: I32) -> bool:
    """Go on with the chain, or begin one; true where another part of the same base was changed."""
    if state.linked[c]:
        least = min(distance(state.base, c, moves.blocks, i), distance(state.trial, c, moves.blocks, i))
        if least <= moves.alike[i]:
            return bool(least > 0) and _link(i, c, moves, state, gains)  # 0: asked again
    if moves.fresh[i] and 0 < moves.apart[i] <= moves.alike[i] and moves.apart_age[i] <= state.told[c]:
        w = (state.clock[c] - moves.apart_age[i]) % TOLD
        for b in range(BLOCKS):
            state.base[c, b] = state.blocks[c, w, b]
        for k in range(CLASSES):
            state.base_answer[c, k] = state.answers[c, w, k]
        for k in range(DIMENSIONS):
            state.base_sketch[c, k] = state.sketches[c, w, k]
        _try(i, c, moves, state)
        state.linked[c] = 1
    return False


@in_place
def _link(i: int, c: int, moves: Moves, state: ChoicesState, gains: I32) -> bool:
    """Judge the trial by what the query does with its changes, and make the query the next trial."""
    from_base = different(state.base, c, moves.blocks, i)
    from_trial = different(state.trial, c, moves.blocks, i)
    tried = different(state.base, c, state.trial, c)
    undone, kept = 3 * count(from_trial & tried), False
    if undone <= count(tried):
        kept = True
        _judge(c, kept, tried, moves.classes[i], state, gains)
    elif undone >= 2 * count(tried):
        _judge(c, kept, tried, moves.classes[i], state, gains)
    mirrored = from_base == tried and tried != state.pair[c] and _mirrors(i, c, moves, state)
    bernoulli_above(state.mirrors[c], state.links[c], mirrored, 0.1, SHARES)
    state.links[c] += 1
    if mirrored:
        state.pair[c] = tried
    if kept:
        for b in range(BLOCKS):
            state.base[c, b] = state.trial[c, b]
        for k in range(CLASSES):
            state.base_answer[c, k] = state.trial_answer[c, k]
        for k in range(DIMENSIONS):
            state.base_sketch[c, k] = state.trial_sketch[c, k]
    _try(i, c, moves, state)
    return not kept and tried != from_base and count(from_base) <= moves.alike[i]


@in_place
def _try(i: int, c: int, moves: Moves, state: ChoicesState) -> None:
    for b in range(BLOCKS):
        state.trial[c, b] = moves.blocks[i, b]
    for k in range(CLASSES):
        state.trial_answer[c, k] = moves.answer[i, k]
    for k in range(DIMENSIONS):
        state.trial_sketch[c, k] = moves.sketch[i, k]


@in_place
def _mirrors(i: int, c: int, moves: Moves, state: ChoicesState) -> bool:
    """Tell whether the query lies as far beyond the base as the trial before it."""
    off, step = 0.0, 0.0
    for k in range(DIMENSIONS):
        there = float(state.trial_sketch[c, k]) - float(state.base_sketch[c, k])
        here = float(moves.sketch[i, k]) - float(state.base_sketch[c, k])
        off += (there + here) ** 2
        step += there * there
    return step > DIMENSIONS and off <= MIRROR**2 * step + DIMENSIONS  # sketches are rounded


@in_place
def _judge(c: int, kept: bool, tried: np.uint64, classes: int, state: ChoicesState, gains: I32) -> None:
    """Bet where trials of both fates are there: is the new one's gain extreme among those of the other fate?"""
    if kept:
        if tried == state.moved[c]:  # to walk along one feature says nothing about choices
            return
        state.moved[c] = tried
    top = 0
    for k in range(classes):
        gains[k + 1] = int(state.trial_answer[c, k]) - int(state.base_answer[c, k])
        if state.base_answer[c, k] > state.base_answer[c, top]:
            top = k
    gains[TOP] = gains[top + 1]
    if state.run[c] and (state.fate[c] == 1) != kept:
        _bet(c, kept, classes, state, gains)
        state.run[c] = 0
        return
    state.fate[c] = kept
    for k in range(classes + 1):
        state.high[c, k] = max(state.high[c, k], gains[k]) if state.run[c] else gains[k]
        state.low[c, k] = min(state.low[c, k], gains[k]) if state.run[c] else gains[k]
    if state.run[c] == 0 or tried != state.latest[c]:  # ticks along one feature count once
        state.run[c] = min(state.run[c] + 1, MOST)
    state.latest[c] = tried


@in_place
def _bet(c: int, kept: bool, classes: int, state: ChoicesState, gains: I32) -> None:
    p0 = 1.0 / (state.run[c] + 1.0)
    start = spend(state.choices[c]) / (2 * len(KEPT_SHARES))
    for k in range(classes + 1):
        own = start * (0.5 if k == TOP else 0.5 / classes)
        most, least = gains[k] > state.high[c, k], gains[k] < state.low[c, k]
        for s in range(len(KEPT_SHARES)):
            up, down = 4 * k + s, 4 * k + 2 + s  # kept trials raise the score of the class, or lower it
            q = p0 + (1.0 - p0) * KEPT_SHARES[s]
            state.kept[c, up] = _grown(state.kept[c, up] + own, most if kept else least, p0, q)
            state.kept[c, down] = _grown(state.kept[c, down] + own, least if kept else most, p0, q)
    state.choices[c] += 1


@in_place
def _grown(wealth: float, hit: bool, p0: float, q: float) -> float:
    return min(wealth * stake(hit, p0, q), CAP)


DETECTOR = Choices()
