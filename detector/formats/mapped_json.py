"""Any JSON log, read by a mapping file of JSON pointers (pointers.py): NGINX, Envoy, API Gateway, in-house logs."""

from __future__ import annotations

from typing import Any

from detector.events import ModelRef
from detector.formats.calls import (
    Call,
    Columns,
    Message,
    Options,
    Read,
    body,
    each,
    envelope,
    http_status,
    millis,
    model_of_path,
    when,
    word,
)
from detector.formats.columns import UNKNOWN
from detector.formats.record import KINDS, first

ABOUT = "any JSON log, by a mapping file of JSON pointers"
PAIRED = False


def fits(message: Message, value: Any) -> bool:
    """Never: a mapping is chosen by people."""
    del message, value
    return False


def read(message: Message, options: Options) -> Read:
    """Return the calls of one record."""
    value = envelope(message, options)
    if options.mapping.entries:
        value = options.mapping.value("entries", value)
    return each(value, lambda entry: one(entry, message, options))


def one(entry: dict[str, Any], message: Message, options: Options) -> Call:
    """Return the call that one object logs; RecordError where it has no time."""
    mapping = options.mapping
    time_us, flags = when(message, mapping.value("time", entry))
    name, kind = mapping.value("model", entry), word(mapping.value("client_kind", entry))
    named = model_of_path(name) if isinstance(name, str) and name.startswith("/") else ModelRef(word(name), "")
    return Call(
        time_us=time_us,
        model=named._replace(version=word(mapping.value("model_version", entry)) or named.version),
        client_id=word(mapping.value("client", entry)),
        client_kind=kind if kind in KINDS else UNKNOWN,
        client_ip=word(mapping.value("client_ip", entry)),
        status=http_status(mapping.value("status", entry)),
        latency_ms=millis(mapping.value("latency_ms", entry)),
        request=body(mapping.value("request", entry), options),
        response=_response(entry, options),
        flags=flags,
    )


def _response(entry: dict[str, Any], options: Options) -> Any:
    """Return the body of the answer; without one, the parts that the mapping names, of one instance or of many."""
    whole = body(options.mapping.value("response", entry), options)
    if whole is not None:
        return whole
    parts = [options.mapping.value(name, entry) for name in ("label", "confidence", "scores")]
    label, confidence, scores = parts
    if label is None and confidence is None and scores is None:
        return None
    many = any(isinstance(part, list) for part in (label, confidence, first(scores)))
    return Columns(
        [part if many else [part] for part in parts if isinstance(part, list) or (part is not None and not many)]
    )
