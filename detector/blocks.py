"""An input of any width as 64 bytes: which of its features changed, exactly, where a sketch mixes them.

Features are put into 64 blocks: each is one by itself where there are at most 64, else runs of neighbours (so a changed
patch of an image, or the columns of one category, stay in few blocks). A block's byte is a keyed hash of the bits of
its floats (−0 = 0): one change in 256 is overlooked, none is made up.

Of each client's last fresh inputs the one most like a new one is found, and which blocks were changed on it. Whether
that tells anything depends on how often benign rows are as alike by chance: `coarseness`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detector.events import F32, F64, I32, I64, U8, U64
from detector.kernel import in_place, kernel

BLOCKS = 64
RECENT = 32  # queries that a query is compared with block by block, at most
TWINS = 512  # queries among which one that differs in a single block is sought, at most
CHANCE = 0.05  # how often benign rows may look derived from one another by chance


@in_place
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


@in_place
def _observe(blocks: U8, whole: U8, slot: I64, recent: I64, state: BlockState, out: Changes) -> None:
    for i in range(len(slot)):
        if not whole[i]:
            continue
        c, clock = slot[i], state.clock[slot[i]]
        least, nearest = np.int64(BLOCKS + 1), 0
        for age in range(1, min(clock, recent[i]) + 1):
            w = (clock - age) % RECENT
            apart = np.uint8(0)  # as wide as what is compared, so that it runs in SIMD
            for b in range(BLOCKS):
                apart = np.uint8(apart + np.uint8(state.ring[c, w, b] != blocks[i, b]))
            if 0 < apart < least:
                least, nearest = np.int64(apart), age
        if nearest:
            out.apart[i], out.apart_age[i] = least, nearest
            changed = np.uint64(0)
            for b in range(BLOCKS):
                unlike = state.ring[c, (clock - nearest) % RECENT, b] != blocks[i, b]
                changed |= np.uint64(unlike) << np.uint64(b)
            out.changed[i] = changed
        for b in range(BLOCKS):
            state.ring[c, clock % RECENT, b] = blocks[i, b]
        state.clock[c] = clock + 1


@in_place
def distance(a: U8, i: int, b: U8, j: int) -> np.int64:
    """Return in how many blocks row i of a [n, 64] differs from row j of b."""
    apart = np.uint8(0)  # as wide as what is compared, so that it runs in SIMD
    for k in range(BLOCKS):
        apart = np.uint8(apart + np.uint8(a[i, k] != b[j, k]))
    return np.int64(apart)


@in_place
def different(a: U8, i: int, b: U8, j: int) -> np.uint64:
    """Return the blocks in which row i of a [n, 64] differs from row j of b, as bits."""
    mask = np.uint64(0)
    for k in range(BLOCKS):
        mask |= np.uint64(a[i, k] != b[j, k]) << np.uint64(k)
    return mask


@in_place
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
    same = _agreement(rows)
    apart, block = _pairs(rows, owners)
    if not apart.any():
        apart, block = _pairs(rows, np.arange(len(rows), dtype=np.uint64))
    pairs = int(apart.sum())
    if not pairs:
        return Coarseness(0, 0, 0.0, 0, 0.0, 1.0, same)
    within = (apart.cumsum() / pairs)[1 : min(width, BLOCKS) // 2 + 1]
    recent = RECENT
    while recent > 1 and recent * within[:1].sum() > CHANCE:
        recent //= 2
    alike = int((recent * within <= CHANCE).sum())
    single = float(apart[1] / pairs)
    twins = TWINS if TWINS * single <= CHANCE else int(CHANCE / single)
    repeat = float((block * (block - 1)).sum() / max(apart[1] * (apart[1] - 1), 1)) if twins < TWINS else 0.0
    alike_rate = float(recent * within[alike - 1]) if alike else 0.0
    return Coarseness(alike, recent, alike_rate, twins, twins * single, repeat, same)


@kernel
def _agreement(rows: U8) -> F64:
    """Return how often two of these rows [n, 64] are alike in each block [64]."""
    n = len(rows)
    out = np.zeros(BLOCKS)
    for b in range(BLOCKS):
        often = np.zeros(256, np.int64)
        for i in range(n):
            often[rows[i, b]] += 1
        out[b] = (often * (often - 1)).sum() / max(n * (n - 1), 1)
    return out


@kernel
def _pairs(rows: U8, owners: U64) -> tuple[I64, I64]:
    """Count the pairs of rows of different owners by the blocks in which they differ, equal ones apart.

    Returns how many differ in so many blocks [65], and, of those that differ in one, how many in which [64].
    """
    apart, block = np.zeros(BLOCKS + 1, np.int64), np.zeros(BLOCKS, np.int64)
    for i in range(len(rows)):
        for j in range(i):
            unlike = distance(rows, i, rows, j) if owners[i] != owners[j] else 0
            apart[unlike] += unlike > 0
            if unlike == 1:
                for b in range(BLOCKS):
                    block[b] += rows[i, b] != rows[j, b]
    return apart, block
