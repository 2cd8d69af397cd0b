"""A log in memory with partitions, committed offsets and rebalances on order: all that the loop needs of Kafka."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from detector.events import Records
from detector.sources import Change, SourceUnavailableError, Start
from tests.toy import as_records


@dataclass
class MemoryLog:
    """Outlives the sources that read it, as a topic outlives its consumers."""

    values: dict[int, list[bytes]]
    committed: dict[int, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)  # where the log begins, after retention

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, bytes]]) -> MemoryLog:
        values: dict[int, list[bytes]] = {}
        for partition, _, value in rows:
            values.setdefault(partition, []).append(value)
        return cls(values)


class MemorySource:
    """One member of the group. It ends (`poll` gives None) once all its partitions are read, unless `endless`."""

    name = "toy"
    generation = 1

    def __init__(
        self, log: MemoryLog, partitions: Collection[int] | None = None, *, step: int = 100, endless: bool = False
    ) -> None:
        self.log = log
        self.commits: list[dict[int, int]] = []
        self.unavailable = False
        self.closed = False
        self.paused: Collection[int] = ()
        self._step = step
        self._endless = endless
        self._positions: dict[int, int] = {}
        self._changes: list[Change] = []
        self._due: list[Change] = [Change("assigned", tuple(partitions or log.values))]

    def rebalance(self, kind: Literal["assigned", "revoked", "lost"], *partitions: int) -> None:
        """Let partitions come or go during the next poll."""
        self._due.append(Change(kind, partitions))

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        del timeout_s
        if self._due:
            self._changes, self._due = self._due, []
            for change in self._changes:
                for partition in change.partitions:
                    self._positions.pop(partition, None)
            return as_records([])
        rows = []
        for partition, position in self._positions.items():
            if partition not in self.paused:
                stop = min(position + min(self._step, max_records), len(self.log.values[partition]))
                rows += [(partition, o, self.log.values[partition][o]) for o in range(position, stop)]
                self._positions[partition] = stop
        if rows or self._endless or self.paused or not self._positions:
            return as_records(rows)
        return None

    def changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    def committed(self, partition: int) -> int | None:
        if self.unavailable:
            raise SourceUnavailableError("the log is away")
        return self.log.committed.get(partition)

    def start(self, partition: int, offset: int | None) -> Start:
        first, end = self.log.first.get(partition, 0), len(self.log.values[partition])
        wanted = first if offset is None else offset
        start = Start(first, -1) if wanted > end else Start(max(wanted, first), max(0, first - wanted))
        self._positions[partition] = start.offset
        return start

    def pause(self, partitions: Collection[int]) -> None:
        self.paused = partitions

    def ended(self) -> Collection[int]:
        return [p for p, position in self._positions.items() if position == len(self.log.values[p])]

    def lag(self, offsets: Mapping[int, int]) -> int:
        return sum(len(self.log.values[p]) - offset for p, offset in offsets.items())

    def commit(self, offsets: Mapping[int, int]) -> None:
        if self.unavailable:
            raise SourceUnavailableError("the log is away")
        self.log.committed.update(offsets)
        self.commits.append(dict(offsets))

    def close(self) -> None:
        self.closed = True
