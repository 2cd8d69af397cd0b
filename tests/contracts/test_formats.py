"""What every log format must do, over all adapters that are found."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import formats
from detector.events import Decoded, EventBatch, Ragged, Records
from detector.settings import LimitSettings
from tests.unit.event_bytes import records

pytestmark = pytest.mark.parametrize("name", formats.names())
LIMITS = LimitSettings()


def decode(name: str, values: list[bytes | None]) -> Decoded:
    batch = Records("t", [3] * len(values), range(100, 100 + len(values)), values)
    return formats.adapter(name).decode(batch, limits=LIMITS, secret=b"s")


def length(column: Any) -> int:
    return len(column.offsets) - 1 if isinstance(column, Ragged) else len(column)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(st.binary(max_size=60), records()), max_size=8))
def test_no_bytes_raise_and_every_record_is_accounted_for(name: str, values: list[bytes | None]) -> None:
    decoded = decode(name, values)
    read = set(decoded.batch.offset.tolist())
    refused = {letter.offset for letter in decoded.refused if not letter.instances}
    assert not read & refused
    assert len(read) + len(refused) + decoded.skipped >= len(values) - sum(bool(x.instances) for x in decoded.refused)
    assert all(letter.value == values[letter.offset - 100] for letter in decoded.refused)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(records(), max_size=8))
def test_columns_fit_together(name: str, values: list[bytes | None]) -> None:
    batch = decode(name, values).batch
    sizes = {f.name: length(getattr(batch, f.name)) for f in fields(EventBatch) if f.name not in ("topic", "models")}
    assert set(sizes.values()) == {len(batch)}, sizes
    assert len(set(batch.models)) == len(batch.models)
    assert set(batch.model.tolist()) == set(range(len(batch.models)))
    assert np.isfinite(batch.input.values).all()
    assert np.isfinite(batch.scores.values).all()
    assert ((batch.input_digest == 0) == (batch.input_level == 0)).all()
    assert ((np.diff(batch.input.offsets) > 0) == (batch.input_level >= 2)).all()
    assert ((batch.label_key == -1) == np.array([label == "" for label in batch.label], bool)).all()
    assert all(len(client.encode()) <= 256 for client in batch.client_id)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(records(), max_size=6))
def test_what_is_encoded_reads_back(name: str, values: list[bytes | None]) -> None:
    batch = decode(name, values).batch
    lines = formats.adapter(name).encode(batch)
    again = decode(name, list(lines))
    assert not again.refused
    assert formats.adapter(name).encode(again.batch) == lines
    assert again.batch.client_key.tolist() == batch.client_key.tolist()


def test_an_unknown_format_says_which_there_are(name: str) -> None:
    with pytest.raises(LookupError, match=name):
        formats.adapter("morse")
