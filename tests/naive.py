"""Slow truth beside fast code: each function says plainly what its compiled or bulk twin must give."""

from __future__ import annotations

import json
import math
import re
import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

# --- decoding prediction_event/1 (detector/formats) -----------------------------------------------------------------


class Refused(Exception):  # noqa: N818
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NaiveDecoded(NamedTuple):
    events: list[dict[str, Any]]
    refused: list[tuple[int, str, tuple[int, ...]]]  # offset, reason, instances
    skipped: int


def decode(
    values: list[bytes | None], max_bytes: int = 4 << 20, max_instances: int = 4096, max_numbers: int = 1_000_000
) -> NaiveDecoded:
    """Decode records one by one with plain json; record i has offset i."""
    out = NaiveDecoded([], [], 0)
    skipped = 0
    for offset, value in enumerate(values):
        if not value:
            skipped += 1
            continue
        try:
            events, bad = _record(value, max_bytes, max_instances, max_numbers)
        except Refused as refused:
            out.refused.append((offset, refused.reason, ()))
            continue
        out.events.extend({"offset": offset, **event} for event in events)
        if bad:
            out.refused.append((offset, "invalid_event", tuple(bad)))
    return out._replace(skipped=skipped)


def _record(
    value: bytes, max_bytes: int, max_instances: int, max_numbers: int
) -> tuple[list[dict[str, Any]], list[int]]:
    if len(value) > max_bytes or _depth(value) > 32:
        raise Refused("too_large")
    try:
        event = json.loads(value.decode())
    except ValueError:
        raise Refused("invalid_json") from None
    if not isinstance(event, dict):
        raise Refused("invalid_event")
    if event.get("schema") not in (None, "prediction_event/1"):
        raise Refused("unknown_schema")
    client, model = _section(event.get("client")), _section(event.get("model"))
    shared = {
        "time_us": _time_us(event.get("event_time")),
        "client_id": _text(client.get("id")) or "unknown",
        "client_kind": _kind(_text(client.get("kind"))),
        "client_ip": _text(client.get("ip")),
        "status": _whole(event.get("status"), 200, 999),
        "latency_ms": _latency(event.get("latency_ms")),
        "flags": _whole(event.get("flags"), 0, 0x7FFF) | (0 if _text(client.get("id")) else 16),
    }
    name, version = _text(model.get("name")), _text(model.get("version"))
    if not name:
        raise Refused("invalid_event")
    given, output = event.get("input"), event.get("output")
    rows = given["vector"] if isinstance(given, dict) and _many(given.get("vector"), output) else None
    if rows is None:
        return [_event(shared, (name, version), 0, _input(given, max_numbers), _output(output))], []
    if len(rows) > max_instances or sum(len(row) for row in rows if isinstance(row, list)) > max_numbers:
        return [_event(shared, (name, version), 0, (0, [], 4, "", 0), _output(None))], []
    inputs = [_input({"vector": row if row is not None else "no row"}, max_numbers) for row in rows]
    widths = [len(numbers) for _, numbers, _, _, _ in inputs if numbers]
    common = max(widths, key=lambda w: (widths.count(w), -widths.index(w))) if widths else 0
    events, bad = [], []
    for k, one in enumerate(inputs):
        if one[2] == 2:
            bad.append(k)
            continue
        kept = (0, [], 2, "", 0) if one[1] and len(one[1]) != common else one
        events.append(_event(shared, (name, version), k, kept, _output(_share(output, k, len(rows)))))
    return events, bad


def _event(shared: dict[str, Any], model: tuple[str, str], instance: int, given: Any, answer: Any) -> dict[str, Any]:
    level, numbers, fault, seed, digest = given
    version = model[1] + (" sketch:" + seed if seed else "")
    return {
        **shared,
        **answer,
        "instance": instance,
        "model": (model[0], version),
        "input_level": level,
        "input": numbers,
        "given_digest": digest,
        "flags": shared["flags"] | fault | answer["flags"],
    }


