"""Foreign logs to columns: the adapter reads, halves are joined, calls become rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from detector.events import DeadLetter, Decoded, EventBatch, Reason, Records
from detector.formats.calls import Message, Options, Read, message, rows_of
from detector.formats.columns import ClientKeys, Row, dead_letter, to_batch
from detector.formats.join import Joiner, Place, Placed
from detector.formats.record import RecordError


class Reader:
    """Decodes the records of one log. Halves of calls wait between the batches, so keep one reader for a stream."""

    def __init__(
        self, read: Callable[[Message, Options], Read], options: Options, keys: ClientKeys, joiner: Joiner | None = None
    ) -> None:
        self.joiner = joiner or Joiner()
        self._read, self._options, self._keys = read, options, keys
        self._topic = ""

    def __call__(self, records: Records) -> Decoded:
        """Return the events that these records complete, and a dead letter for each record that could not be read."""
        self._topic = records.topic
        placed: list[Placed] = []
        refused: list[DeadLetter] = []
        skipped = 0
        for i, value in enumerate(records.values):
            if not value:
                skipped += 1
                continue
            try:
                calls, bad = self._read(message(records, i, self._options.limits), self._options)
            except RecordError as fault:
                refused.append(dead_letter(records, i, fault.reason, str(fault)))
                continue
            if bad:
                refused.append(dead_letter(records, i, Reason.INVALID_EVENT, "entries that are no calls", bad))
            for k, call in enumerate(calls):
                place = Place(records.partitions[i], records.offsets[i], k * self._options.limits.max_instances)
                placed += self.joiner.add(call, place, len(value))
        return Decoded(self._batch(placed), refused, skipped)

    def rest(self) -> EventBatch:
        """Return what still waited for its other half, at the end of the log."""
        return self._batch(self.joiner.rest())

    def _batch(self, placed: list[Placed]) -> EventBatch:
        rows: list[Row] = []
        numbers = count()
        for call, place in placed:
            rows += rows_of(call, next(numbers), place.first, self._options)
        partitions, offsets = [p.place.partition for p in placed], [p.place.offset for p in placed]
        return to_batch(rows, Records(self._topic, partitions, offsets, [None] * len(placed)), self._keys)
