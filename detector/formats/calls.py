"""Foreign logs: what a record says of a call, and the steps from there to rows that all formats share.

An adapter reads the envelope and returns a `Call`; bodies go through the codecs. What is wrong with a body costs the
body only: the event keeps client, time and status, and a flag says what is missing. RecordError is for records of
which nothing is left.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from detector.events import Flag, ModelRef, Reason, Records
from detector.formats import codecs, fields
from detector.formats.clock import instant_us
from detector.formats.codecs import BodyError, open_inference
from detector.formats.codecs.answers import answers
from detector.formats.columns import NO_ANSWER, NO_INPUT, UNKNOWN, Given, Row, bounded
from detector.formats.pointers import Mapped
from detector.formats.record import RecordError, parse
from detector.settings import LimitSettings

MAX_ENTRIES = 1000  # calls in one record, as gateways batch them
_AHEAD_US = 3600 * 1_000_000  # an event later than its record by more has a wrong clock
_MODEL_IN_PATH = re.compile(r"/models?/([^/:?]+)(?:/versions?/([^/:?]+))?")
_KEY_HEADERS = ("x-api-key", "apikey")


class Options(NamedTuple):
    """How foreign logs are read."""

    limits: LimitSettings
    secret: bytes
    model: str = ""  # of records that name none
    client_headers: tuple[str, ...] = ()  # headers that name the client, set by a gateway; names in lower case
    mapping: Mapped = Mapped()


class Message(NamedTuple):
    """One record: its bytes, and what the transport says of it."""

    value: bytes
    topic: str = ""
    key: str = ""
    headers: Mapping[str, str] = {}  # names in lower case, `ce-` as `ce_`
    timestamp_ms: int = -1


@dataclass(slots=True)
class Call:
    """One call, or one half of it. Bodies are parsed JSON, or a text; None where the log has none."""

    time_us: int
    model: ModelRef
    client_id: str = ""
    client_kind: str = UNKNOWN
    client_ip: str = ""
    status: int = 200
    latency_ms: float = float("nan")
    request: Any = None
    response: Any = None
    half: Literal["", "request", "response"] = ""
    join: str = ""  # what both halves carry
    flags: int = 0


class Read(NamedTuple):
    """The calls of one record, and the indexes of its entries that are no calls."""

    calls: list[Call]
    bad: tuple[int, ...] = ()


class Columns(NamedTuple):
    """An answer that the envelope itself holds: columns of one entry for each instance."""

    columns: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that is there and cannot be read."""

    flag: Flag


def message(records: Records, i: int, limits: LimitSettings) -> Message:
    """Return record `i`; a line of a capture file may hold a whole Kafka record as an object."""
    raw = records.values[i] or b""
    timestamp = -1 if records.timestamps_ms is None else records.timestamps_ms[i]
    key = b"" if records.keys is None else records.keys[i] or b""
    if len(raw) > limits.max_record_bytes:
        raise RecordError(Reason.TOO_LARGE, f"longer than {limits.max_record_bytes} bytes (limits.max_record_bytes)")
    if raw[:1] == b"\0" and raw[5:6] in (b"{", b"["):  # the framing of a schema registry
        raw = raw[5:]
    if records.headers is None and b'"value"' in raw:  # never from a broker, where the value can be the caller's body
        captured = _captured(raw, limits)
        if captured is not None:
            return captured
    headers = [(name, (value or b"").decode("utf-8", "replace")) for name, value in _headers(records, i)]
    return Message(raw, records.topic, key.decode("utf-8", "replace"), _named(headers), timestamp)


def _headers(records: Records, i: int) -> Sequence[tuple[str, bytes | None]]:
    return records.headers[i] if records.headers is not None else ()


