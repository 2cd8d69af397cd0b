"""What every adapter ends in: rows become the columns of an `EventBatch`, texts become keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from detector.events import (
    F32,
    I64,
    U64,
    DeadLetter,
    EventBatch,
    InputLevel,
    ModelRef,
    OutputLevel,
    Ragged,
    Reason,
    Records,
)
from detector.formats.numbers import hash_rows

UNKNOWN = "unknown"
EMPTY: F32 = np.zeros(0, np.float32)
MAX_TEXT_BYTES = 256  # longer ids are replaced by their hash
_INTEGER_LABELS = 1 << 32  # labels 0 .. 2^32 - 1 are their own key; hashes of text lie above
_CACHED_KEYS = 1 << 18


class _KeysOfModel(dict[str, int]):
    """Keyed hashes of the clients of one model, made when first asked for."""

    def __init__(self, model: ModelRef, secret: bytes) -> None:
        super().__init__()
        self._parts = (model.name.encode(), model.version.encode())
        self._secret = secret

    def __missing__(self, client: str) -> int:
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in (client.encode(), *self._parts))
        self[client] = key = int.from_bytes(blake2b(framed, digest_size=8, key=self._secret).digest(), "big")
        return key


class ClientKeys:
    """Keyed 64-bit hashes of (client id, model name, model version), remembered for clients seen lately.

    The key is secret so that nobody can choose client ids that collide. When the memory is full it starts afresh.
    """

    def __init__(self, secret: bytes, capacity: int = _CACHED_KEYS) -> None:
        self._secret = secret if len(secret) <= blake2b.MAX_KEY_SIZE else blake2b(secret).digest()
        self._capacity = capacity
        self._known: dict[ModelRef, _KeysOfModel] = {}

    def of(self, clients: Sequence[str], model: Sequence[int], models: Sequence[ModelRef]) -> U64:
        """Return the key of each client, who asked models[model[i]]."""
        if len(self) + len(clients) > self._capacity:
            self._known.clear()
        keys = [self._known.setdefault(ref, _KeysOfModel(ref, self._secret)) for ref in models]
        return np.array([keys[m][client] for m, client in zip(model, clients, strict=True)], np.uint64)

    def __len__(self) -> int:
        return sum(len(keys) + 1 for keys in self._known.values())


def hash_text(text: str) -> int:
    """Return a stable 64-bit hash of a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def bounded(text: str) -> str:
    """Return `text`, or its hash where it is over 256 bytes; UnicodeEncodeError where it is no valid Unicode."""
    if text.isascii() and len(text) <= MAX_TEXT_BYTES:
        return text
    encoded = text.encode()
    if len(encoded) <= MAX_TEXT_BYTES:
        return text
    return "blake2b:" + blake2b(encoded, digest_size=16).hexdigest()


def label_key(label: str | int) -> int:
    """Return the class as a number: the integer itself where it is in 0 .. 2^32 - 1, else a hash at or above 2^32."""
    if isinstance(label, int) and 0 <= label < _INTEGER_LABELS:
        return label
    return _INTEGER_LABELS + hash_text(str(label)) % ((1 << 63) - _INTEGER_LABELS)


class Answer(NamedTuple):
    """The output of one event, read and checked."""

    level: OutputLevel = OutputLevel.NONE
    label: str = ""
    label_key: int = -1
    confidence: float = float("nan")
    scores: F32 = EMPTY


class Given(NamedTuple):
    """The input of one event, read and checked: numbers of a vector or a sketch (with its seed), or a digest's hash."""

    level: InputLevel = InputLevel.NONE
    values: F32 = EMPTY
    digest: int = 0
    seed: str = ""


NO_ANSWER = Answer()
NO_INPUT = Given()


@dataclass(slots=True)
class Row:
    """One event on its way into columns; `record` is the index of its record."""

    record: int
    time_us: int
    model: ModelRef
    client_id: str = UNKNOWN
    client_kind: str = UNKNOWN
    client_ip: str = ""
    status: int = 200
    latency_ms: float = float("nan")
    instance: int = 0
    given: Given = NO_INPUT
    answer: Answer = NO_ANSWER
    flags: int = 0


def to_batch(rows: Sequence[Row], records: Records, keys: ClientKeys) -> EventBatch:
    """Return the rows as columns, in their order."""
    models: dict[ModelRef, int] = {}
    for row in rows:
        models.setdefault(row.model, len(models))
    inputs = _ragged([row.given.values for row in rows])
    given = np.array([row.given.digest for row in rows], np.uint64)
    model = [models[row.model] for row in rows]
    clients = [row.client_id for row in rows]
    record = np.array([row.record for row in rows], np.int64)
    return EventBatch(
        topic=records.topic,
        models=list(models),
        model=np.array(model, np.int32),
        time_us=np.array([row.time_us for row in rows], np.int64),
        partition=np.asarray(records.partitions, np.int32)[record],
        offset=np.asarray(records.offsets, np.int64)[record],
        instance=np.array([row.instance for row in rows], np.int32),
        client_key=keys.of(clients, model, list(models)),
        client_id=clients,
        client_kind=[row.client_kind for row in rows],
        client_ip=[row.client_ip for row in rows],
        status=np.array([row.status for row in rows], np.int16),
        latency_ms=np.array([row.latency_ms for row in rows], np.float32),
        input_level=np.array([row.given.level for row in rows], np.uint8),
        input=inputs,
        input_digest=np.where(given > 0, given, hash_rows(inputs.values, inputs.offsets)),
        output_level=np.array([row.answer.level for row in rows], np.uint8),
        scores=_ragged([row.answer.scores for row in rows]),
        confidence=np.array([row.answer.confidence for row in rows], np.float32),
        label=[row.answer.label for row in rows],
        label_key=np.array([row.answer.label_key for row in rows], np.int64),
        flags=np.array([row.flags for row in rows], np.uint16),
    )


def weave(parts: Sequence[EventBatch], record: I64) -> EventBatch:
    """Return the events of all parts in the order of their records; models again in order of first appearance."""
    batch = EventBatch.concat(parts).take(np.argsort(record, kind="stable"))
    used, first = np.unique(batch.model, return_index=True)
    order = used[np.argsort(first)]
    place = np.zeros(len(batch.models), np.int32)
    place[order] = np.arange(len(order))
    batch.models, batch.model = [batch.models[i] for i in order], place[batch.model]
    return batch


def dead_letter(records: Records, i: int, reason: Reason, error: str, instances: tuple[int, ...] = ()) -> DeadLetter:
    """Return record `i` as refused by the decoder, with everything byte for byte as it came."""
    return DeadLetter(
        topic=records.topic,
        partition=records.partitions[i],
        offset=records.offsets[i],
        stage="decode",
        reason=reason,
        error=error[:256],
        value=records.values[i],
        key=records.keys[i] if records.keys is not None else None,
        headers=records.headers[i] if records.headers is not None else (),
        timestamp_ms=records.timestamps_ms[i] if records.timestamps_ms is not None else -1,
        instances=instances,
    )


def _ragged(rows: Sequence[F32]) -> Ragged:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Ragged(np.concatenate([EMPTY, *rows]), offsets)
