"""prediction_event/1 in memory: records as they arrive, one batch of events as columns.

`Records` is what a source hands over: raw bytes with their positions. A format adapter (`detector/formats`) turns it
into `Decoded`: an `EventBatch` of columns, and a `DeadLetter` for whatever could not be read. One event is one
instance scored by a model; a record that carries many instances becomes as many events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag, StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


class InputLevel(IntEnum):
    """How much of the input the log holds; each level includes what the lower ones allow."""

    NONE = 0
    DIGEST = 1  # keyed hash of the input: exact repeats only
    SKETCH = 2  # keyed ±1 projection made at the gateway: distances, steps, directions
    VECTOR = 3  # all features


class OutputLevel(IntEnum):
    """How much of the answer the log holds."""

    NONE = 0
    LABEL = 1
    CONFIDENCE = 2  # top-1 confidence, or the top k
    SCORES = 3  # one score for every class


class Flag(IntFlag):
    """What was wrong with an event that is kept all the same."""

    NOT_FINITE = 1  # NaN or infinity in the input: the input was dropped
    SHAPE_MISMATCH = 2  # ragged, nested or text where numbers belong: the input was dropped
    TOO_LARGE = 4  # over the limits: the input was dropped
    BAD_OUTPUT = 8  # unreadable answer: the output was dropped
    UNKNOWN_CLIENT = 16  # no client id: counted in the bucket `unknown`
    NO_RESPONSE = 32  # the log has a request without its response
    ORPHAN = 64  # the log has a response without its request
    ID_REUSE = 128  # two calls that were open at the same time carry one id
    TIME_CLAMPED = 256  # the time lay far after the record was written: the record's time was taken


class Reason(StrEnum):
    """Why a record was refused: the closed list that dead letters and metrics use."""

    INVALID_JSON = "invalid_json"
    INVALID_EVENT = "invalid_event"  # well-formed JSON, but not a prediction event; `error` names the field
    UNKNOWN_SCHEMA = "unknown_schema"
    TOO_LARGE = "too_large"
    ALERT_REJECTED = "alert_rejected"  # the store refused the document itself (a mapping fault)


class Records(NamedTuple):
    """Raw records of one topic, or of one capture file, in the order of each partition.

    `values[i]` is None for a tombstone. `keys` and `headers` are None where the source has none; they are kept byte
    for byte for dead letters.
    """

    topic: str
    partitions: Sequence[int]
    offsets: Sequence[int]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int] | None = None
    keys: Sequence[bytes | None] | None = None
    headers: Sequence[Sequence[tuple[str, bytes]]] | None = None


class DeadLetter(NamedTuple):
    """A record that could not become events. `error` (at most 256 characters) never quotes the payload."""

    topic: str
    partition: int
    offset: int
    stage: str
    reason: Reason
    error: str
    value: bytes | None = None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int = -1
    instances: tuple[int, ...] = ()  # the refused entries, where the record's other entries went on


class ModelRef(NamedTuple):
    """A model as the log names it; another version has a baseline of its own."""

    name: str
    version: str


class Ragged(NamedTuple):
    """Rows of different lengths: row i is values[offsets[i]:offsets[i + 1]]."""

    values: F32
    offsets: I64

    def row(self, i: int) -> F32:
        """Return row `i`, a view."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def take(self, rows: I64) -> Ragged:
        """Return the named rows, in that order."""
        widths = (self.offsets[1:] - self.offsets[:-1])[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(widths, out=offsets[1:])
        index = np.repeat(self.offsets[:-1][rows] - offsets[:-1], widths) + np.arange(offsets[-1])
        return Ragged(self.values[index], offsets)

    @staticmethod
    def concat(parts: Sequence[Ragged]) -> Ragged:
        """Return the rows of all parts, one after the other."""
        widths = [part.offsets[1:] - part.offsets[:-1] for part in parts]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(widths))])
        return Ragged(np.concatenate([p.values[p.offsets[0] : p.offsets[-1]] for p in parts]), offsets)