def _captured(raw: bytes, limits: LimitSettings) -> Message | None:
    try:
        line = parse(raw, limits)
    except RecordError:
        return None
    if not isinstance(line, dict) or "headers" not in line or "topic" not in line:
        return None
    value, headers = line.get("value"), line["headers"]
    pairs = headers.items() if isinstance(headers, dict) else headers if isinstance(headers, list) else ()
    good = [tuple(pair) for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
    texts = [(name, value) for name, value in good if isinstance(name, str) and isinstance(value, str)]
    stamp = line.get("timestamp", line.get("ts"))
    return Message(
        value.encode("utf-8", "replace") if isinstance(value, str) else b"",
        word(line["topic"]),
        word(line.get("key")),
        _named(texts),
        int(stamp) if stamp is not None and fields.is_integer(stamp) else -1,
    )


def _named(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return headers by lower-case name; of two with one name the last, which stands nearest to us."""
    return {re.sub("^ce-", "ce_", name.lower()): value for name, value in pairs}


# --- reading parts of an envelope -----------------------------------------------------------------------------------


def word(value: Any) -> str:
    """Return a short text, "" where it is anything else; over 256 bytes its hash."""
    if not isinstance(value, str) and not fields.is_integer(value):
        return ""
    try:
        return bounded(str(value))
    except UnicodeEncodeError:
        return ""


def section(value: Any) -> dict[str, Any]:
    """Return an object, empty where it is anything else."""
    return value if isinstance(value, dict) else {}


def one_section(value: Any) -> dict[str, Any]:
    """Return a record, or the first of a batch, as `section` does."""
    return section(value[0] if isinstance(value, list) and value else value)


def http_status(value: Any) -> int:
    """Return an HTTP status, 200 where it cannot be read."""
    if isinstance(value, str) and re.fullmatch("[0-9]{3}", value):
        value = int(value)
    return value if fields.is_integer(value) and 0 <= value <= 999 else 200


def millis(value: Any, scale: float = 1.0) -> float:
    """Return a duration times `scale`, NaN where it cannot be read."""
    return value * scale if type(value) in (int, float) and 0 <= value < 1e12 else float("nan")


def when(message: Message, *values: Any) -> tuple[int, int]:
    """Return the event time in microseconds and flags: the first value that is a time, else the record's own time.

    Far ahead of the record's own time, that one is taken, flagged. RecordError where there is no time at all.
    """
    written = message.timestamp_ms * 1000 if 0 <= message.timestamp_ms < fields.MAX_TIME_S * 1000 else -1
    for value in values:
        time_us = instant_us(value)
        if time_us is not None:
            if 0 <= written < time_us - _AHEAD_US:
                return written, int(Flag.TIME_CLAMPED)
            return time_us, 0
    if written < 0:
        raise RecordError(Reason.INVALID_EVENT, "no time: neither in the record nor of the record")
    return written, 0


def model_of_path(path: Any) -> ModelRef:
    """Return the model that an address such as /v2/models/digits/versions/3/infer names, else an empty one."""
    found = _MODEL_IN_PATH.search(path[:2048]) if isinstance(path, str) else None
    return ModelRef(word(found[1]), word(found[2] or "")) if found else ModelRef("", "")


def who(headers: Mapping[str, str], options: Options) -> tuple[str, str]:
    """Return the client that headers name and its kind: headers that the gateway sets, else the hash of an API key."""
    for name in options.client_headers:
        client = word(headers.get(name))
        if client:
            return client, "header"
    for name in _KEY_HEADERS:
        secret = options.secret if len(options.secret) <= 64 else blake2b(options.secret).digest()
        if key := headers.get(name):
            digest = blake2b(key.encode("utf-8", "replace"), digest_size=12, key=secret)
            return f"key:{digest.hexdigest()}", "api_key"
    return "", UNKNOWN


def http_headers(value: Any) -> dict[str, str]:
    """Return HTTP headers as a log holds them: texts, or lists of which the last counts; names in lower case."""
    found = {}
    for name, entry in section(value).items():
        last = entry[-1] if isinstance(entry, list) and entry else entry
        if isinstance(last, str):
            found[name.lower()] = last
    return found


# --- bodies ---------------------------------------------------------------------------------------------------------


def body(raw: Any, options: Options, *, encoding: str = "", content_type: str = "", json_bytes: str = "") -> Any:
    """Return a body as parsed JSON, or as text where CSV is declared; `Unreadable` where it cannot be read.

    At most two levels of encoding are undone. `json_bytes` is where the JSON ends and tensors' bytes begin.
    """
    if not isinstance(raw, str | bytes):
        return raw
    if not raw:
        return None
    try:
        return _decoded(raw, options, encoding.upper(), content_type.lower(), json_bytes)
    except BodyError as error:
        return Unreadable(error.flag)
    except RecordError as error:
        return Unreadable(Flag.TOO_LARGE if error.reason is Reason.TOO_LARGE else Flag.SHAPE_MISMATCH)
    except (binascii.Error, ValueError):
        return Unreadable(Flag.SHAPE_MISMATCH)


def _decoded(raw: str | bytes, options: Options, encoding: str, content_type: str, json_bytes: str) -> Any:
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if encoding == "BASE64":
        data = base64.b64decode(data, validate=True)
    if json_bytes.isdecimal() and len(json_bytes) < 10:
        data = open_inference.unpacked(data, int(json_bytes), options.limits.max_numbers)
    if encoding == "CSV" or "csv" in content_type:
        return data.decode()
    read = parse(data, options.limits)
    return parse(read.encode(), options.limits) if isinstance(read, str) else read


def envelope(message: Message, options: Options) -> Any:
    """Return the record as parsed JSON; RecordError where it is none."""
    return parse(message.value, options.limits)


def each(value: Any, one: Callable[[dict[str, Any]], Call]) -> Read:
    """Read a record of one entry, or of a list of entries: one that is no call does not stop the others."""
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise RecordError(Reason.INVALID_EVENT, "an empty list")
    if len(entries) > MAX_ENTRIES:
        raise RecordError(Reason.TOO_LARGE, f"more than {MAX_ENTRIES} entries")
    calls, bad, fault = [], [], None
    for k, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise RecordError(Reason.INVALID_EVENT, "the entry is not a JSON object")
            calls.append(one(entry))
        except RecordError as error:
            bad.append(k)
            fault = error
    if fault is not None and not calls:
        raise fault
    return Read(calls, tuple(bad))


# --- rows -----------------------------------------------------------------------------------------------------------


def rows_of(call: Call, record: int, first: int, options: Options) -> list[Row]:
    """Return one row for each instance of a call, numbered from `first`."""
    inputs = _inputs(call.request, options.limits)
    columns, bad_output = _columns(call.response)
    if call.request is None and columns:  # a log of answers only
        inputs = [(NO_INPUT, Flag(0))] * min(len(columns[0]), options.limits.max_instances)
    answered = [(NO_ANSWER, bad_output)] * len(inputs)
    if columns and not any(fault & Flag.TOO_LARGE for _, fault in inputs):
        answered = answers(columns, len(inputs))
    model = call.model if call.model.name else ModelRef(options.model or UNKNOWN, call.model.version)
    client, kind = (call.client_id, call.client_kind) if call.client_id else (call.client_ip, "ip")
    shared = Row(
        record=record,
        time_us=call.time_us,
        model=model,
        client_id=client or UNKNOWN,
        client_kind=kind if client else UNKNOWN,
        client_ip=call.client_ip,
        status=call.status,
        latency_ms=call.latency_ms,
        flags=call.flags | (0 if client else int(Flag.UNKNOWN_CLIENT)),
    )
    return [
        replace(shared, instance=first + k, given=given, answer=answer, flags=int(shared.flags | fault | bad))
        for k, ((given, fault), (answer, bad)) in enumerate(zip(inputs, answered, strict=True))
    ]


def _inputs(request: Any, limits: LimitSettings) -> list[tuple[Given, Flag]]:
    """Return the inputs of a call, one at least."""
    if request is None:
        return [(NO_INPUT, Flag(0))]
    if isinstance(request, Unreadable):
        return [(NO_INPUT, request.flag)]
    try:
        vectors = _vectors(codecs.request(request), limits)
    except BodyError as error:
        return [(NO_INPUT, error.flag)]
    inputs = [fields.vector(row, limits) for row in vectors]
    width = fields.common_width([given for given, _ in inputs])
    return [
        (given, fault) if given is NO_INPUT or len(given.values) == width else (NO_INPUT, Flag.SHAPE_MISMATCH)
        for given, fault in inputs
    ]


def _vectors(entries: list[Any], limits: LimitSettings) -> list[list[float] | None]:
    """Return the numbers of each instance; BodyError where there are none or too many."""
    if not entries:
        raise BodyError
    if len(entries) > limits.max_instances:
        raise BodyError(Flag.TOO_LARGE)
    vectors = [codecs.flat(entry) for entry in entries]
    if sum(len(row) for row in vectors if row is not None) > limits.max_numbers:
        raise BodyError(Flag.TOO_LARGE)
    return vectors


def _columns(response: Any) -> tuple[list[list[Any]], Flag]:
    if response is None:
        return [], Flag(0)
    if isinstance(response, Unreadable):
        return [], Flag.BAD_OUTPUT
    if isinstance(response, Columns):
        return response.columns, Flag(0)
    try:
        return codecs.response(response), Flag(0)
    except BodyError:
        return [], Flag.BAD_OUTPUT
