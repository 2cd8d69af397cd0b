"""Several partitions become one stream in event time, in an order that only their contents decide.

A partition's *progress* is the running maximum of its event times. Rows leave in the order (progress, partition,
position). A row leaves once no other partition can still bring a row that sorts before it: the other's progress is
past it, or the other is idle (at its end for a while, as the caller declares). How polls cut the partitions changes
when rows leave, never their order; only idleness can, because it says "do not wait".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from detector.events import I64, EventBatch

NO_PROGRESS = int(np.iinfo(np.int64).min)  # a partition of which nothing has been read
_ALL = int(np.iinfo(np.int64).max)


class _Part(NamedTuple):
    """Rows of one partition that wait, with the progress of each."""

    batch: EventBatch
    progress: I64


@dataclass(slots=True)
class _Partition:
    """What waits of one partition, oldest first."""

    progress: int = NO_PROGRESS  # of everything read
    released: int = NO_PROGRESS  # of everything released
    parts: deque[_Part] = field(default_factory=deque)
    rows: int = 0
    bytes: int = 0

    def push(self, part: _Part) -> None:
        self.parts.append(part)
        self.rows += len(part.batch)
        self.bytes += _size(part.batch)
        self.progress = int(part.progress[-1])

    def cut(self, watermark: int, *, inclusive: bool) -> list[_Part]:
        """Remove and return the rows before the watermark (`inclusive`: those at it too)."""
        taken: list[_Part] = []
        while self.parts:
            batch, progress = self.parts[0]
            stop = int(np.searchsorted(progress, watermark, side="right" if inclusive else "left"))
            if stop == 0:
                break
            part = _Part(batch.slice(0, stop), progress[:stop])
            taken.append(part)
            self.rows -= stop
            self.bytes -= _size(part.batch)
            self.released = int(progress[stop - 1])
            if stop < len(batch):
                self.parts[0] = _Part(batch.slice(stop, len(batch)), progress[stop:])
                break
            self.parts.popleft()
        return taken


class Merge:
    """The event-time merge of the partitions that this worker holds.

    `max_rows` and `max_bytes` bound what waits of one partition: `ahead` names the partitions to pause. The partition
    that everyone waits for holds no rows, so it is never paused and the merge cannot lock up.
    """

    def __init__(self, *, max_rows: int = 20_000, max_bytes: int = 64 << 20) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._partitions: dict[int, _Partition] = {}
        self._idle: frozenset[int] = frozenset()

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions held, in ascending order."""
        return tuple(sorted(self._partitions))

    def assign(self, partition: int, progress_us: int = NO_PROGRESS) -> None:
        """Start to wait for a partition; `progress_us` is what its checkpoint holds."""
        self._partitions[partition] = _Partition(progress=progress_us, released=progress_us)

    def drop(self, partition: int) -> None:
        """Stop waiting for a partition and forget its rows: its next owner reads them again."""
        self._partitions.pop(partition, None)

    def declare_idle(self, partitions: Iterable[int]) -> None:
        """Name the partitions that hold back nobody until they bring rows again; replaces the last declaration."""
        self._idle = frozenset(partitions)

    def add(self, batch: EventBatch) -> None:
        """Take rows as they were read: those of one partition side by side, a record's instances together."""
        if len(batch) == 0:
            return
        edges = np.flatnonzero(np.diff(batch.partition)) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(batch)]):
            run = batch.slice(start, stop)
            held = self._partitions.get(int(run.partition[0]))
            if held is not None:
                held.push(_Part(run, _progress(run, held.progress)))

    def release(self, *, everything: bool = False) -> EventBatch | None:
        """Return the rows that may go now, in their one order; None where there are none.

        `everything` is for the end of a finite stream: nothing more can come.
        """
        holding = [(held.progress, p) for p, held in self._partitions.items() if not everything and p not in self._idle]
        watermark, slowest = min(holding, default=(_ALL, _ALL))
        taken: list[_Part] = []
        for p in sorted(self._partitions):
            # at the watermark itself, the slowest partition's next row sorts after lower partitions' rows and its own
            taken += self._partitions[p].cut(watermark, inclusive=p <= slowest)
        return _in_order(taken)

    def ahead(self) -> frozenset[int]:
        """Name the partitions whose waiting rows fill their share of memory: read no more of them for now."""
        return frozenset(
            p for p, held in self._partitions.items() if held.rows >= self._max_rows or held.bytes >= self._max_bytes
        )

    def rows(self) -> int:
        """Count the rows that wait."""
        return sum(held.rows for held in self._partitions.values())

    def first_waiting(self, partition: int) -> int | None:
        """Return the offset of the partition's oldest waiting record: where a restart has to read on."""
        parts = self._partitions[partition].parts
        return int(parts[0].batch.offset[0]) if parts else None

    def progress(self, partition: int) -> int:
        """Return the progress of what was released, for the partition's checkpoint."""
        return self._partitions[partition].released


def _progress(run: EventBatch, before: int) -> I64:
    """Return the running maximum of the event times, the same for all instances of a record."""
    progress = np.maximum(np.maximum.accumulate(run.time_us), before)
    last = np.append(np.flatnonzero(np.diff(run.offset)), len(run) - 1)  # each record's last row
    if len(last) == len(run):
        return progress
    return np.repeat(progress[last], np.diff(last, prepend=-1))


def _in_order(taken: list[_Part]) -> EventBatch | None:
    if not taken:
        return None
    batch = EventBatch.concat([part.batch for part in taken])
    if len({int(part.batch.partition[0]) for part in taken}) == 1:
        return batch
    progress = np.concatenate([part.progress for part in taken])
    return batch.take(np.argsort(progress, kind="stable"))  # parts come by partition, so ties stay in its order


def _size(batch: EventBatch) -> int:
    values = int(batch.input.offsets[-1] - batch.input.offsets[0]) + int(
        batch.scores.offsets[-1] - batch.scores.offsets[0]
    )
    return 4 * values + 400 * len(batch)  # 400: the other columns and the texts, roughly
