"""MLServer's Kafka topics `mlserver-input` and `mlserver-output`: Open Inference V2 bodies, all else in headers.

The value of a request is the caller's own body: nothing in it names the client. The record's key joins both halves
(the server writes the request's id there); the time is the record's.
"""

from __future__ import annotations

from typing import Any

from detector.events import ModelRef
from detector.formats.calls import Call, Message, Options, Read, Unreadable, body, section, when, who, word

ABOUT = "MLServer's Kafka topics of requests and answers"
PAIRED = True


def fits(message: Message, value: Any) -> bool:
    """Say whether a record is of MLServer: by its headers, or by topic and body."""
    if "mlserver-model" in message.headers or "mlserver" in message.headers.get("ce_source", ""):
        return True
    return message.topic.startswith("mlserver") and bool({"inputs", "outputs"} & set(section(value)))


def read(message: Message, options: Options) -> Read:
    """Return the half of a call that a record holds."""
    headers = message.headers
    answered = headers.get("ce_type", "").endswith("response") or message.topic.endswith("output")
    data = body(message.value, options, json_bytes=headers.get("inference-header-content-length", ""))
    inside = {} if isinstance(data, Unreadable) else section(data)
    time_us, flags = when(message)
    client, kind = who(headers, options)
    name = headers.get("mlserver-model") or headers.get("ce_modelid") or (inside.get("model_name") if answered else "")
    version = headers.get("mlserver-version") or (inside.get("model_version") if answered else "")
    return Read(
        [
            Call(
                time_us=time_us,
                model=ModelRef(word(name), word(version)),
                client_id=client,
                client_kind=kind,
                request=None if answered else data,
                response=data if answered else None,
                half="response" if answered else "request",
                join=word(headers.get("ce_requestid")) or word(message.key) or word(inside.get("id")),
                flags=flags,
            )
        ]
    )
