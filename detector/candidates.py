"""Rows for a model's reference: its first ones, then an epoch's fresh rows with the smallest keyed hashes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from river import stats

from detector.blocks import BLOCKS
from detector.events import I16, I64, U8, U64, EventBatch, InputLevel
from detector.sketch import DIMENSIONS

Flags = NDArray[np.bool_] | U8
ROWS = 256
PER_CLIENT = 16  # rows of one client at most


@dataclass(slots=True)
class Waiting:
    """A model's first events, kept until the reference can be made."""

    parts: list[EventBatch] = field(default_factory=list)
    order: list[int] = field(default_factory=list)  # number of arrival of each row of the parts
    events: int = 0
    numbers: int = 0
    first_us: int = 0
    digests: set[int] = field(default_factory=set)
    per_client: Counter[int] = field(default_factory=Counter)
    rows: int = 0
    asks: bool = False  # whether the last row calls for a look at the model's other versions

    def batch(self) -> EventBatch:
        """Return the events as they came, also where partitions were taken over one after the other."""
        return EventBatch.concat(self.parts).take(np.argsort(self.order, kind="stable"))

    def count(self, batch: EventBatch, i: int, number: int) -> bool:
        """Count row i, which came as that number; true where it is one more fresh row."""
        if not self.events:
            self.first_us = int(batch.time_us[i])
        self.order.append(number)
        self.events += 1
        self.numbers += int(batch.input.offsets[i + 1] - batch.input.offsets[i])
        client, digest = int(batch.client_key[i]), int(batch.input_digest[i])
        if usable_row(batch, i) and digest not in self.digests and self.per_client[client] < PER_CLIENT:
            self.digests.add(digest)
            self.per_client[client] += 1
            self.rows += 1
            return True
        return False


@dataclass(slots=True)
class Learning:
    """Candidates for the next epoch's rows: the smallest keyed hashes of fresh rows, in order."""

    hashes: U64 = field(default_factory=lambda: np.empty(0, np.uint64))
    clients: U64 = field(default_factory=lambda: np.empty(0, np.uint64))
    rows: I16 = field(default_factory=lambda: np.empty((0, DIMENSIONS), np.int16))
    blocks: U8 = field(default_factory=lambda: np.empty((0, BLOCKS), np.uint8))
    trained: U8 = field(default_factory=lambda: np.empty(0, np.uint8))
    minutes: stats.Var = field(default_factory=stats.Var)  # of ln(1 + queries) over active minutes; holds its mean too


def bound(learning: Learning) -> int:
    """Return the hash below which another row would be kept."""
    return int(learning.hashes[-1]) if len(learning.hashes) >= ROWS else (1 << 64) - 1


def keep(learning: Learning, hashes: U64, clients: U64, rows: I16, blocks: U8, trained: Flags) -> None:
    """Keep the ROWS smallest hashes, at most PER_CLIENT of one client; of equal ones those that came first.

    Whoever is passed over once would be passed over again: cutting the stream elsewhere changes nothing.
    """
    hashes = np.concatenate([learning.hashes, hashes])
    order = np.argsort(hashes, kind="stable")
    clients = np.concatenate([learning.clients, clients])[order]
    together = np.argsort(clients, kind="stable")
    first = np.flatnonzero(np.diff(clients[together], prepend=~clients[together[:1]]))
    rank = np.empty(len(order), np.int64)  # of a row among its client's
    rank[together] = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    kept = np.flatnonzero(rank < PER_CLIENT)[:ROWS]
    learning.hashes, learning.clients = hashes[order[kept]], clients[kept]
    learning.rows = np.concatenate([learning.rows, rows])[order[kept]]
    learning.blocks = np.concatenate([learning.blocks, blocks])[order[kept]]
    learning.trained = np.concatenate([learning.trained, trained]).astype(np.uint8)[order[kept]]


def usable_row(batch: EventBatch, i: int) -> bool:
    """Tell whether a row holds an input that geometry can use."""
    return bool(batch.input_level[i] >= InputLevel.SKETCH and batch.status[i] < 400)


def first_rows(batch: EventBatch) -> I64:
    """Return the distinct usable rows, at most 16 of one client."""
    seen: set[int] = set()
    per_client: Counter[int] = Counter()
    rows = []
    for i in range(len(batch)):
        client, digest = int(batch.client_key[i]), int(batch.input_digest[i])
        if usable_row(batch, i) and digest not in seen and per_client[client] < PER_CLIENT:
            seen.add(digest)
            per_client[client] += 1
            rows.append(i)
    return np.array(rows, np.int64)


def unseen(rows: I16, known: I16) -> I64:
    """Return which rows are not among the known ones, nor twice among themselves, in order.

    The same record from many clients would make the reference look dense where it is only popular.
    """
    seen = {row.tobytes() for row in known}
    found = []
    for i, row in enumerate(rows):
        if (key := row.tobytes()) not in seen:
            seen.add(key)
            found.append(i)
    return np.array(found, np.int64)
