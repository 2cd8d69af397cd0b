"""Blacklight: queries of one attack share most of their fingerprint, whoever sends them.

Li, Shan, Wenger, Zhang, Zheng & Zhao, "Blacklight: Scalable Defense for Neural Networks against Query-Based Black-Box
Attacks", USENIX Security 2022. An input is quantised in steps of 50 (of 0..255); every window of w successive values,
moved by one, is hashed; the 50 largest hashes are the fingerprint. A query that shares 25 or more of them with any
earlier query to the model, of any client, raises an alarm.

w is 50, and 20 for small inputs (below 1,024 values), as in the paper. Hashes are random linear ones of 64 bits
instead of salted SHA-256: collisions are as rare, and nobody attacks the hash here. Out of its element: anything but
images. A table of d ≤ 40 columns gets windows of d/2, and where there are fewer than 50 hashes, half of them have to
match; five steps for the range of a feature then make many honest records of a table alike. It raises alarms for
honest repeats, explainers and video frames by design.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from detector.events import F32, F64, I32, I64, U64, EventBatch
from detector.kernel import kernel
from replay.anchors import Bools, Entry, Judged, Range, vectors

STEP = 50
KEPT = 50
MATCHES = 25
WINDOW, SMALL_WINDOW, SMALL = 50, 20, 1024


class Blacklight:
    """An index from hash to the queries that have it, for every model."""

    def __init__(self, pairs: int, ranges: Mapping[str, Range]) -> None:
        del pairs
        self._ranges = ranges
        self._indexes: dict[str, Index] = {}
        self._shared: list[tuple[I64, F64]] = []

    def observe(self, batch: EventBatch, pair: I64, row: I64) -> None:
        """Look at answered calls with whole inputs, in stream order."""
        del pair
        for model, rows, x in vectors(batch, self._ranges):
            index = self._indexes.setdefault(model, Index())
            self._shared.append((row[rows], index.shared(fingerprints(x))))

    def judged(self, benign: Bools) -> Judged:
        """Return how much every query shared with an earlier one."""
        del benign
        return Judged.joined(self._shared)


class Index:
    """From hash to the queries that have it: open addressing, and for each hash a chain of queries, newest first."""

    def __init__(self) -> None:
        self._key: U64 = np.zeros(1 << 10, np.uint64)  # 0 = free
        self._head: I32 = np.zeros(1 << 10, np.int32)  # first link of the chain
        self._next: I32 = np.zeros(1 << 10, np.int32)
        self._query: I32 = np.zeros(1 << 10, np.int32)
        self._sizes: I64 = np.zeros(3, np.int64)  # hashes, links, queries

    def shared(self, prints: U64) -> F64:
        """Return the most that each query [n] shares with an earlier one, 1 = as much as an alarm takes.

        All are remembered. `prints` [n, k] are distinct hashes; 0 fills up rows that have fewer.
        """
        self._grow(prints.size)
        shared = np.zeros(int(self._sizes[2]) + len(prints), np.int32)
        found = np.zeros(len(prints))
        _match(prints, self._key, self._head, self._next, self._query, self._sizes, shared, found)
        return found

    def _grow(self, more: int) -> None:
        """Make room for so many new hashes and links, the table at most half full."""
        while 2 * (self._sizes[0] + more) > len(self._key):
            key, head = np.zeros(2 * len(self._key), np.uint64), np.zeros(2 * len(self._key), np.int32)
            _rehash(self._key, self._head, key, head)
            self._key, self._head = key, head
        while self._sizes[1] + more > len(self._next):
            self._next = np.concatenate([self._next, np.zeros_like(self._next)])
            self._query = np.concatenate([self._query, np.zeros_like(self._query)])


@kernel
def _place(key: U64, h: np.uint64) -> np.int64:
    """Return where a hash lies in the table, or the free place for it."""
    mask = len(key) - 1
    i = np.int64(h & np.uint64(mask))
    while key[i] != 0 and key[i] != h:
        i = (i + 1) & mask
    return i


@kernel
def _rehash(old: U64, old_head: I32, key: U64, head: I32) -> None:
    for i in range(len(old)):
        if old[i] != 0:
            at = _place(key, old[i])
            key[at] = old[i]
            head[at] = old_head[i]


@kernel
def _match(prints: U64, key: U64, head: I32, following: I32, query: I32, sizes: I64, shared: I32, found: F64) -> None:
    """Count for each query what it shares with every earlier one, then add it. `shared` is 0 between queries.

    Links are numbered from 1, 0 ends a chain. A fingerprint that an earlier query has in full is not added again.
    """
    for row in range(len(prints)):
        own = 0
        most = 0
        for h in prints[row]:
            own += h != 0
        for h in prints[row]:
            link = head[_place(key, h)] if h != 0 else 0
            while link > 0:
                other = query[link - 1]
                shared[other] += 1
                most = max(most, shared[other])
                link = following[link - 1]
        found[row] = most / min(MATCHES, (own + 1) // 2) if own > 0 else 0.0
        whole = most == own
        for h in prints[row]:
            if h == 0:
                continue
            at = _place(key, h)
            link = head[at]
            while link > 0:
                shared[query[link - 1]] = 0
                link = following[link - 1]
            if whole:
                continue
            if key[at] == 0:
                key[at] = h
                sizes[0] += 1
            following[sizes[1]] = head[at]
            query[sizes[1]] = sizes[2]
            sizes[1] += 1
            head[at] = sizes[1]
        sizes[2] += not whole


def window_of(width: int) -> int:
    """Return the window for inputs of that many values."""
    window = WINDOW if width >= SMALL else SMALL_WINDOW
    return max(1, min(window, width // 2))


def fingerprints(x: F32) -> U64:
    """Return [n, 50] the largest hashes of each input [n, d], features in 0..1; 0 where it has fewer different ones."""
    window = window_of(x.shape[1])
    quantised = np.round(x * 255 / STEP).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, window, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    sums: U64 = np.ones((len(x), x.shape[1] - window + 1), np.uint64)
    windows = sliding_window_view(quantised, window, axis=1)
    for i in range(window):
        sums += windows[:, :, i] * factors[i]
    hashes = np.sort(_mixed(sums), axis=1)
    hashes[:, 1:][hashes[:, 1:] == hashes[:, :-1]] = 0
    return np.sort(hashes, axis=1)[:, ::-1][:, :KEPT]


def _mixed(x: U64) -> U64:
    """Spread the bits (the finaliser of splitmix64), so that the largest hashes are a random choice of windows."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


ANCHOR = Entry("blacklight", "Li et al., USENIX Security 2022", Blacklight, ("adversarial_search",))
