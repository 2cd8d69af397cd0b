"""Who asks: a bounded table of (client, model), each with a slot in every state array.

While at least half of the slots are free, everyone gets one at once. After that a client has to come back `admit_after`
times first (a count-min sketch keeps count, halved every epoch), and takes the slot of one that has been quiet since
the clock hand last passed (second chance, in stream order), never that of a client under suspicion unless nobody else
is left. So a million fresh ids cannot push out the one that matters; what they cost is counted.

Limit: the past of an evicted client is gone; it comes back as a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from detector.detectors import State
from detector.events import F32, I32, I64, U8, U64
from detector.kernel import kernel

DOOR_ROWS, DOOR_BITS = 4, 16
SUSPICIOUS = 1.0  # log10 e-value from which a client is not evicted


class Table(NamedTuple):
    """The slots and the index from key to slot."""

    key: U64  # [slots] 0 = free
    partition: I32  # [slots] where the client's events come from: its state moves with that partition
    touched: U8  # [slots] came since the hand passed
    chunk: I64  # [slots] number of the last chunk in which it came
    suspicion: F32  # [slots, families] the newest log10 e-value of each; one ≥ SUSPICIOUS protects
    places: I32  # [2^k] open addressing: slot + 1, 0 = empty
    free: I32  # [slots] stack of free slots
    door: U8  # [4, 2^16] how often unknown keys came
    scalars: I64  # [5] see below


FREE, HAND, CHUNK, EVICTED, TURNED_AWAY = range(5)


class Clients:
    """The table together with the state arrays that it clears, saves and restores."""

    def __init__(self, capacity: int, admit_after: int, states: Mapping[str, State], families: int = 1) -> None:
        size = 1 << int(np.ceil(np.log2(capacity * 2)))
        self.capacity = capacity
        self.admit_after = admit_after
        self.states = states
        self.table = Table(
            key=np.zeros(capacity, np.uint64),
            partition=np.zeros(capacity, np.int32),
            touched=np.zeros(capacity, np.uint8),
            chunk=np.zeros(capacity, np.int64),
            suspicion=np.zeros((capacity, families), np.float32),
            places=np.zeros(size, np.int32),
            free=np.arange(capacity, dtype=np.int32)[::-1].copy(),
            door=np.zeros((DOOR_ROWS, 1 << DOOR_BITS), np.uint8),
            scalars=np.array([capacity, 0, 0, 0, 0], np.int64),
        )
        self._used = np.zeros(capacity, np.bool_)  # slots that ever held someone: only those need clearing

    @property
    def followed(self) -> int:
        """How many clients have a slot now."""
        return self.capacity - int(self.table.scalars[FREE])

    @property
    def evicted(self) -> int:
        """How many clients lost their slot so far."""
        return int(self.table.scalars[EVICTED])

    @property
    def turned_away(self) -> int:
        """How many events came from clients without a slot so far."""
        return int(self.table.scalars[TURNED_AWAY])

    def chunks(self, key: U64, partition: I32) -> Iterator[tuple[int, int, I64]]:
        """Cut rows into chunks (start, stop, slots) within which no slot changes hands after it was used; −1 = no slot.

        Judge each chunk, and call `suspect`, before asking for the next: who may be evicted depends on it.
        """
        start = 0
        slots = np.empty(len(key), np.int64)
        taken = np.empty(len(key), np.int64)
        while start < len(key):
            self.table.scalars[CHUNK] += 1
            stop, new = _assign(start, key, partition, self.admit_after, self.table, slots, taken)
            fresh = taken[:new]
            self._clear(fresh[self._used[fresh]])
            self._used[fresh] = True
            yield start, stop, slots[start:stop]
            start = stop

    def suspect(self, slots: I64, evidence: F32) -> None:
        """Note the newest log10 e-values [families, n] of the clients in `slots` [n], in stream order.

        NaN changes nothing: neither a repeat nor a failed call lifts a suspicion.
        """
        _suspect(slots, evidence, self.table.suspicion)

    def age(self) -> None:
        """Halve the counts of clients that have no slot: called when an epoch of event time ends."""
        self.table.door[:] >>= 1

    def export(self, partition: int) -> dict[str, np.ndarray]:
        """Return everything known of one partition's clients as arrays by name."""
        slots = np.flatnonzero((self.table.key != 0) & (self.table.partition == partition))
        out = {f"client.{name}": getattr(self.table, name)[slots] for name in ("key", "touched", "suspicion")}
        scalars = self.table.scalars.copy()
        scalars[CHUNK] = 0  # depends on where batches were cut; numbers of chunks mean something within one run only
        out |= {"client.slot": slots, "client.door": self.table.door.copy(), "client.scalars": scalars}
        for name, array in self._arrays():
            out[f"state.{name}"] = array[slots]
        return out

    def restore(self, partition: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Take in what `export` gave; into an empty table every client gets its old slot back."""
        old, count = arrays["client.slot"], len(arrays["client.slot"])
        if count > self.table.scalars[FREE]:
            raise ValueError(f"{count} clients of partition {partition} do not fit: raise limits.clients")
        same = not self.table.key[old].any() if count and old.max() < self.capacity else count == 0
        free = self.table.free[: self.table.scalars[FREE]]
        slots = old if same else free[::-1][:count].astype(np.int64)
        self.table.key[slots] = arrays["client.key"]
        self.table.partition[slots] = partition
        self.table.touched[slots] = arrays["client.touched"]
        self.table.suspicion[slots] = arrays["client.suspicion"]
        np.maximum(self.table.door, arrays["client.door"], out=self.table.door)
        self.table.scalars[1:] = np.maximum(self.table.scalars[1:], arrays["client.scalars"][1:])
        for name, array in self._arrays():
            array[slots] = arrays[f"state.{name}"]
        self._used[slots] = True
        self._reindex()

    def drop(self, partition: int) -> None:
        """Forget the clients of a partition that another worker has taken over."""
        slots = np.flatnonzero((self.table.key != 0) & (self.table.partition == partition))
        self.table.key[slots] = 0
        self._clear(slots)
        self._reindex()

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for owner, state in self.states.items():
            for name in state._fields:
                yield f"{owner}.{name}", getattr(state, name)

    def _clear(self, slots: Sequence[int] | I64) -> None:
        for _, array in self._arrays():
            array[slots] = 0
        self.table.suspicion[slots] = 0

    def _reindex(self) -> None:
        taken = np.flatnonzero(self.table.key)
        free = np.flatnonzero(self.table.key == 0)[::-1]
        self.table.free[: len(free)] = free
        self.table.scalars[FREE] = len(free)
        self.table.places[:] = 0
        for slot in taken:
            _insert(self.table, int(slot))


@kernel
def _assign(
    start: int, key: U64, partition: I32, admit_after: int, table: Table, slots: I64, taken: I64
) -> tuple[int, int]:
    """Give every row its slot, up to the row that would evict someone used in this chunk; returns (stop, new slots)."""
    mask = np.uint64(len(table.places) - 1)
    new = 0
    for i in range(start, len(key)):
        slot = _find(table, key[i], mask)
        if slot < 0:
            slot = _admit(table, key[i], admit_after)
            if slot == -2:
                return i, new
            if slot >= 0:
                table.key[slot] = key[i]
                table.partition[slot] = partition[i]
                _insert(table, slot)
                taken[new] = slot
                new += 1
        if slot >= 0:
            table.touched[slot] = 1
            table.chunk[slot] = table.scalars[CHUNK]
        else:
            table.scalars[TURNED_AWAY] += 1
        slots[i] = slot
    return len(key), new


@kernel
def _suspect(slots: I64, evidence: F32, suspicion: F32) -> None:
    for k in range(len(evidence)):
        for i in range(len(slots)):
            if not np.isnan(evidence[k, i]):
                suspicion[slots[i], k] = evidence[k, i]


@kernel
def _find(table: Table, key: np.uint64, mask: np.uint64) -> int:
    place = key & mask
    while table.places[place]:
        slot = int(table.places[place]) - 1
        if table.key[slot] == key:
            return slot
        place = (place + np.uint64(1)) & mask
    return -1


@kernel
def _insert(table: Table, slot: int) -> None:
    mask = np.uint64(len(table.places) - 1)
    place = table.key[slot] & mask
    while table.places[place]:
        place = (place + np.uint64(1)) & mask
    table.places[place] = slot + 1


@kernel
def _remove(table: Table, slot: int) -> None:
    """Take a slot out of the index and close the gap (backward shift)."""
    mask = np.uint64(len(table.places) - 1)
    hole = table.key[slot] & mask
    while table.places[hole] != slot + 1:
        hole = (hole + np.uint64(1)) & mask
    place = hole
    while True:
        place = (place + np.uint64(1)) & mask
        if table.places[place] == 0:
            break
        home = table.key[table.places[place] - 1] & mask
        if ((place - home) & mask) >= ((place - hole) & mask):
            table.places[hole] = table.places[place]
            hole = place
    table.places[hole] = 0
    table.key[slot] = 0


@kernel
def _admit(table: Table, key: np.uint64, admit_after: int) -> int:
    """Return a slot for a new client, −1 to turn it away, −2 where the chunk has to end first."""
    capacity = len(table.key)
    free = table.scalars[FREE]
    if free * 2 < capacity and _knock(table.door, key, False) + 1 < admit_after:
        _knock(table.door, key, True)
        return -1
    if free > 0:
        table.scalars[FREE] -= 1
        return int(table.free[free - 1])
    for step in range(3 * capacity):
        slot = int(table.scalars[HAND])
        if table.touched[slot]:
            table.touched[slot] = 0
        elif table.chunk[slot] == table.scalars[CHUNK]:
            return -2
        elif table.suspicion[slot].max() < SUSPICIOUS or step > 2 * capacity:
            table.scalars[HAND] = (slot + 1) % capacity
            table.scalars[EVICTED] += 1
            _remove(table, slot)
            return slot
        table.scalars[HAND] = (slot + 1) % capacity
    return -1


@kernel
def _knock(door: U8, key: np.uint64, count: bool) -> int:
    """Estimate how often a key came (count-min), adding one where asked."""
    least = 255
    for row in range(DOOR_ROWS):
        place = (key >> np.uint64(row * DOOR_BITS)) & np.uint64((1 << DOOR_BITS) - 1)
        if count and door[row, place] < 255:
            door[row, place] += 1
        least = min(least, int(door[row, place]))
    return least