def _depth(value: bytes) -> int:
    bare = re.sub(rb'"(?:[^"\\]|\\.)*("|\\?\Z)', b"", value, flags=re.DOTALL)
    level = deepest = 0
    for c in bare:
        level += (c in b"[{") - (c in b"]}")
        deepest = max(deepest, level)
    return deepest


def _section(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise Refused("invalid_event")
    return value or {}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) and not _is_whole(value):
        raise Refused("invalid_event")
    try:
        return _short(str(value))
    except UnicodeEncodeError:
        raise Refused("invalid_event") from None


def _short(text: str) -> str:
    data = text.encode()
    return text if len(data) <= 256 else "blake2b:" + blake2b(data, digest_size=16).hexdigest()


def _kind(text: str) -> str:
    return text if text in ["consumer", "api_key", "user", "mtls", "jwt_sub", "header", "ip"] else "unknown"


def _whole(value: Any, default: int, high: int) -> int:
    if value is None:
        return default
    if not _is_whole(value) or not 0 <= value <= high:
        raise Refused("invalid_event")
    return int(value)


def float32(value: Any) -> float | None:
    """Round a number to float64, then to float32, perhaps to infinity; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(struct.unpack("f", struct.pack("f", float(value)))[0])
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _latency(value: Any) -> float:
    if value is None:
        return math.nan
    number = float32(value)
    if number is None:
        raise Refused("invalid_event")
    return number if math.isfinite(number) else math.nan


def _time_us(value: Any) -> int:
    micros = -1
    if isinstance(value, str):
        match = re.fullmatch(
            r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-]\d\d:\d\d)",
            value,
            re.ASCII,
        )
        if not match or int(match[3]) > 60:
            raise Refused("invalid_event")
        zone = match[5] if match[5] not in "Zz" else "+00:00"
        if int(zone[1:3]) > 23 or int(zone[4:]) > 59:
            raise Refused("invalid_event")
        try:
            minute = datetime.fromisoformat(f"{match[1]}T{match[2]}:00+00:00")
        except ValueError:
            raise Refused("invalid_event") from None
        micros = (minute - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        east_s = (int(zone[1:3]) * 60 + int(zone[4:])) * 60 * (-1 if zone[0] == "-" else 1)
        micros += (int(match[3]) - east_s) * 1_000_000 + int(((match[4] or ".")[1:] + "000000")[:6])
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 7_258_118_400:
        micros = round(value * 1e6)
    if not 0 <= micros < 7_258_118_400_000_000:
        raise Refused("invalid_event")
    return micros


def _input(given: Any, max_numbers: int) -> tuple[int, list[float], int, str, int]:  # noqa: PLR0911
    """Level, numbers, fault, seed of the sketch, hash of a given digest."""
    mismatch: tuple[int, list[float], int, str, int] = (0, [], 2, "", 0)
    if given is None:
        return 0, [], 0, "", 0
    if not isinstance(given, dict):
        return mismatch
    level, numbers, seed = 3, given.get("vector"), ""
    if numbers is None and given.get("sketch") is not None:
        sketch = given["sketch"]
        level, numbers, seed = 2, None, ""
        if isinstance(sketch, dict):
            try:
                seed = _text(sketch.get("seed_id"))
            except Refused:
                seed = ""
            numbers = sketch.get("values")
        if not seed:
            return mismatch
    elif numbers is None and given.get("digest") is not None:
        return _digest(given["digest"])
    elif numbers is None:
        return 0, [], 0, "", 0
    if isinstance(numbers, list) and len(numbers) > max_numbers:
        return 0, [], 4, "", 0
    row = _row(numbers)
    if not row or None in row:
        return mismatch
    if not all(math.isfinite(x) for x in row if x is not None):
        return 0, [], 1, "", 0
    return level, [x for x in row if x is not None], 0, seed, 0


def _digest(value: Any) -> tuple[int, list[float], int, str, int]:
    if not isinstance(value, str) or not value:
        return 0, [], 2, "", 0
    if re.fullmatch("u64:[0-9a-f]{16}", value):
        return 1, [], 0, "", int(value[4:], 16) or 1
    try:
        return 1, [], 0, "", int(blake2b(value.encode(), digest_size=8).hexdigest(), 16) or 1
    except UnicodeEncodeError:
        return 0, [], 2, "", 0


def _row(values: Any) -> list[float | None]:
    return [float32(value) for value in values] if isinstance(values, list) else []


def _many(vector: Any, output: Any) -> bool:
    if not isinstance(vector, list) or not any(isinstance(row, list) for row in vector):
        return False
    if any(isinstance(row, int | float) and not isinstance(row, bool) for row in vector):
        return False
    if not isinstance(output, dict):
        return True
    scores, topk = output.get("scores"), output.get("topk")
    parts = [output.get("label"), output.get("confidence")]
    parts += scores[:1] if isinstance(scores, list) else []
    parts += topk[0][:1] if isinstance(topk, list) and topk and isinstance(topk[0], list) else []
    return not any(isinstance(part, str | int | float) for part in parts)


def _share(output: Any, k: int, n: int) -> Any:
    """What a record's output says of its instance k of n; "bad" where it says nothing readable."""
    if not isinstance(output, dict):
        return output if output is None else "bad"
    fields = {f: output[f] for f in ("label", "confidence", "scores", "topk") if output.get(f) is not None}
    if any(not isinstance(column, list) or len(column) != n for column in fields.values()):
        return "bad"
    return {f: column[k] for f, column in fields.items()}


