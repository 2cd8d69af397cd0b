"""A plain source seen as partitions that come once and stay: a capture has no group, no commits and no rebalance."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from detector.events import Records
from detector.sources import Change, Source, Start


class Whole:
    """Wraps a plain source for the loop.

    `partitions` names what the source holds, so that the merge waits for each of them; partitions that were not named
    join when their first record is seen.
    """

    generation = 0

    def __init__(self, source: Source, name: str, partitions: Collection[int] = ()) -> None:
        self.name = name
        self._source = source
        self._known: set[int] = set()
        self._new = sorted(partitions)

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        """Return the next records, None at the end."""
        records = self._source.poll(max_records, timeout_s)
        if records is not None:
            self._new += sorted(set(records.partitions) - self._known - set(self._new))
        return records

    def changes(self) -> list[Change]:
        """Return the partitions seen for the first time."""
        new, self._new = tuple(self._new), []
        self._known.update(new)
        return [Change("assigned", new)] if new else []

    def committed(self, partition: int) -> None:
        """Nothing is ever committed."""
        del partition

    def start(self, partition: int, offset: int | None) -> Start:
        """The source begins where it begins."""
        del partition
        return Start(offset or 0)

    def pause(self, partitions: Collection[int]) -> None:
        """One file holds all partitions: reading part of it is not possible, so the merge holds what is ahead."""
        del partitions

    def ended(self) -> Collection[int]:
        """Only the end of the source ends a partition."""
        return ()

    def lag(self, offsets: Mapping[int, int]) -> int:
        """Unknown until the end; 0."""
        del offsets
        return 0

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Nothing to record."""
        self._source.commit(offsets)

    def close(self) -> None:
        """Close the wrapped source."""
        self._source.close()
