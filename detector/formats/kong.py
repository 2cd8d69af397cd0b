"""Kong's log plugins (kafka-log, http-log, file-log): one object a call, with the authenticated consumer.

Bodies are there only where `custom_fields_by_lua` adds `request.body` and `response.body`.
"""

from __future__ import annotations

from typing import Any

from detector.formats.calls import Call, Message, Options, Read, each, envelope, one_section, section, word
from detector.formats.gateway import call

ABOUT = "Kong's kafka-log, http-log and file-log"
PAIRED = False


def fits(message: Message, value: Any) -> bool:
    """Say whether a record is a log entry of Kong."""
    del message
    return {"request", "response", "latencies", "started_at"} <= set(one_section(value))


def read(message: Message, options: Options) -> Read:
    """Return the calls of one record."""
    return each(envelope(message, options), lambda entry: _one(entry, message, options))


def _one(entry: dict[str, Any], message: Message, options: Options) -> Call:
    consumer = section(entry.get("consumer"))
    names = (consumer.get("username"), consumer.get("custom_id"), consumer.get("id"))
    authenticated = section(entry.get("authenticated_entity")).get("id")
    return call(
        entry,
        message,
        options,
        time=entry.get("started_at"),
        consumer=next((word(name) for name in (*names, authenticated) if word(name)), ""),
        names=(section(entry.get("service")).get("name"), section(entry.get("route")).get("name")),
        latency=section(entry.get("latencies")).get("request"),
    )