@dataclass(slots=True)
class EventBatch:
    """Events as columns: n rows in the order in which they were read.

    Texts (`client_id`, `client_kind`, `client_ip`, `label`) are Python lists: they are only looked at when an alert is
    written. Numbers are arrays, for the kernels.
    """

    topic: str
    models: list[ModelRef]  # the models of this batch, in order of first appearance
    model: I32  # [n] index into `models`
    time_us: I64  # [n] event time, microseconds since 1970 UTC
    partition: I32  # [n]
    offset: I64  # [n] position in the partition; in a capture file the line number from 0
    instance: I32  # [n] index inside the record
    client_key: U64  # [n] keyed hash of (client id, model name, model version): the key of all state
    client_id: list[str]  # [n] "unknown" where the log has none; never longer than 256 bytes (longer ones are hashed)
    client_kind: list[str]  # [n] "unknown" where the log has none
    client_ip: list[str]  # [n] "" where the log has none
    status: I16  # [n] HTTP status; 200 where the log has none
    latency_ms: F32  # [n] NaN where the log has none
    input_level: U8  # [n] InputLevel
    input: Ragged  # [n] rows: the vector or the given sketch; empty for digest and none
    input_digest: U64  # [n] hash of the canonical input or of the given digest; 0 = no input
    output_level: U8  # [n] OutputLevel
    scores: Ragged  # [n] rows: a score for every class where the level is SCORES, else empty
    confidence: F32  # [n] top-1 confidence, NaN where unknown
    label: list[str]  # [n] the answered class as text, "" where unknown
    label_key: (
        I64  # [n] the class as a number: the integer itself, a hash of the text, or the arg-max of scores; -1 = none
    )
    flags: U16  # [n] Flag bits

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, rows: I64) -> EventBatch:
        """Return the named rows, in that order; `models` stays as it is."""
        return EventBatch(**{f.name: _take(getattr(self, f.name), f.name, rows) for f in fields(self)})

    def slice(self, start: int, stop: int) -> EventBatch:
        """Return rows start..stop as views."""
        if start == 0 and stop >= len(self):
            return self
        return EventBatch(**{f.name: _slice(getattr(self, f.name), f.name, start, stop) for f in fields(self)})

    @staticmethod
    def concat(parts: Sequence[EventBatch]) -> EventBatch:
        """Return the rows of all parts, one after the other (of one topic)."""
        if len(parts) == 1:
            return parts[0]
        models: dict[ModelRef, int] = {}
        for part in parts:
            for ref in part.models:
                models.setdefault(ref, len(models))
        columns: dict[str, Any] = {}
        for f in fields(EventBatch):
            values = [getattr(part, f.name) for part in parts]
            if f.name == "topic":
                columns[f.name] = values[0]
            elif f.name == "models":
                columns[f.name] = list(models)
            elif f.name == "model":
                luts = [np.array([models[ref] for ref in part.models], np.int32) for part in parts]
                columns[f.name] = np.concatenate([lut[v] for lut, v in zip(luts, values, strict=True)])
            elif isinstance(values[0], Ragged):
                columns[f.name] = Ragged.concat(values)
            elif isinstance(values[0], list):
                columns[f.name] = [x for v in values for x in v]
            else:
                columns[f.name] = np.concatenate(values)
        return EventBatch(**columns)


class Decoded(NamedTuple):
    """What a format adapter made of some records."""

    batch: EventBatch
    refused: list[DeadLetter]
    skipped: int  # tombstones and empty lines


_WHOLE = ("topic", "models")


def _take(column: Any, name: str, rows: I64) -> Any:
    if name in _WHOLE:
        return column
    if isinstance(column, Ragged):
        return column.take(rows)
    if isinstance(column, list):
        return [column[i] for i in rows.tolist()]
    return column[rows]


def _slice(column: Any, name: str, start: int, stop: int) -> Any:
    if name in _WHOLE:
        return column
    if isinstance(column, Ragged):
        return Ragged(column.values, column.offsets[start : stop + 1])
    return column[start:stop]
