"""SageMaker Data Capture: one line a call with both bodies. It names neither the client nor the model.

Set `[log] model`, one log an endpoint. Times are whole seconds.
"""

from __future__ import annotations

from typing import Any

from detector.events import ModelRef, Reason
from detector.formats.calls import Call, Message, Options, Read, body, each, envelope, section, when, word
from detector.formats.record import RecordError

ABOUT = "SageMaker Data Capture"
PAIRED = False


def fits(message: Message, value: Any) -> bool:
    """Say whether a record is one of Data Capture."""
    del message
    return "captureData" in section(value)


def read(message: Message, options: Options) -> Read:
    """Return the call of one record."""
    return each(envelope(message, options), lambda entry: _one(entry, message, options))


def _one(entry: dict[str, Any], message: Message, options: Options) -> Call:
    captured, about = section(entry.get("captureData")), section(entry.get("eventMetadata"))
    if not captured:
        raise RecordError(Reason.INVALID_EVENT, "captureData: is missing")
    time_us, flags = when(message, about.get("inferenceTime"))
    return Call(
        time_us=time_us,
        model=ModelRef(options.model, ""),
        request=_body(captured.get("endpointInput"), options),
        response=_body(captured.get("endpointOutput"), options),
        flags=flags,
    )


def _body(part: Any, options: Options) -> Any:
    given = section(part)
    kind = word(given.get("observedContentType"))
    return body(given.get("data"), options, encoding=word(given.get("encoding")), content_type=kind)