def _output(output: Any) -> dict[str, Any]:  # noqa: PLR0911
    blank = {"output_level": 0, "label": "", "label_key": -1, "confidence": math.nan, "scores": [], "flags": 0}
    if output is None:
        return blank
    bad = {**blank, "flags": 8}
    if not isinstance(output, dict):
        return bad
    try:
        label = _label(output.get("label"))
        pairs = output.get("topk")
        if pairs is not None:
            if not isinstance(pairs, list) or not pairs:
                return bad
            if any(not isinstance(pair, list) or len(pair) != 2 for pair in pairs):
                return bad
            pairs = [(_label(pair[0]), float32(pair[1])) for pair in pairs]
    except (Refused, UnicodeEncodeError):
        return bad
    scores = None if output.get("scores") is None else _row(output["scores"])
    confidence = None if output.get("confidence") is None else float32(output["confidence"])
    numbers = [*(scores or []), *([s for _, s in pairs] if pairs else [])]
    if output.get("confidence") is not None:
        numbers.append(confidence)
    if scores == [] or any(number is None or not math.isfinite(number) for number in numbers):
        return bad
    level = 1 if label[0] else 0
    if scores is not None:
        top = max(x for x in scores if x is not None)
        level, confidence = 3, top
        label = label if label[0] else (str(scores.index(top)), scores.index(top))
    elif pairs or confidence is not None:
        level = 2
        if pairs:
            best = max(s for _, s in pairs if s is not None)
            first = next(named for named, s in pairs if s == best)
            label = label if label[0] else first
            confidence = best if confidence is None else confidence
    return {
        **blank,
        "output_level": level,
        "label": label[0],
        "label_key": label[1],
        "confidence": math.nan if confidence is None else confidence,
        "scores": scores or [],
    }


def _label(value: Any) -> tuple[str, int]:
    if value is None or value == "":
        return "", -1
    if not isinstance(value, str) and not _is_whole(value):
        raise Refused("bad_output")
    if not isinstance(value, str) and 0 <= value < 2**32:
        return str(value), value
    hashed = int(blake2b(str(value).encode(), digest_size=8).hexdigest(), 16)
    return _short(str(value)), 2**32 + hashed % (2**63 - 2**32)
