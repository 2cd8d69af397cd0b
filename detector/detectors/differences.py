"""Differences: which features does a client change from one query to another?

sweep        The features changed on a record, one or a few, are those changed on the record before: attribute
             inference, value after value or in blocks of one value (Fredrikson 2014). A record begins where a query is
             unlike the last 32; what is derived from it, step by step, belongs to it, and it counts once. Where other
             records came between it and its change, the new value has to be that of the record before as well. Null:
             the same features come again with probability p0 at most, values as they are drawn among benign rows.
coordinates  One or two features changed, others than last time (SimBA, ZOO, occlusion, notebooks). Null: no more
             queries are so than benign rows look so by chance, or 15 %.
swept        Records varied in the same features as the one before: what attribute inference got.
parts        Sweep and coordinates in one (the mean of two e-values is one), with every whole input, repeats too.

A changed feature is found in the last 512 inputs, two in the last 32, both less where the model's data are coarse.

Two rows that differ in one block only are found without keeping the rows. Of each row the bytes of those blocks whose
number has bit 0, 1, … 5 set are added up (modulo 256), and of those in which bit 0 or bit 1 is not. Where one block
changes, each of the six sums changes either not at all or as much as the sum of all bytes, and which do so spells the
number of the block; a sum with odd weights then has to agree.

Cannot see: noise on inputs; features that were changed longer ago; data so coarse that benign rows often differ in one
feature only; records that share more than half of their features. Fooled by: fairness audits and partial dependence,
which are the same act, and nightly scoring of the same records with a new counter (sweep); explainers (coordinates).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.blocks import BLOCKS, TWINS, count
from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I16, I32, I64, U8, U64, InputLevel, OutputLevel
from detector.evidence import bernoulli_above, standing, unspent
from detector.kernel import in_place

SWEEP_SHARES = np.array([0.4, 0.7, 0.95])
ONE_SHARES = np.array([0.15, 0.4, 0.8])
TOLD = -1  # in the place of a record's first: it was varied, further changes say nothing new
FEW = 3  # blocks that may make up what is varied, or a quarter of all
BITS = 6
CLEAR, WEIGHTED = BITS, BITS + 2
SUMS = BITS + 3


def _factors() -> U8:
    """Return [9, 64] what each block counts in each sum."""
    numbers = np.arange(BLOCKS)
    bits = [numbers >> k & 1 for k in range(BITS)]
    return np.array([*bits, 1 - bits[0], 1 - bits[1], 2 * (numbers * 89 + 37) + 1]).astype(np.uint8)


FACTORS = _factors()
NONE = np.uint64(0)


class DifferencesState(NamedTuple):
    """One row a client slot; sets of blocks are bits."""

    clock: I64  # [slots] fresh whole inputs
    sums: U8  # [slots, 9, 512]
    changed: U64  # [slots] the blocks changed when one or two were, last
    ones: F64  # [slots, 3]
    root: I16  # [slots, 512] how many queries before it its record's first came, + 1; 0 = of no record, −1 = see TOLD
    newest: I32  # [slots] the record that came last, by the number of its first query
    record: I32  # [slots] the record that is varied
    varied: U64  # [slots] in which blocks; none before the first record
    alone: U8  # [slots] 1 = before another record came
    value: U64  # [slots] what they held first
    before: U64  # [slots] the blocks of the record before
    last_value: U64  # [slots] what they held first
    records: I64  # [slots] bets on records
    sweeps: F64  # [slots, 3]
    swept: I32  # [slots] bets won


class Out(NamedTuple):
    """Columns [n] of the signals."""

    sweep: F32
    coordinates: F32
    swept: F32
    parts: F32


class Moves(NamedTuple):
    """Columns [n] of the view, and of the reference of each row's model."""

    slot: I64
    whole: U8  # 1 where all features are known and the input is fresh
    blocks: U8
    apart: U8
    apart_age: I32
    changed: U64
    width: I64  # blocks in use
    alike: I64
    twins: I64
    twin_rate: F64
    twin_repeat: F64
    same: F64  # [n, 64]


