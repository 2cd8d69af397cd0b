"""Databricks inference tables, exported as JSON: `request` and `response` as texts, `requester` in newer tables.

Three generations: `timestamp_ms` and `request_metadata`; `request_time` with `served_entity_id` and `requester`; the
same with `execution_duration_ms` instead of `execution_time_ms`.
"""

from __future__ import annotations

from typing import Any

from detector.events import ModelRef, Reason
from detector.formats.calls import (
    Call,
    Message,
    Options,
    Read,
    body,
    each,
    envelope,
    http_status,
    millis,
    section,
    when,
    word,
)
from detector.formats.columns import UNKNOWN
from detector.formats.record import RecordError

ABOUT = "Databricks inference tables, exported as JSON"
PAIRED = False


def fits(message: Message, value: Any) -> bool:
    """Say whether a record is a row of an inference table."""
    del message
    return "databricks_request_id" in section(value)


def read(message: Message, options: Options) -> Read:
    """Return the calls of one record."""
    return each(envelope(message, options), lambda row: _one(row, message, options))


def _one(row: dict[str, Any], message: Message, options: Options) -> Call:
    if "request" not in row and "databricks_request_id" not in row:
        raise RecordError(Reason.INVALID_EVENT, "request: is missing: no row of an inference table")
    about = section(row.get("request_metadata"))
    name = word(about.get("model_name")) or options.model or word(row.get("served_entity_id"))
    version = word(about.get("model_version"))
    requester = word(row.get("requester"))
    time_us, flags = when(message, row.get("timestamp_ms"), row.get("request_time"))
    took_ms = row.get("execution_duration_ms", row.get("execution_time_ms"))
    return Call(
        time_us=time_us,
        model=ModelRef(name or word(about.get("endpoint_name")), version),
        client_id=requester,
        client_kind="user" if requester else UNKNOWN,
        status=http_status(row.get("status_code")),
        latency_ms=millis(took_ms),
        request=body(row.get("request"), options),
        response=body(row.get("response"), options),
        flags=flags,
    )
