"""Partitions merge into one stream whose order does not depend on how polls cut them."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.events import EventBatch
from detector.merge import Merge
from tests.toy import as_records, decode

Row = tuple[int, int, int, int]  # partition, offset, instance, time in seconds


def batch_of(rows: list[Row]) -> EventBatch:
    """Make events at these positions and times; everything else comes from a real decode."""
    made = decode(
        as_records((p, o, b'{"event_time": 1, "client": {"id": "c"}, "model": {"name": "m"}}') for p, o, _, _ in rows)
    ).batch
    made.time_us = np.array([t * 1_000_000 for _, _, _, t in rows], np.int64)
    made.instance = np.array([i for _, _, i, _ in rows], np.int32)
    made.client_id = [f"{p}/{o}/{i}" for p, o, i, _ in rows]
    return made


def keys(batch: EventBatch | None) -> list[tuple[int, int, int]]:
    if batch is None:
        return []
    got = list(zip(batch.partition.tolist(), batch.offset.tolist(), batch.instance.tolist(), strict=True))
    assert batch.client_id == [f"{p}/{o}/{i}" for p, o, i in got]  # texts move with the numbers
    return got


def naive_order(rows: list[Row]) -> list[tuple[int, int, int]]:
    """The order by definition: (progress, partition, position), a record's instances with its highest time."""
    keyed = []
    for partition in {row[0] for row in rows}:
        progress = -1
        mine = [row for row in rows if row[0] == partition]
        for offset in dict.fromkeys(row[1] for row in mine):
            record = [row for row in mine if row[1] == offset]
            progress = max([progress, *(row[3] for row in record)])
            keyed += [((progress, partition, offset, row[2]), row[:3]) for row in record]
    return [row for _, row in sorted(keyed)]


@st.composite
def streams(draw: st.DrawFn) -> dict[int, list[list[Row]]]:
    """Per partition: records, each a list of instances."""
    contents = {}
    for partition in range(draw(st.integers(1, 3))):
        times = draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), max_size=8))
        contents[partition] = [[(partition, o, i, t) for i, t in enumerate(record)] for o, record in enumerate(times)]
    return contents


@settings(deadline=None)  # the first decode compiles
@given(contents=streams(), seed=st.integers(0, 2**32))
def test_the_released_order_is_a_function_of_the_partitions_contents_only(
    contents: dict[int, list[list[Row]]], seed: int
) -> None:
    cuts = np.random.default_rng(seed)
    merge = Merge()
    for partition in contents:
        merge.assign(partition)
    unread = {p: list(records) for p, records in contents.items()}
    released: list[tuple[int, int, int]] = []
    while any(unread.values()):
        poll: list[Row] = []
        for partition in cuts.permutation(sorted(unread)).tolist():
            for _ in range(cuts.integers(0, 4)):
                if unread[partition]:
                    poll += unread[partition].pop(0)
        merge.add(batch_of(poll))
        released += keys(merge.release())
        for partition, records in contents.items():
            out = len({offset for p, offset, _ in released if p == partition})
            read = len(records) - len(unread[partition])
            assert merge.first_waiting(partition) == (None if out == read else out)
    released += keys(merge.release(everything=True))
    assert released == naive_order([row for records in contents.values() for record in records for row in record])
    assert merge.rows() == 0


def test_a_partition_without_rows_holds_the_others_back_until_it_is_declared_idle() -> None:
    merge = Merge()
    merge.assign(0)
    merge.assign(1)
    merge.add(batch_of([(0, 0, 0, 5), (0, 1, 0, 6)]))
    assert merge.release() is None
    merge.declare_idle([1])
    assert keys(merge.release()) == [(0, 0, 0), (0, 1, 0)]


def test_rows_of_an_idle_partition_go_once_the_others_have_passed_them() -> None:
    merge = Merge()
    merge.assign(0)
    merge.assign(1)
    merge.add(batch_of([(1, 0, 0, 7), (0, 0, 0, 5)]))
    merge.declare_idle([1])
    assert keys(merge.release()) == [(0, 0, 0)]
    merge.add(batch_of([(0, 1, 0, 8)]))
    assert keys(merge.release()) == [(1, 0, 0), (0, 1, 0)]


def test_the_partition_that_is_ahead_is_named_and_the_slowest_never_is() -> None:
    merge = Merge(max_rows=3)
    merge.assign(0)
    merge.assign(1)
    merge.add(batch_of([(0, o, 0, 10 + o) for o in range(5)] + [(1, 0, 0, 1)]))
    merge.release()
    assert merge.ahead() == {0}
    merge.add(batch_of([(1, 1, 0, 20)]))
    merge.release()
    assert merge.ahead() == frozenset()


def test_wide_rows_count_by_their_bytes() -> None:
    merge = Merge(max_bytes=100_000)
    merge.assign(0)
    merge.assign(1)
    vector = b"[" + b",".join([b"0.5"] * 3000) + b"]"
    value = b'{"event_time": 9, "client": {"id": "c"}, "model": {"name": "m"}, "input": {"vector": ' + vector + b"}}"
    merge.add(decode(as_records((0, o, value) for o in range(10))).batch)
    assert merge.ahead() == {0}


def test_progress_from_a_checkpoint_orders_a_late_event_as_it_was_ordered_before_the_restart() -> None:
    rows: list[Row] = [(0, 0, 0, 9), (0, 1, 0, 2), (1, 0, 0, 5), (1, 1, 0, 12), (0, 2, 0, 13)]
    whole = Merge()
    restarted = Merge()
    for merge, progress in ((whole, None), (restarted, 9_000_000)):
        if progress is None:
            merge.assign(0)
            merge.add(batch_of(rows[:1]))
        else:
            merge.assign(0, progress)
        merge.assign(1)
        merge.add(batch_of(rows[1:]))
    tail = [k for k in keys(whole.release(everything=True)) if k != (0, 0, 0)]
    assert keys(restarted.release(everything=True)) == tail == [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 2, 0)]


def test_a_dropped_partition_neither_holds_back_nor_comes_out() -> None:
    merge = Merge()
    merge.assign(0)
    merge.assign(1)
    merge.add(batch_of([(0, 0, 0, 5), (1, 0, 0, 1)]))
    merge.drop(1)
    merge.add(batch_of([(1, 1, 0, 2)]))  # what was still on its way
    assert keys(merge.release()) == [(0, 0, 0)]


def test_one_partition_passes_through_at_next_to_no_cost() -> None:
    batch = batch_of([(0, o, 0, o) for o in range(4000)])
    merge = Merge()
    merge.assign(0)
    best_s = min(_once(merge, batch) for _ in range(20))
    assert best_s < 4000 * 0.25e-6  # a quarter of a microsecond an event; decoding one takes ten times as long


def _once(merge: Merge, batch: EventBatch) -> float:
    start = time.perf_counter()
    merge.add(batch)
    out = merge.release()
    assert out is not None
    assert len(out) == len(batch)
    return time.perf_counter() - start
