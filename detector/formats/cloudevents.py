"""CloudEvents as KServe, Seldon and Azure ML write them: request and response are two events with one id.

Binary mode (the attributes are `ce_` headers) and structured mode (the record is one JSON object). Identity comes from
KServe's `metadata` (request headers that `metadataHeaders` names) or from headers of the record.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from detector.events import ModelRef, Reason
from detector.formats.calls import (
    Call,
    Message,
    Options,
    Read,
    body,
    each,
    envelope,
    http_headers,
    http_status,
    one_section,
    when,
    who,
    word,
)
from detector.formats.record import RecordError, parse

ABOUT = "CloudEvents, binary and structured: KServe, Seldon, Azure ML"
PAIRED = True
_AZURE = re.compile(r"/endpoints/([^/]+)(?:/deployments/([^/]+))?")


def fits(message: Message, value: Any) -> bool:
    """Say whether a record is a CloudEvent."""
    if "mlserver" in message.headers.get("ce_source", ""):  # its answers are adorned as events, its requests are not
        return False
    return "ce_type" in message.headers or {"specversion", "type", "source"} <= set(one_section(value))


def read(message: Message, options: Options) -> Read:
    """Return the half of a call that a record holds; a batch holds several."""
    if "ce_type" in message.headers:
        attributes = {name.removeprefix("ce_"): text for name, text in message.headers.items()}
        kind, size = message.headers.get("content-type", ""), message.headers.get("inference-header-content-length", "")
        return Read(
            [_call(attributes, body(message.value, options, content_type=kind, json_bytes=size), message, options)]
        )
    return each(envelope(message, options), lambda event: _structured(event, message, options))


def _structured(event: dict[str, Any], message: Message, options: Options) -> Call:
    if "type" not in event:
        raise RecordError(Reason.INVALID_EVENT, "type: is missing: no CloudEvent")
    encoding = "BASE64" if "data_base64" in event else ""
    kind = word(event.get("datacontenttype"))
    data = body(event.get("data_base64", event.get("data")), options, encoding=encoding, content_type=kind)
    return _call({name.lower(): value for name, value in event.items()}, data, message, options)


def _call(event: dict[str, Any], data: Any, message: Message, options: Options) -> Call:
    half: Literal["request", "response"] = "response" if _is_response(word(event.get("type"))) else "request"
    time_us, flags = when(message, event.get("time"), event.get("recordedtime"))
    client, client_kind = who({**message.headers, **_metadata(event.get("metadata"), options)}, options)
    found = word(event.get("requestid") or event.get("correlationid") or event.get("id"))
    return Call(
        time_us=time_us,
        model=_model(event),
        client_id=client,
        client_kind=client_kind,
        status=http_status(event.get("status") or event.get("statuscode")),
        request=data if half == "request" else None,
        response=data if half == "response" else None,
        half=half,
        join=f"{word(event.get('component'))} {found}" if found else "",
        flags=flags,
    )


def _is_response(kind: str) -> bool:
    return kind.lower().endswith(("response", "outputs", "output"))


def _metadata(value: Any, options: Options) -> dict[str, str]:
    """Return the request's headers that KServe wrote, as an object or as the text of one."""
    if isinstance(value, str):
        try:
            value = parse(value.encode("utf-8", "replace"), options.limits)
        except RecordError:
            return {}
    return http_headers(value)


def _model(event: dict[str, Any]) -> ModelRef:
    """Return the model: KServe's service (with its namespace unless that is `default`), Seldon's or Azure's model."""
    service, model, namespace = (word(event.get(name)) for name in ("inferenceservicename", "modelid", "namespace"))
    if model:
        return ModelRef(model, "")
    endpoint = word(event.get("endpoint"))
    version = "" if endpoint == "default" else endpoint
    if service:
        return ModelRef(service if namespace in ("", "default") else word(f"{namespace}/{service}"), version)
    found = _AZURE.search(word(event.get("source")))
    return ModelRef(found[1], found[2] or "") if found else ModelRef("", "")
