"""The short way for plain records: one instance, no surprises, all in bulk.

A record is parted into its lists of numbers, read by a compiled loop, and the small envelope around them, read by
msgspec into typed structs that know exactly the fields of prediction_event/1. Whatever is not plain (an unknown field,
an escape, a text beyond ASCII, a number too many) is declined, never guessed: the careful reader takes it, and where
both could read a record they agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct

from detector.events import I64, EventBatch, Flag, InputLevel, ModelRef, OutputLevel, Ragged, Records
from detector.formats import fields
from detector.formats.columns import MAX_TEXT_BYTES, UNKNOWN, ClientKeys, label_key
from detector.formats.numbers import PADDING, best_of_rows, hash_rows, split, times_us
from detector.formats.record import SEED
from detector.settings import LimitSettings

CHUNK_BYTES = 1 << 18  # text read in one go: its numbers and envelopes stay in the processor's cache

_Text = Annotated[str, Meta(max_length=MAX_TEXT_BYTES)]  # plain records are ASCII: characters are bytes
_Finite = Annotated[float, Meta(ge=-3.4e38, le=3.4e38)]  # finite as float32


class _Plain(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """Unknown fields are declined, so that a key "vector" or "values" can stand in one place only."""


class _Client(_Plain, frozen=True):
    id: _Text | None = None
    kind: Literal["consumer", "api_key", "user", "mtls", "jwt_sub", "header", "ip", "unknown"] = "unknown"
    ip: _Text | None = None


class _Model(_Plain, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_BYTES)]
    version: _Text = ""


class _Sketch(_Plain, frozen=True):
    seed_id: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_BYTES)]
    values: Literal[0]  # the mark that `split` leaves


class _Input(_Plain, frozen=True):
    vector: Literal[0] | None = None
    sketch: _Sketch | None = None


class _Output(_Plain, frozen=True):
    label: (
        Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_BYTES)] | Annotated[int, Meta(ge=0, lt=1 << 32)] | None
    ) = None
    confidence: _Finite = float("nan")
    scores: Literal[0] | None = None


class _Event(_Plain, frozen=True):
    event_time: str | float
    model: _Model
    schema: Literal["prediction_event/1"] | None = None  # record.SCHEMA
    request_id: str | None = None
    client: _Client = _Client()
    status: Annotated[int, Meta(ge=0, le=999)] = 200
    latency_ms: _Finite = float("nan")
    input: _Input | None = None
    output: _Output = _Output()


_DECODER = msgspec.json.Decoder(_Event)
_DECLINED = _Event(event_time=-1, model=_Model(name="-"))


class _Parted(NamedTuple):
    """Records parted into envelopes (or `_DECLINED`) and the numbers of each."""

    events: list[_Event]
    vectors: Ragged
    scores: Ragged
    record: I64


def read(records: Records, limits: LimitSettings, keys: ClientKeys) -> tuple[EventBatch, I64]:
    """Return the plain records as columns, and their indexes; all others are left to the careful reader."""
    chunks = [_part(records.values, chunk, sizes) for chunk, sizes in _chunks(records.values, limits)]
    events = [event for chunk in chunks for event in chunk.events]
    vectors = Ragged.concat([chunk.vectors for chunk in chunks])
    scores = Ragged.concat([chunk.scores for chunk in chunks])
    record = np.concatenate([chunk.record for chunk in chunks])
    time_us = _times_us([event.event_time for event in events])
    widths, score_widths = np.diff(vectors.offsets), np.diff(scores.offsets)
    # a key "input" or "output" may stand there twice: only the last one counts, and `split` does not know
    marks = np.array([_lists(event) for event in events], np.int64)
    good = (time_us >= 0) & (widths <= limits.max_numbers) & (marks == (widths > 0) + 4 * (score_widths > 0))
    if not good.all():
        rows = np.flatnonzero(good)
        events = [events[i] for i in rows.tolist()]
        vectors, scores, time_us, record = vectors.take(rows), scores.take(rows), time_us[rows], record[rows]
    return _columns(_Parted(events, vectors, scores, record), time_us, records, keys), record


def _lists(event: _Event) -> int:
    """Count the marks of an event: 1 for a vector or a sketch (2 for both, which is not plain), 4 for scores."""
    given = event.input
    inputs = 0 if given is None else (given.vector is not None) + (given.sketch is not None)
    return inputs + 4 * (event.output.scores is not None)


def _seed(given: _Input | None) -> str:
    return "" if given is None or given.sketch is None else given.sketch.seed_id


def _chunks(values: Sequence[bytes | None], limits: LimitSettings) -> Iterator[tuple[I64, I64]]:
    """Cut the records that are not too large into runs of about CHUNK_BYTES: their indexes and their sizes."""
    sizes = np.array([len(value) if value else 0 for value in values], np.int64)
    fit = np.flatnonzero((sizes > 0) & (sizes <= limits.max_record_bytes))
    run = np.cumsum(sizes[fit]) // CHUNK_BYTES
    for chunk in np.split(fit, np.flatnonzero(np.diff(run)) + 1):
        yield chunk, sizes[chunk]


def _part(records: Sequence[bytes | None], chunk: I64, sizes: I64) -> _Parted:
    values = [records[i] or b"" for i in chunk.tolist()]
    joined = b"\n".join([*values, bytes(PADDING)])
    text = np.frombuffer(joined, np.uint8)
    words = np.ndarray((len(text) - PADDING + 1,), np.uint64, joined, 0, (1,))
    starts = _ends(sizes + 1)
    envelopes, widths = np.empty(len(text), np.uint8), np.empty((2, len(values)), np.int64)
    vectors, scores = np.empty((2, len(text) // 2), np.float32)  # a number takes two bytes at least
    size, n_vectors, n_scores = split(text, words, starts, envelopes, vectors, scores, widths)
    plain = widths[0] >= 0
    return _Parted(
        _decode_lines(envelopes[:size].tobytes()),
        Ragged(vectors[:n_vectors], _ends(widths[0, plain])),
        Ragged(scores[:n_scores], _ends(widths[1, plain])),
        chunk[plain],
    )


def _decode_lines(lines: bytes) -> list[_Event]:
    """Read all envelopes at one go, or one by one where some of them are declined."""
    try:
        return _DECODER.decode_lines(lines)
    except msgspec.MsgspecError:
        return [_decode_line(line) for line in lines.splitlines()]


def _decode_line(line: bytes) -> _Event:
    try:
        return _DECODER.decode(line)
    except msgspec.MsgspecError:
        return _DECLINED


def _ends(widths: I64) -> I64:
    offsets = np.zeros(len(widths) + 1, np.int64)
    np.cumsum(widths, out=offsets[1:])
    return offsets


def _times_us(times: list[str | float]) -> I64:
    """Return microseconds since 1970, -1 where a time cannot be read."""
    texts = [time if isinstance(time, str) else "" for time in times]
    micros: I64 = times_us(
        np.frombuffer("".join(texts).encode(), np.uint8), _ends(np.array(list(map(len, texts)), np.int64))
    )
    for i in np.flatnonzero(micros < 0).tolist():
        with suppress(fields.FieldError):
            micros[i] = fields.time_us(times[i])
    return micros


@lru_cache(maxsize=4096, typed=True)
def _label(label: str | int | None) -> tuple[str, int]:
    return ("", -1) if label is None else (str(label), label_key(label))


def _columns(parted: _Parted, time_us: I64, records: Records, keys: ClientKeys) -> EventBatch:
    events, vectors, scores, record = parted
    clients, outputs = [event.client for event in events], [event.output for event in events]
    seeds = [_seed(event.input) for event in events]
    refs: dict[tuple[_Model, str], int] = {}
    model = [refs.setdefault((event.model, seed), len(refs)) for event, seed in zip(events, seeds, strict=True)]
    models = [ModelRef(ref.name, ref.version + SEED + seed if seed else ref.version) for ref, seed in refs]
    client_id = [client.id or UNKNOWN for client in clients]
    best = best_of_rows(scores.values, scores.offsets)
    scored = best >= 0
    answered = [
        output.label if output.label is not None else b if b >= 0 else None
        for output, b in zip(outputs, best.tolist(), strict=True)
    ]
    labels = [_label(label) for label in answered]
    confidence = np.array([output.confidence for output in outputs], np.float32)
    confidence[scored] = scores.values[scores.offsets[:-1][scored] + best[scored]]
    key_of_label = np.array([key for _, key in labels], np.int64)
    level = np.where(key_of_label >= 0, OutputLevel.LABEL, OutputLevel.NONE)
    level[~np.isnan(confidence)] = OutputLevel.CONFIDENCE
    level[scored] = OutputLevel.SCORES
    level_of_input = np.where(np.diff(vectors.offsets) > 0, InputLevel.VECTOR, InputLevel.NONE)
    level_of_input[[bool(seed) for seed in seeds]] = InputLevel.SKETCH
    return EventBatch(
        topic=records.topic,
        models=models,
        model=np.array(model, np.int32),
        time_us=time_us,
        partition=np.asarray(records.partitions, np.int32)[record],
        offset=np.asarray(records.offsets, np.int64)[record],
        instance=np.zeros(len(events), np.int32),
        client_key=keys.of(client_id, model, models),
        client_id=client_id,
        client_kind=[client.kind for client in clients],
        client_ip=[client.ip or "" for client in clients],
        status=np.array([event.status for event in events], np.int16),
        latency_ms=np.array([event.latency_ms for event in events], np.float32),
        input_level=level_of_input.astype(np.uint8),
        input=vectors,
        input_digest=hash_rows(vectors.values, vectors.offsets),
        output_level=level.astype(np.uint8),
        scores=scores,
        confidence=confidence,
        label=[text for text, _ in labels],
        label_key=key_of_label,
        flags=np.array([0 if client.id else Flag.UNKNOWN_CLIENT for client in clients], np.uint16),
    )
