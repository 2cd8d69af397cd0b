"""Filebeat: `message` holds the server's own line, read by the mapping where it is JSON; else ECS fields tell the call.

Without a mapping file, a line in `message` is read as prediction_event/1.
"""

from __future__ import annotations

from typing import Any

from detector.events import ModelRef
from detector.formats import mapped_json
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
    model_of_path,
    section,
    when,
    word,
)
from detector.formats.columns import UNKNOWN
from detector.formats.record import RecordError, parse

ABOUT = "Filebeat: a JSON line in `message`, or ECS fields"
PAIRED = False


def fits(message: Message, value: Any) -> bool:
    """Say whether a record is one of Filebeat."""
    del message
    found = section(value)
    return "@timestamp" in found and ("message" in found or "ecs" in found)


def read(message: Message, options: Options) -> Read:
    """Return the calls of one record."""
    return each(envelope(message, options), lambda entry: _one(entry, message, options))


def _one(entry: dict[str, Any], message: Message, options: Options) -> Call:
    line = entry.get("message")
    if isinstance(line, str) and line.lstrip()[:1] == "{":
        try:
            inner = parse(line.encode("utf-8", "replace"), options.limits)
            if isinstance(inner, dict):
                dated = message._replace(timestamp_ms=_milliseconds(entry, message))
                return mapped_json.one(inner, dated, options)
        except RecordError:
            pass
    return _ecs(entry, message, options)


def _milliseconds(entry: dict[str, Any], message: Message) -> int:
    return when(message, entry.get("@timestamp"))[0] // 1000


def _ecs(entry: dict[str, Any], message: Message, options: Options) -> Call:
    http, user = section(entry.get("http")), section(entry.get("user"))
    asked, answered = section(http.get("request")), section(http.get("response"))
    address = section(entry.get("source")).get("ip") or section(entry.get("client")).get("ip")
    url, service = section(entry.get("url")), section(entry.get("service"))
    time_us, flags = when(message, entry.get("@timestamp"))
    client = word(user.get("id")) or word(user.get("name"))
    model = model_of_path(url.get("path") or url.get("original"))
    return Call(
        time_us=time_us,
        model=model if model.name else ModelRef(options.model or word(service.get("name")), ""),
        client_id=client,
        client_kind="user" if client else UNKNOWN,
        client_ip=word(address),
        status=http_status(answered.get("status_code")),
        latency_ms=millis(section(entry.get("event")).get("duration"), 1e-6),
        request=body(section(asked.get("body")).get("content"), options),
        response=body(section(answered.get("body")).get("content"), options),
        flags=flags,
    )
