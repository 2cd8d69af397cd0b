"""What each client asked before: the geometry of a query against the client's own last 256.

For every event, in order: is it an exact repeat, how long is the step, does it turn back, what is the nearest earlier
query, and which *thread* does it join? A fresh query joins the thread of its nearest fresh query if that is close
enough; dummy queries in between do not break a thread, so steps inside it are those of one purpose.

Cost: one search over 256 sketches of 32 numbers an event (about 1 µs); 20 kB a client.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detector.detectors import References
from detector.events import F32, F64, I16, I32, I64, U8, U32, U64
from detector.kernel import in_place
from detector.ring import WINDOW, distances, least, newest_with
from detector.sketch import DIMENSIONS

NEAR = 64  # window of `near`
TIGHT = 128  # window of tight threads
WIDE_R, TIGHT_R = 2.0, 0.3  # thread radii, r0
CHAINS = 3  # radii of chains: 5 %, 20 % and 50 % of how near benign rows are to each other


class HistoryState(NamedTuple):
    """One row a client slot; all-zero = new."""

    ring: I16  # [slots, 32, 256] sketches of fresh queries, newest at (fresh − 1) % 256
    digests: U32  # [slots, 256] upper half of the digests of fresh queries
    wide: I32  # [slots, 256] thread number of each (number of its first query + 1)
    tight: I32  # [slots, 128]
    chain: I16  # [slots, 3, 256] how many queries before each its chain of near ones began, one row a radius
    fresh: I64  # [slots] fresh queries so far
    queries: I64  # [slots] all queries so far, with or without input
    since_us: I64  # [slots] event time of the first query
    last_digest: U64  # [slots]
    run: I32  # [slots] length of the current run of one input


class Geometry(NamedTuple):
    """Columns [n] of `detectors.View`, one row an event."""

    queries: I64
    since_us: I64
    usable: U8
    fresh: U8
    step: F32
    cosine: F32
    near: F32
    joined: F32
    age: I32
    span: I32
    origin: F32
    number: I64
    founder: I32
    path: U8
    thread: F32
    tight: F32
    tight_joined: U8
    record: I32
    run: I32


def history_state(capacity: int) -> HistoryState:
    """Return state for that many clients; untouched rows cost no memory."""
    return HistoryState(
        ring=np.zeros((capacity, DIMENSIONS, WINDOW), np.int16),
        digests=np.zeros((capacity, WINDOW), np.uint32),
        wide=np.zeros((capacity, WINDOW), np.int32),
        tight=np.zeros((capacity, TIGHT), np.int32),
        chain=np.zeros((capacity, CHAINS, WINDOW), np.int16),
        fresh=np.zeros(capacity, np.int64),
        queries=np.zeros(capacity, np.int64),
        since_us=np.zeros(capacity, np.int64),
        last_digest=np.zeros(capacity, np.uint64),
        run=np.zeros(capacity, np.int32),
    )


def observe(
    sketch: I16,
    usable: U8,
    digest: U64,
    time_us: I64,
    slot: I64,
    reference: I32,
    scales: References,
    state: HistoryState,
) -> Geometry:
    """Measure every event against its client's own past, then remember it."""
    n = len(slot)
    blank = np.full((7, n), np.nan, np.float32)
    geometry = Geometry(
        queries=np.zeros(n, np.int64),
        since_us=np.zeros(n, np.int64),
        usable=usable,
        fresh=np.zeros(n, np.uint8),
        step=blank[0],
        cosine=blank[1],
        near=blank[2],
        joined=blank[3],
        age=np.zeros(n, np.int32),
        span=np.zeros(n, np.int32),
        origin=blank[6],
        number=np.zeros(n, np.int64),
        founder=np.zeros(n, np.int32),
        path=np.zeros(n, np.uint8),
        thread=blank[4],
        tight=blank[5],
        tight_joined=np.zeros(n, np.uint8),
        record=np.zeros(n, np.int32),
        run=np.zeros(n, np.int32),
    )
    _observe(
        sketch,
        digest,
        time_us,
        slot,
        scales.r0[reference],
        (np.stack((scales.q05, scales.q20, scales.q50), axis=1) / scales.r0[:, None])[reference],
        state,
        np.empty(WINDOW, np.float32),
        np.empty(DIMENSIONS, np.float32),
        geometry,
    )
    return geometry


@in_place
def _observe(
    sketch: I16,
    digest: U64,
    time_us: I64,
    slot: I64,
    r0: F64,
    close: F64,
    state: HistoryState,
    squared: F32,
    gap: F32,
    out: Geometry,
) -> None:
    for i in range(len(slot)):
        c = slot[i]
        if state.queries[c] == 0:
            state.since_us[c] = time_us[i]
        state.queries[c] += 1
        out.queries[i] = state.queries[c]
        out.since_us[i] = state.since_us[c]
        if digest[i]:
            state.run[c] = state.run[c] + 1 if digest[i] == state.last_digest[c] else 1
            state.last_digest[c] = digest[i]
            out.run[i] = state.run[c]
        if not out.usable[i] or _repeats(
            state.digests[c], min(state.fresh[c], WINDOW), np.uint32(digest[i] >> np.uint64(32))
        ):
            continue
        out.fresh[i] = 1
        _measure(i, c, sketch[i], r0[i], close[i], state, squared, gap, out)
        out.number[i] = state.fresh[c] + 1
        out.founder[i] = state.wide[c, state.fresh[c] % WINDOW]
        out.record[i] = state.tight[c, state.fresh[c] % TIGHT]
        _remember(c, sketch[i], digest[i], state)


