"""What every log format must do, as checks that any decoder can be held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from detector.events import Decoded, EventBatch, Flag, Ragged, Records
from detector.formats import Decoder

Make = Callable[[], Decoder]


def records(values: Sequence[bytes | None], start: int = 0) -> Records:
    """Return lines as a capture file holds them."""
    return Records("capture", [0] * len(values), range(start, start + len(values)), values)


def check_batch(decoder: Decoder, values: Sequence[bytes | None], start: int = 0) -> Decoded:
    """No bytes raise, columns fit together, every event and every letter has its place, letters quote nothing."""
    decoded = decoder(records(values, start))
    check_columns(decoded.batch)
    assert decoded.skipped == sum(not value for value in values)
    for letter in decoded.refused:
        assert letter.value == values[letter.offset - start]
        assert len(letter.error) <= 256
    return decoded


def check_columns(batch: EventBatch) -> None:
    """Columns have one length and hold only what detectors can stand."""
    sizes = {f.name: _length(getattr(batch, f.name)) for f in fields(EventBatch) if f.name not in ("topic", "models")}
    assert set(sizes.values()) == {len(batch)}, sizes
    assert len(set(batch.models)) == len(batch.models)
    assert set(batch.model.tolist()) == set(range(len(batch.models)))
    assert all(model.name for model in batch.models)
    assert np.isfinite(batch.input.values).all()
    assert np.isfinite(batch.scores.values).all()
    assert ((batch.input_digest == 0) == (batch.input_level == 0)).all()
    assert ((np.diff(batch.input.offsets) > 0) == (batch.input_level >= 2)).all()
    assert ((batch.label_key == -1) == np.array([label == "" for label in batch.label], bool)).all()
    assert all(0 < len(client.encode()) <= 256 for client in batch.client_id)
    assert ((batch.time_us >= 0) & (batch.time_us < 7_258_118_400_000_000)).all()


def check_accounted(make: Make, values: Sequence[bytes]) -> None:
    """Every record leaves as events or as a dead letter, or was joined to one that does; no event twice."""
    decoder = make()
    decoded = decoder(records(values))
    batch = EventBatch.concat([decoded.batch, decoder.rest()])
    places = list(zip(batch.partition.tolist(), batch.offset.tolist(), batch.instance.tolist(), strict=True))
    assert len(set(places)) == len(places), "two events of one place"
    left = {letter.offset for letter in decoded.refused} | set(batch.offset.tolist())
    joined = decoder.joiner.counts.joined if hasattr(decoder, "joiner") else 0
    assert len(left) >= sum(map(bool, values)) - joined


def check_cuts(make: Make, values: Sequence[bytes]) -> None:
    """One batch of all records gives the events of batches of one."""
    whole, single = make(), make()
    at_once = [whole(records(values)).batch, whole.rest()]
    one_by_one = [single(records([value], start=k)).batch for k, value in enumerate(values)] + [single.rest()]
    assert _lines(at_once) == _lines(one_by_one)


def check_too_large(make: Make, limit: int) -> None:
    """What is over the limits is never parsed: a dead letter, or an event without input that says why."""
    for value in (b'{"a": "' + b"x" * limit + b'"}', b"[" * 100 + b"]" * 100, b'{"a":' * 100 + b"1" + b"}" * 100):
        decoder = make()
        decoded = decoder(records([value])._replace(timestamps_ms=[1_795_329_591_762]))
        batch = EventBatch.concat([decoded.batch, decoder.rest()])
        assert [letter.reason for letter in decoded.refused] == ["too_large"] * (1 - len(batch))
        assert all(flags & Flag.TOO_LARGE for flags in batch.flags.tolist())
        assert not batch.input_level.any()


def _lines(batches: Sequence[EventBatch]) -> list[tuple[Any, ...]]:
    lines = []
    for batch in batches:
        for i in range(len(batch)):
            line: list[Any] = [batch.models[batch.model[i]]]
            for f in fields(EventBatch):
                if f.name not in ("topic", "models", "model"):
                    column = getattr(batch, f.name)
                    line.append(repr(column.row(i).tolist() if isinstance(column, Ragged) else column[i]))
            lines.append(tuple(line))
    return lines


def _length(column: Any) -> int:
    return len(column.offsets) - 1 if isinstance(column, Ragged) else len(column)
