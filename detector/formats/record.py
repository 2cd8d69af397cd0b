"""Careful reading of one record: JSON bytes to a prediction event, a prediction event to rows.

Adapters that translate another log format into a prediction event end here too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from detector.events import Flag, InputLevel, ModelRef, Reason
from detector.formats import fields
from detector.formats.columns import NO_ANSWER, NO_INPUT, UNKNOWN, Answer, Given, Row
from detector.formats.fields import FieldError
from detector.formats.numbers import depth
from detector.settings import LimitSettings

SCHEMA = "prediction_event/1"
MAX_DEPTH = 32
KINDS = frozenset({"consumer", "api_key", "user", "mtls", "jwt_sub", "header", "ip"})
SEED = " sketch:"  # parts a model's version from the seed of its sketches: sketches of two seeds never meet
_OUTPUTS = ("label", "confidence", "scores", "topk")


class RecordError(Exception):
    """A record cannot become events."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(error)
        self.reason = reason


def parse(value: bytes, limits: LimitSettings) -> Any:
    """Return the JSON value; NaN and Infinity are let through, as many loggers write them. RecordError says why not."""
    if len(value) > limits.max_record_bytes:
        raise RecordError(Reason.TOO_LARGE, f"longer than {limits.max_record_bytes} bytes (limits.max_record_bytes)")
    if depth(np.frombuffer(value, np.uint8)) > MAX_DEPTH:
        raise RecordError(Reason.TOO_LARGE, f"nested deeper than {MAX_DEPTH} levels")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(value.decode())
    except UnicodeDecodeError as error:
        raise RecordError(Reason.INVALID_JSON, f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise RecordError(Reason.INVALID_JSON, f"not JSON at character {error.pos}: {error.msg}") from None
    except ValueError:
        raise RecordError(Reason.INVALID_JSON, "not JSON: an integer of thousands of digits") from None


def rows_of(record: int, event: Any, limits: LimitSettings) -> tuple[list[Row], tuple[int, ...]]:
    """Return the rows of one prediction event, and the indexes of those of its instances that cannot be events.

    `record` is the index of its record in the batch. RecordError names the field that makes all of it unreadable.
    """
    if not isinstance(event, dict):
        raise RecordError(Reason.INVALID_EVENT, "the record is not a JSON object")
    schema = event.get("schema")
    if schema is not None and schema != SCHEMA:
        raise RecordError(Reason.UNKNOWN_SCHEMA, f"schema: not {SCHEMA}")
    try:
        shared = _envelope(record, event)
    except FieldError as error:
        raise RecordError(Reason.INVALID_EVENT, str(error)) from None
    return _instances(shared, event.get("input"), event.get("output"), limits)


def _envelope(record: int, event: dict[str, Any]) -> Row:
    client, model = fields.section(event, "client"), fields.section(event, "model")
    client_id = fields.text(client, "id", "client.id")
    kind = fields.text(client, "kind", "client.kind")
    name = fields.text(model, "name", "model.name")
    if not name:
        raise FieldError("model.name", "is missing")
    return Row(
        record=record,
        time_us=fields.time_us(event.get("event_time")),
        model=ModelRef(name, fields.text(model, "version", "model.version")),
        client_id=client_id or UNKNOWN,
        client_kind=kind if kind in KINDS else UNKNOWN,
        client_ip=fields.text(client, "ip", "client.ip"),
        status=fields.integer(event, "status", 200, 0, 999),
        latency_ms=fields.number(event, "latency_ms"),
        flags=fields.integer(event, "flags", 0, 0, 0x7FFF) | (0 if client_id else Flag.UNKNOWN_CLIENT),
    )


def _instances(shared: Row, given: Any, output: Any, limits: LimitSettings) -> tuple[list[Row], tuple[int, ...]]:
    """Return one event for each instance, and the indexes of the instances that are no rows of numbers."""
    vector = given.get("vector") if isinstance(given, dict) else None
    if not isinstance(vector, list) or not _is_many(vector, output):
        return [_finish(shared, 0, _input(given, limits), fields.answer(output))], ()
    numbers = sum(len(row) for row in vector if isinstance(row, list))
    if len(vector) > limits.max_instances or numbers > limits.max_numbers:
        return [_finish(shared, 0, (NO_INPUT, Flag.TOO_LARGE), (NO_ANSWER, Flag(0)))], ()
    inputs = [fields.vector(row, limits) for row in vector]
    answers = _answers(output, len(vector))
    bad = tuple(k for k, (_, fault) in enumerate(inputs) if fault & Flag.SHAPE_MISMATCH)
    refused = set(bad)
    width = fields.common_width([row for row, _ in inputs])
    for k, (row, _) in enumerate(inputs):
        if row is not NO_INPUT and len(row.values) != width:  # ragged: rows unlike most of the others
            inputs[k] = NO_INPUT, Flag.SHAPE_MISMATCH
    return [_finish(shared, k, inputs[k], answers[k]) for k in range(len(vector)) if k not in refused], bad


def _is_many(vector: list[Any], output: Any) -> bool:
    """Say whether a vector is a list of rows: some entry is a list, none a number, the output not that of one."""
    kinds = set(map(type, vector))
    if list not in kinds or kinds & {int, float}:
        return False
    if not isinstance(output, dict):
        return True
    one_row, one_pair = first(output.get("scores")), first(first(output.get("topk")))
    alone = (output.get("label"), output.get("confidence"), one_row, one_pair)
    return not any(isinstance(value, str | int | float) for value in alone)


def first(value: Any) -> Any:
    """Return the first of a list, None where there is none."""
    return value[0] if isinstance(value, list) and value else None


def _input(given: Any, limits: LimitSettings) -> tuple[Given, Flag]:
    if given is None or given == {}:
        return NO_INPUT, Flag(0)
    if not isinstance(given, dict):
        return NO_INPUT, Flag.SHAPE_MISMATCH
    if given.get("vector") is not None:
        return fields.vector(given["vector"], limits)
    if given.get("sketch") is not None:
        return _sketch(given["sketch"], limits)
    if given.get("digest") is not None:
        return fields.digest(given["digest"])
    return NO_INPUT, Flag(0)


def _sketch(value: Any, limits: LimitSettings) -> tuple[Given, Flag]:
    """Return a sketch made at the gateway; without its seed it can be compared with nothing."""
    if not isinstance(value, dict):
        return NO_INPUT, Flag.SHAPE_MISMATCH
    try:
        seed = fields.text(value, "seed_id", "input.sketch.seed_id")
    except FieldError:
        seed = ""
    if not seed:
        return NO_INPUT, Flag.SHAPE_MISMATCH
    given, flag = fields.vector(value.get("values"), limits, InputLevel.SKETCH)
    return given if flag else given._replace(seed=seed), flag


def _answers(output: Any, n: int) -> list[tuple[Answer, Flag]]:
    """Return the answers of n instances; all are bad unless every field is a list of n entries."""
    if output is None:
        return [(NO_ANSWER, Flag(0))] * n
    if not isinstance(output, dict):
        return [(NO_ANSWER, Flag.BAD_OUTPUT)] * n
    columns = {name: output[name] for name in _OUTPUTS if output.get(name) is not None}
    if not all(isinstance(column, list) and len(column) == n for column in columns.values()):
        return [(NO_ANSWER, Flag.BAD_OUTPUT)] * n
    return [fields.answer({name: column[k] for name, column in columns.items()}) for k in range(n)]


def _finish(shared: Row, instance: int, read: tuple[Given, Flag], answered: tuple[Answer, Flag]) -> Row:
    (given, fault), (answer, bad_output) = read, answered
    name, version = shared.model
    model = ModelRef(name, version + SEED + given.seed) if given.seed else shared.model
    flags = int(shared.flags | fault | bad_output)
    return replace(shared, instance=instance, model=model, given=given, answer=answer, flags=flags)
