"""What API gateways' logs have in common: a request and a response with headers and perhaps bodies, and a consumer."""

from __future__ import annotations

from typing import Any

from detector.events import ModelRef
from detector.formats.calls import (
    Call,
    Message,
    Options,
    body,
    http_headers,
    http_status,
    millis,
    model_of_path,
    section,
    when,
    who,
    word,
)
from detector.formats.columns import UNKNOWN


def call(
    entry: dict[str, Any],
    message: Message,
    options: Options,
    *,
    time: Any,
    consumer: str,
    names: tuple[Any, ...],
    latency: Any,
) -> Call:
    """Return the call that one entry logs. `names` are what the model is called where the path names none."""
    request, response = section(entry.get("request")), section(entry.get("response"))
    headers, answered = http_headers(request.get("headers")), http_headers(response.get("headers"))
    time_us, flags = when(message, time)
    client, kind = (consumer, "consumer") if consumer else who(headers, options)
    path = request.get("uri") or request.get("url")
    name = next((word(name) for name in names if word(name)), "")
    model = model_of_path(path)
    return Call(
        time_us=time_us,
        model=model if model.name else ModelRef(options.model or name, ""),
        client_id=client,
        client_kind=kind if client else UNKNOWN,
        client_ip=word(entry.get("client_ip")),
        status=http_status(response.get("status")),
        latency_ms=millis(latency),
        request=_body(request, headers, options),
        response=_body(response, answered, options),
        flags=flags,
    )


def _body(part: dict[str, Any], headers: dict[str, str], options: Options) -> Any:
    encoding = "BASE64" if part.get("body_base64") is True else ""
    return body(part.get("body"), options, encoding=encoding, content_type=headers.get("content-type", ""))
