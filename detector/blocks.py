"""An input of any width as 64 bytes: which of its features changed, exactly, where a sketch mixes them.

Features are put into 64 blocks: each is one by itself where there are at most 64, else runs of neighbours (so a changed
patch of an image, or the columns of one category, stay in few blocks). A block's byte is a keyed hash of the bits of
its floats (−0 = 0): one change in 256 is overlooked, none is made up.

Of each client's last fresh inputs the one most like a new one is found, and which blocks were changed on it. Whether
that tells anything depends on how often benign rows are as alike by chance: `coarseness`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.events import F32, F64, I32, I64, U8, U64
from detector.kernel import kernel

BLOCKS = 64
RECENT = 32  # queries that a query is compared with block by block, at most
TWINS = 512  # queries among which one that differs in a single block is sought, at most
CHANCE = 0.05  # how often benign rows may look derived from one another by chance


@kernel
def digest(values: F32, offsets: I64, rows: I64, key: int, out: U8) -> None:
    """Write the bytes of the named rows to `out` [n, 64]; blocks without a feature stay 0."""
    bits = values.view(np.uint32)
    for row in rows:
        first, width = offsets[row], offsets[row + 1] - offsets[row]
        for b in range(min(width, BLOCKS)):
            start, stop = b, b + 1
            if width > BLOCKS:
                start, stop = b * width // BLOCKS, stop * width // BLOCKS
            state = np.uint64(key) + np.uint64(b + 1) * np.uint64(0x9E3779B97F4A7C15)
            for j in range(first + start, first + stop):
                state = (state ^ np.uint64(bits[j] if values[j] != 0.0 else 0)) * np.uint64(0xBF58476D1CE4E5B9)
                state ^= state >> np.uint64(32)
            out[row, b] = np.uint8((state * np.uint64(0x94D049BB133111EB)) >> np.uint64(56))


class BlockState(NamedTuple):
    """One row a client slot; all-zero = new."""

    clock: I64  # [slots] fresh whole inputs so far
    ring: U8  # [slots, 32, 64] blocks of the last of them


class Changes(NamedTuple):
    """Columns [n] of `detectors.View`."""

    apart: U8
    apart_age: I32
    changed: U64


def block_state(capacity: int) -> BlockState:
    """Return state for that many clients."""
    return BlockState(np.zeros(capacity, np.int64), np.zeros((capacity, RECENT, BLOCKS), np.uint8))


def observe(blocks: U8, whole: U8, slot: I64, recent: I64, state: BlockState) -> Changes:
    """Hold every fresh whole input against the last `recent` [n] of its client, then remember it."""
    n = len(slot)
    out = Changes(np.zeros(n, np.uint8), np.zeros(n, np.int32), np.zeros(n, np.uint64))
    _observe(blocks, whole, slot, recent, state, out)
    return out


@kernel
def _observe(blocks: U8, whole: U8, slot: I64, recent: I64, state: BlockState, out: Changes) -> None:
    for i in range(len(slot)):
        if not whole[i]:
            continue
        c, clock = slot[i], state.clock[slot[i]]
        least, nearest = BLOCKS + 1, 0
        for age in range(1, min(clock, recent[i]) + 1):
            w = (clock - age) % RECENT
            apart = 0
            for b in range(BLOCKS):
                apart += state.ring[c, w, b] != blocks[i, b]
            if 0 < apart < least:
                least, nearest = apart, age
        if nearest:
            out.apart[i], out.apart_age[i] = least, nearest
            for b in range(BLOCKS):
                unlike = state.ring[c, (clock - nearest) % RECENT, b] != blocks[i, b]
                out.changed[i] |= np.uint64(unlike) << np.uint64(b)
        for b in range(BLOCKS):
            state.ring[c, clock % RECENT, b] = blocks[i, b]
        state.clock[c] = clock + 1


@kernel
def distance(a: U8, i: int, b: U8, j: int) -> int:
    """Return in how many blocks row i of a [n, 64] differs from row j of b."""
    apart = 0
    for k in range(BLOCKS):
        apart += a[i, k] != b[j, k]
    return apart


@kernel
def different(a: U8, i: int, b: U8, j: int) -> np.uint64:
    """Return the blocks in which row i of a [n, 64] differs from row j of b, as bits."""
    mask = np.uint64(0)
    for k in range(BLOCKS):
        mask |= np.uint64(a[i, k] != b[j, k]) << np.uint64(k)
    return mask


@kernel
def count(mask: np.uint64) -> int:
    """Return the number of bits that are set."""
    mask -= (mask >> np.uint64(1)) & np.uint64(0x5555555555555555)
    mask = (mask & np.uint64(0x3333333333333333)) + ((mask >> np.uint64(2)) & np.uint64(0x3333333333333333))
    mask = (mask + (mask >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((mask * np.uint64(0x0101010101010101)) >> np.uint64(56))


class Coarseness(NamedTuple):
    """How much benign rows of a model look as if they were derived from one another."""

    alike: int  # blocks in which a query may differ from an earlier one and count as derived; 0 = data too coarse
    recent: int  # how many earlier queries it may be compared with
    alike_rate: float  # how often benign rows pass for derived ones
    twins: int  # among how many earlier queries one that differs in a single block tells something; 0 = too coarse
    twin_rate: float  # how often benign rows have such a twin
    twin_repeat: float  # how often two benign pairs of twins differ in the same block, where they matter
    same: F64  # [64] how often two benign rows are alike in a block


def coarseness(rows: U8, owners: U64, width: int) -> Coarseness:
    """Measure the pairs of benign rows [n, 64] of different clients [n]: windows are cut until chance is below 5 %.

    A client's own rows tell what it does, not how coarse the data are: they count only where there are no others. A
    derived query keeps at least half of its features.
    """
    same = np.array([_agreement(column) for column in rows.T])
    apart, block = _pairs(rows, owners)
    if not len(apart):
        apart, block = _pairs(rows, np.arange(len(rows)))
    if not len(apart):
        return Coarseness(0, 0, 0.0, 0, 0.0, 1.0, same)
    within = (np.bincount(apart, minlength=BLOCKS + 1).cumsum() / len(apart))[1 : min(width, BLOCKS) // 2 + 1]
    recent = RECENT
    while recent > 1 and recent * within[:1].sum() > CHANCE:
        recent //= 2
    alike = int((recent * within <= CHANCE).sum())
    single = float((apart == 1).mean())
    twins = TWINS if TWINS * single <= CHANCE else int(CHANCE / single)
    often = np.bincount(block, minlength=1)
    repeat = float((often * (often - 1)).sum() / max(len(block) * (len(block) - 1), 1)) if twins < TWINS else 0.0
    alike_rate = float(recent * within[alike - 1]) if alike else 0.0
    return Coarseness(alike, recent, alike_rate, twins, twins * single, repeat, same)


def _agreement(column: U8) -> float:
    """Return how often two of these numbers are equal."""
    often = np.bincount(column, minlength=1)
    return float((often * (often - 1)).sum() / max(len(column) * (len(column) - 1), 1))


def _pairs(rows: U8, owners: NDArray[Any]) -> tuple[I64, I64]:
    """Return in how many blocks rows of different owners differ, equal ones apart, and where in one, that block."""
    apart, block = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for i in range(1, len(rows)):
        unlike = rows[:i][owners[:i] != owners[i]] != rows[i]
        counts = unlike.sum(axis=1)
        apart.append(counts[counts > 0])
        block.append(unlike[counts == 1].argmax(axis=1))
    return np.concatenate(apart), np.concatenate(block)
