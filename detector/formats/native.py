"""prediction_event/1: one JSON object a record, also the capture format.

`decode` reads plain records in bulk (bulk.py), and whatever that declines with every check (record.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from detector.events import DeadLetter, Decoded, EventBatch, Flag, InputLevel, OutputLevel, Reason, Records
from detector.formats import bulk
from detector.formats.columns import ClientKeys, Row, dead_letter, to_batch, weave
from detector.formats.record import SCHEMA, SEED, RecordError, parse, rows_of
from detector.settings import LimitSettings


def decode(records: Records, *, limits: LimitSettings, secret: bytes, cache: ClientKeys | None = None) -> Decoded:
    """Return the events of `records` in their order, and a dead letter for each record that could not be read."""
    keys = cache if cache is not None else ClientKeys(secret)
    plain, done = bulk.read(records, limits, keys)
    if len(done) == len(records.values):
        return Decoded(plain, [], 0)
    left = np.ones(len(records.values), bool)
    left[done] = False
    rows: list[Row] = []
    refused: list[DeadLetter] = []
    skipped = 0
    for i in np.flatnonzero(left).tolist():
        value = records.values[i]
        if not value:
            skipped += 1
            continue
        try:
            entries, bad = rows_of(i, parse(value, limits), limits)
        except RecordError as fault:
            refused.append(dead_letter(records, i, fault.reason, str(fault)))
            continue
        rows += entries
        if bad:
            error = "input.vector: entries that are no lists of numbers"
            refused.append(dead_letter(records, i, Reason.INVALID_EVENT, error, bad))
    if not rows:
        return Decoded(plain, refused, skipped)
    order = np.concatenate([done, np.array([row.record for row in rows], np.int64)])
    return Decoded(weave([plain, to_batch(rows, records, keys)], order), refused, skipped)


def encode(batch: EventBatch) -> list[bytes]:
    """Return one JSON line (without its end) for each event; `decode` reads back the same columns, positions apart.

    Digests are written as their number, `u64:` and 16 hex digits. What is wrong with an event goes into `flags`.
    """
    times = np.datetime_as_string(batch.time_us.astype("datetime64[us]"))
    return [
        orjson.dumps(_event(batch, i, f"{time}Z"), option=orjson.OPT_SERIALIZE_NUMPY) for i, time in enumerate(times)
    ]


def _event(batch: EventBatch, i: int, time: str) -> dict[str, Any]:
    flags = Flag(int(batch.flags[i]))
    name, version = batch.models[batch.model[i]]
    client = {"kind": batch.client_kind[i], "ip": batch.client_ip[i]}
    if not flags & Flag.UNKNOWN_CLIENT:
        client["id"] = batch.client_id[i]
    level = InputLevel(int(batch.input_level[i]))
    given: dict[str, Any] | None = None
    if level is InputLevel.VECTOR:
        given = {"vector": batch.input.row(i)}
    elif level is InputLevel.SKETCH:
        version, _, seed = version.rpartition(SEED)
        given = {"sketch": {"seed_id": seed, "values": batch.input.row(i)}}
    elif level is InputLevel.DIGEST:
        given = {"digest": f"u64:{int(batch.input_digest[i]):016x}"}
    event: dict[str, Any] = {
        "schema": SCHEMA,
        "event_time": time,
        "client": client,
        "model": {"name": name, "version": version},
        "status": int(batch.status[i]),
    }
    if not np.isnan(batch.latency_ms[i]):
        event["latency_ms"] = batch.latency_ms[i]
    if flags & ~Flag.UNKNOWN_CLIENT:
        event["flags"] = int(flags & ~Flag.UNKNOWN_CLIENT)
    if given is not None:
        event["input"] = given
    if output := _output(batch, i):
        event["output"] = output
    return event


def _output(batch: EventBatch, i: int) -> dict[str, Any]:
    output: dict[str, Any] = {}
    if batch.label[i]:
        # an integer is its own key; every other label is known by the hash of its text
        is_integer = batch.label[i] == str(batch.label_key[i])
        output["label"] = int(batch.label_key[i]) if is_integer else batch.label[i]
    if batch.output_level[i] == OutputLevel.SCORES:
        output["scores"] = batch.scores.row(i)
    elif batch.output_level[i] == OutputLevel.CONFIDENCE:
        output["confidence"] = batch.confidence[i]
    return output
