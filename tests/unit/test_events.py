"""EventBatch and Ragged: taking, slicing and joining keep rows whole."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.events import EventBatch, Ragged, Records
from detector.formats.native import decode
from detector.settings import LimitSettings
from tests.unit.test_native import as_dicts, same

ROWS = st.lists(st.lists(st.floats(-9, 9, width=32), max_size=4), max_size=6)


def ragged(rows: list[list[float]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Ragged(np.array([x for row in rows for x in row], np.float32), offsets)


def lists(rows: Ragged) -> list[list[float]]:
    return [rows.row(i).tolist() for i in range(len(rows.offsets) - 1)]


def batch(n: int, models: int = 3) -> EventBatch:
    events = [
        {
            "event_time": i,
            "client": {"id": f"c{i % 2}"},
            "model": {"name": f"m{i % models}"},
            "input": {"vector": [i] * (1 + i % 3)},
            "output": {"scores": [0.5] * (i % 4)} if i % 4 else {"label": "x"},
        }
        for i in range(n)
    ]
    values: list[bytes | None] = [json.dumps(event).encode() for event in events]
    return decode(Records("t", [0] * n, range(n), values), limits=LimitSettings(), secret=b"s").batch


@given(ROWS, st.data())
def test_ragged_rows_are_taken_whole_and_in_order(rows: list[list[float]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert lists(ragged(rows).take(np.array(wanted, np.int64))) == [rows[i] for i in wanted]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_ragged_parts_join_to_all_their_rows(parts: list[list[list[float]]]) -> None:
    assert lists(Ragged.concat([ragged(part) for part in parts])) == [row for part in parts for row in part]


@given(st.integers(1, 12), st.data())
def test_a_batch_cut_anywhere_and_joined_again_is_the_same(n: int, data: st.DataObject) -> None:
    whole = batch(n)
    cut = data.draw(st.integers(0, n))
    joined = EventBatch.concat([whole.slice(0, cut), whole.slice(cut, n)])
    same(whole, joined)


@given(st.integers(1, 12), st.data())
def test_taking_rows_gives_the_events_of_these_rows(n: int, data: st.DataObject) -> None:
    whole = batch(n)
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=10))
    events = as_dicts(whole)
    assert list(map(repr, as_dicts(whole.take(np.array(rows, np.int64))))) == [repr(events[i]) for i in rows]


def test_batches_with_different_models_join_under_one_numbering() -> None:
    first, second = batch(2, models=1), batch(4, models=3)
    joined = EventBatch.concat([first, second])
    assert len(joined.models) == 3
    assert list(map(repr, as_dicts(joined))) == list(map(repr, as_dicts(first) + as_dicts(second)))
