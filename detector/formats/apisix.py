"""APISIX's kafka-logger and http-logger: one object a call, or a list of them, with the authenticated consumer.

Bodies are there only with `include_req_body` and `include_resp_body`. The records' own time is often −1.
"""

from __future__ import annotations

from typing import Any

from detector.formats.calls import Call, Message, Options, Read, each, envelope, one_section, section, word
from detector.formats.gateway import call

ABOUT = "APISIX's kafka-logger and http-logger"
PAIRED = False


def fits(message: Message, value: Any) -> bool:
    """Say whether a record is a log entry of APISIX."""
    del message
    return {"request", "response", "start_time", "route_id"} <= set(one_section(value))


def read(message: Message, options: Options) -> Read:
    """Return the calls of one record."""
    return each(envelope(message, options), lambda entry: _one(entry, message, options))


def _one(entry: dict[str, Any], message: Message, options: Options) -> Call:
    return call(
        entry,
        message,
        options,
        time=entry.get("start_time"),
        consumer=word(section(entry.get("consumer")).get("username")),
        names=(entry.get("service_id"), entry.get("route_id")),
        latency=entry.get("latency"),
    )
