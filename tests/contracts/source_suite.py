"""What every source must do. A source joins by a subclass of `SourceContract` whose fixture `open_source` opens it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from detector.events import Records
from detector.sources import Source

OpenSource = Callable[[Sequence[bytes]], Source]  # opens a finite source that holds these values, in this order
VALUES = [f'{{"line":{i}}}'.encode() for i in range(250)]


def drain(source: Source, max_records: int, timeout_s: float = 60.0) -> list[Records]:
    """Poll until the end of a finite source; empty answers on the way are allowed."""
    polls: list[Records] = []
    deadline = time.monotonic() + timeout_s
    while (records := source.poll(max_records, 0.2)) is not None:
        assert time.monotonic() < deadline, "the source never said that it is at its end"
        polls.append(records)
    return polls


class SourceContract:
    @pytest.fixture
    def open_source(self) -> OpenSource:
        raise NotImplementedError

    def test_every_record_is_handed_over_once_byte_for_byte(self, open_source: OpenSource) -> None:
        source = open_source(VALUES)
        values = [value for records in drain(source, 40) for value in records.values]
        source.close()
        assert sorted(value or b"" for value in values) == sorted(VALUES)

    def test_each_partition_keeps_its_order_and_its_offsets_grow(self, open_source: OpenSource) -> None:
        source = open_source(VALUES)
        seen: dict[int, list[tuple[int, int]]] = {}
        for records in drain(source, 40):
            for partition, offset, value in zip(records.partitions, records.offsets, records.values, strict=True):
                seen.setdefault(partition, []).append((offset, VALUES.index(value or b"")))
        source.close()
        for positions in seen.values():
            assert positions == sorted(positions)
            assert len({offset for offset, _ in positions}) == len(positions)

    def test_a_poll_never_returns_more_than_asked_for(self, open_source: OpenSource) -> None:
        source = open_source(VALUES)
        assert max(len(records.values) for records in drain(source, 7)) <= 7
        source.close()

    def test_columns_of_a_poll_have_one_length(self, open_source: OpenSource) -> None:
        source = open_source(VALUES)
        for records in drain(source, 60):
            columns = (records.partitions, records.offsets, records.timestamps_ms, records.keys, records.headers)
            assert {len(column) for column in columns if column is not None} <= {len(records.values)}
            assert records.topic
        source.close()

    def test_an_empty_source_ends(self, open_source: OpenSource) -> None:
        source = open_source([])
        assert not [value for records in drain(source, 10) for value in records.values]
        source.close()

    def test_commit_takes_what_was_polled_and_close_may_be_called_twice(self, open_source: OpenSource) -> None:
        source = open_source(VALUES[:20])
        ends: dict[int, int] = {}
        for records in drain(source, 10):
            ends.update({p: o + 1 for p, o in zip(records.partitions, records.offsets, strict=True)})
        source.commit(ends)
        source.close()
        source.close()