class Differences:
    """See the module."""

    name = "differences"
    version = 1
    need = Need(InputLevel.VECTOR, OutputLevel.NONE)
    signals = (
        Signal("differences.sweep", "log10 e-value", -200, 205, "the same features changed on record after record"),
        Signal(
            "differences.coordinates", "log10 e-value", -200, 205, "one feature changed at a time, another each time"
        ),
        Signal("differences.parts", "log10 e-value", -200, 205, "single features of records varied"),
        Signal("differences.swept", "records", 0, 1e12, "records varied in the same features as the one before"),
    )

    def state(self, capacity: int) -> DifferencesState:
        """Return state for that many clients."""
        return DifferencesState(
            clock=np.zeros(capacity, np.int64),
            sums=np.zeros((capacity, SUMS, TWINS), np.uint8),
            changed=np.zeros(capacity, np.uint64),
            ones=np.zeros((capacity, len(ONE_SHARES))),
            root=np.zeros((capacity, TWINS), np.int16),
            newest=np.zeros(capacity, np.int32),
            record=np.zeros(capacity, np.int32),
            varied=np.zeros(capacity, np.uint64),
            alone=np.zeros(capacity, np.uint8),
            value=np.zeros(capacity, np.uint64),
            before=np.zeros(capacity, np.uint64),
            last_value=np.zeros(capacity, np.uint64),
            records=np.zeros(capacity, np.int64),
            sweeps=np.zeros((capacity, len(SWEEP_SHARES))),
            swept=np.zeros(capacity, np.int32),
        )

    def observe(self, view: View, state: DifferencesState) -> Mapping[str, F32]:
        """Bet on every event in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        scales, m = view.scales, view.reference
        moves = Moves(view.slot, view.whole & view.fresh, view.blocks, view.apart, view.apart_age, view.changed,
                      np.minimum(scales.width[m], BLOCKS), scales.alike[m], scales.twins[m], scales.twin_rate[m],
                      scales.twin_repeat[m], scales.same[m])  # fmt: skip
        _observe(moves, state, np.empty(SUMS, np.uint8), out)
        out.parts[view.batch.input_level < InputLevel.VECTOR] = np.nan
        return {f"differences.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _observe(moves: Moves, state: DifferencesState, mine: U8, out: Out) -> None:
    for i in range(len(moves.slot)):
        c = moves.slot[i]
        out.parts[i] = _parts(c, moves.twins[i], state)
        if not moves.whole[i]:
            continue
        add_up(moves.blocks, i, mine)
        changed, age = NONE, 0
        if 0 < moves.apart[i] <= min(2, moves.alike[i]):
            changed, age = moves.changed[i], moves.apart_age[i]
        elif moves.twins[i]:
            changed, age = _twin(c, moves.twins[i], state, mine)
        if moves.twins[i]:
            p0 = max(0.15, min(2.0 * moves.twin_rate[i], 0.9))
            other = changed != NONE and changed != state.changed[c]
            out.coordinates[i] = bernoulli_above(state.ones[c], state.clock[c], other, p0, ONE_SHARES)
        _sweep(i, c, changed, age, moves, state)
        if state.records[c]:
            out.sweep[i] = standing(state.sweeps[c], state.records[c])
        out.swept[i] = state.swept[c]
        if changed != NONE:
            state.changed[c] = changed
        for k in range(SUMS):
            state.sums[c, k, state.clock[c] % TWINS] = mine[k]
        state.clock[c] += 1
        out.parts[i] = _parts(c, moves.twins[i], state)


@in_place
def _parts(c: int, window: int, state: DifferencesState) -> float:
    ones = _worth(state.ones, c, state.clock[c]) if window else 1.0
    return float(np.log10((ones + _worth(state.sweeps, c, state.records[c])) / 2))


@in_place
def _worth(wealth: F64, c: int, events: int) -> float:
    return wealth[c].sum() + unspent(events - 1) if events else 1.0


@in_place
def _sweep(i: int, c: int, changed: np.uint64, age: int, moves: Moves, state: DifferencesState) -> None:
    """Follow the query to its record, and gather in which blocks that is varied; another record closes the last one."""
    here = state.clock[c]
    state.root[c, here % TWINS] = 0
    if changed == NONE:
        if moves.apart[i] == 0 or moves.apart[i] > moves.alike[i]:
            state.root[c, here % TWINS] = 1
            state.newest[c] = here
        return
    back = abs(state.root[c, (here - age) % TWINS])
    first = here - age - back + 1
    if back == 0 or first <= here - TWINS:  # of no record, or of one that is forgotten
        return
    state.root[c, here % TWINS] = here - first + 1
    if state.varied[c] != NONE and first == state.record[c]:
        state.varied[c] |= changed
    elif state.root[c, first % TWINS] != TOLD:
        if state.varied[c] != NONE:
            _settle(i, c, moves, state)
        state.root[c, first % TWINS] = TOLD
        state.record[c] = first
        state.varied[c] = changed
        state.alone[c] = first == state.newest[c]
        state.value[c] = _value(moves.blocks, i, changed)


@in_place
def _settle(i: int, c: int, moves: Moves, state: DifferencesState) -> None:
    """Bet that the record which is left was varied as the one before."""
    varied = state.varied[c]
    if state.before[c] != NONE:
        p0 = max(0.15, 1.5 / moves.width[i], 1.5 * moves.twin_repeat[i])
        again = varied == state.before[c] and count(varied) <= max(FEW, moves.width[i] // 4)
        if not state.alone[c]:
            again = again and state.value[c] == state.last_value[c]
            for b in range(BLOCKS):
                if varied >> np.uint64(b) & np.uint64(1):
                    p0 = max(p0, moves.same[i, b])
        bernoulli_above(state.sweeps[c], state.records[c], again, min(p0, 0.9), SWEEP_SHARES)
        state.records[c] += 1
        state.swept[c] += again
    state.before[c] = varied
    state.last_value[c] = state.value[c]


@in_place
def _value(blocks: U8, i: int, changed: np.uint64) -> np.uint64:
    """Return what the changed blocks of row i hold, as one number."""
    value = NONE
    for b in range(BLOCKS):
        if changed >> np.uint64(b) & np.uint64(1):
            value = value * np.uint64(257) + np.uint64(blocks[i, b])
    return value


@in_place
def _twin(c: int, window: int, state: DifferencesState, mine: U8) -> tuple[np.uint64, int]:
    """Return the block, as a bit, in which alone the query differs from an earlier one, and how long ago that came."""
    if window == TWINS and not candidates(state.sums, c, mine):
        return NONE, 0
    for age in range(1, min(state.clock[c], window) + 1):
        b = one_block(state.sums, c, (state.clock[c] - age) % TWINS, mine)
        if b >= 0:
            return np.uint64(1) << np.uint64(b), age
    return NONE, 0


@in_place
def add_up(x: U8, i: int, out: U8) -> None:
    """Write the sums of row i of x [n, 64] to `out` [9]."""
    for k in range(SUMS):
        total = np.uint8(0)
        for b in range(BLOCKS):
            total = np.uint8(total + np.uint8(x[i, b] * FACTORS[k, b]))
        out[k] = total


@in_place
def one_block(sums: U8, c: int, w: int, mine: U8) -> int:
    """Return the one block in which the row of sums [c, :, w] differs from `mine` [9]; −1 where none or several do."""
    gap = np.uint8(mine[0] + mine[CLEAR] - sums[c, 0, w] - sums[c, CLEAR, w])
    b = 0
    for k in range(BITS):
        part = np.uint8(mine[k] - sums[c, k, w])
        if part == gap:
            b |= 1 << k
        elif part != 0:
            return -1
    agrees = np.uint8(mine[WEIGHTED] - sums[c, WEIGHTED, w]) == np.uint8(FACTORS[WEIGHTED, b] * gap)
    return b if gap != 0 and agrees else -1


@in_place
def candidates(sums: U8, c: int, mine: U8) -> bool:
    """Tell whether a row of sums [c, :, 512] may differ from `mine` in one block: chance says so of one in 16,000.

    Such a change leaves the sum over one half of the blocks alone, however they are halved: two halvings are looked at.
    A straight loop over bytes that stores nothing, 32 rows at once.
    """
    found = np.uint8(0)
    for w in range(TWINS):
        even = np.uint8(sums[c, 0, w] == mine[0]) | np.uint8(sums[c, CLEAR, w] == mine[CLEAR])
        other = np.uint8(sums[c, 1, w] == mine[1]) | np.uint8(sums[c, CLEAR + 1, w] == mine[CLEAR + 1])
        found = np.uint8(found | (even & other))
    return bool(found)


DETECTOR = Differences()