@in_place
def _repeats(digests: U32, known: int, digest: np.uint32) -> bool:
    hits = 0
    for w in range(known):
        hits += digests[w] == digest
    return hits > 0


@in_place
def _measure(
    i: int, c: int, x: I16, r0: float, close: F64, state: HistoryState, squared: F32, gap: F32, out: Geometry
) -> None:
    fresh = state.fresh[c]
    place = fresh % WINDOW
    known = min(fresh, WINDOW)
    wide, tight_thread = np.int32(fresh + 1), np.int32(fresh + 1)  # of its own, unless it joins one
    if known == 0:
        state.wide[c, place], state.tight[c, place % TIGHT], state.chain[c, :, place] = wide, tight_thread, 0
        return
    ring = state.ring[c]
    distances(ring, x, squared)
    newest = (fresh - 1) % WINDOW
    out.step[i] = np.sqrt(squared[newest]) / r0
    if fresh >= 2:
        _between(ring, (fresh - 2) % WINDOW, newest, gap)
        out.cosine[i] = _turn(ring, newest, x, gap)
    ordered = squared.view(np.int32)
    tight = least(ordered, fresh, 1, min(known, TIGHT))
    joined = min(tight, least(ordered, fresh, TIGHT + 1, known))
    out.near[i] = _length(least(ordered, fresh, 2, min(known, NEAR))) / r0
    out.joined[i] = _length(joined) / r0
    nearest = newest_with(ordered, fresh, joined)
    out.age[i] = (fresh - nearest - 1) % WINDOW + 1
    out.span[i] = known
    for radius in range(CHAINS - 1, -1, -1):  # the narrowest that joins decides
        joins = out.joined[i] < close[radius]
        length = min(state.chain[c, radius, nearest] + out.age[i], WINDOW) if joins else 0  # longer ones all span alike
        state.chain[c, radius, place] = length
        if joins:
            out.span[i] = min(known, length)
    if out.joined[i] < WIDE_R:
        wide = state.wide[c, nearest]
        head, cosine = _thread_turn(state.wide[c], fresh, known, nearest, ring, x, gap)
        out.thread[i] = cosine
        if fresh + 1 - wide < WINDOW:
            out.origin[i] = np.sqrt(squared[(wide - 1) % WINDOW]) / r0
        small = np.sqrt(squared[head]) / r0 < 0.5
        out.path[i] = small and (nearest == head or cosine > -0.1)
    if _length(tight) / r0 < TIGHT_R:
        tightest = newest_with(ordered, fresh, tight)
        tight_thread = state.tight[c, tightest % TIGHT]
        out.tight_joined[i] = 1
        out.tight[i] = _thread_turn(state.tight[c], fresh, known, tightest, ring, x, gap)[1]
    # last, because the place still held the oldest query
    state.wide[c, place], state.tight[c, place % TIGHT] = wide, tight_thread


@in_place
def _length(bits: int) -> float:
    """Return the distance whose square has these bits; infinity where there was none."""
    return float(np.sqrt(np.int32(bits).view(np.float32)))


@in_place
def _thread_turn(threads: I32, fresh: int, known: int, member: int, ring: I16, x: I16, gap: F32) -> tuple[int, float]:
    """Return the place of the thread's newest query and the cosine of the last two steps inside the thread."""
    head = -1
    mask = len(threads) - 1  # a power of two, less one
    thread = threads[member & mask]
    for age in range(1, min(known, mask + 1) + 1):
        if threads[(fresh - age) & mask] == thread:
            w = (fresh - age) % WINDOW
            if head >= 0:
                _between(ring, w, head, gap)
                return head, _turn(ring, head, x, gap)
            head = w
    return head, np.nan


@in_place
def _between(ring: I16, start: int, stop: int, gap: F32) -> None:
    """Write the step from one place to another into `gap`."""
    for k in range(DIMENSIONS):
        gap[k] = np.float32(ring[k, stop]) - np.float32(ring[k, start])


@in_place
def _turn(ring: I16, at: int, x: I16, before: F32) -> float:
    """Return the cosine between the step from place `at` to x and the step before; NaN where one has no length."""
    dot, here, there = 0.0, 0.0, 0.0
    for k in range(DIMENSIONS):
        gap = float(x[k]) - float(ring[k, at])
        dot += gap * float(before[k])
        here += gap * gap
        there += float(before[k]) * float(before[k])
    return float(dot / np.sqrt(here * there)) if here > 0.0 and there > 0.0 else np.nan


@in_place
def _remember(c: int, x: I16, digest: int, state: HistoryState) -> None:
    fresh = state.fresh[c]
    place = fresh % WINDOW
    for k in range(DIMENSIONS):
        state.ring[c, k, place] = x[k]
    state.digests[c, place] = np.uint32(digest >> np.uint64(32))
    state.fresh[c] = fresh + 1
