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

from collections import Counter
from collections.abc import Mapping
from itertools import chain

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from detector.events import F32, I64, U64, EventBatch
from replay.anchors import Bools, Entry, Range, vectors

STEP = 50
KEPT = 50
MATCHES = 25
WINDOW, SMALL_WINDOW, SMALL = 50, 20, 1024


class Blacklight:
    """An index from hash to the queries that have it, for every model."""

    def __init__(self, pairs: int, ranges: Mapping[str, Range]) -> None:
        del pairs
        self._ranges = ranges
        self._indexes: dict[str, _Index] = {}
        self._alarms: list[int] = []

    def observe(self, batch: EventBatch, pair: I64, row: I64) -> None:
        """Look at answered calls with whole inputs, in stream order."""
        del pair
        for model, rows, x in vectors(batch, self._ranges):
            index = self._indexes.setdefault(model, _Index())
            for place, prints in zip(row[rows].tolist(), fingerprints(x), strict=True):
                if index.seen(frozenset(prints)):
                    self._alarms.append(place)

    def alarms(self, benign: Bools) -> I64:
        """Return the rows that share too much with an earlier one."""
        del benign
        return np.sort(np.array(self._alarms, np.int64))


class _Index:
    def __init__(self) -> None:
        self._queries: dict[int, list[int]] = {}
        self._known: set[frozenset[int]] = set()

    def seen(self, prints: frozenset[int]) -> bool:
        """Say whether an earlier query shares enough, and remember this one; equal fingerprints are kept once."""
        if prints in self._known:
            return True
        shared = Counter(chain.from_iterable(self._queries.get(h, ()) for h in prints))
        most = max(shared.values(), default=0)
        for h in prints:
            self._queries.setdefault(h, []).append(len(self._known))
        self._known.add(prints)
        return most >= min(MATCHES, -(-len(prints) // 2))


def window_of(width: int) -> int:
    """Return the window for inputs of that many values."""
    window = WINDOW if width >= SMALL else SMALL_WINDOW
    return max(1, min(window, width // 2))


def fingerprints(x: F32) -> list[list[int]]:
    """Return the (at most 50) largest hashes of each input [n, d], features in 0..1."""
    window = window_of(x.shape[1])
    quantised = np.round(x * 255 / STEP).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, window, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    sums: U64 = np.zeros((len(x), x.shape[1] - window + 1), np.uint64)
    windows = sliding_window_view(quantised, window, axis=1)
    for i in range(window):
        sums += windows[:, :, i] * factors[i]
    return [np.unique(row)[::-1][:KEPT].tolist() for row in _mixed(sums)]


def _mixed(x: U64) -> U64:
    """Spread the bits (the finaliser of splitmix64), so that the largest hashes are a random choice of windows."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


ANCHOR = Entry("blacklight", "Li et al., USENIX Security 2022", Blacklight)
