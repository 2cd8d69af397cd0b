"""Careful reading of single fields out of parsed JSON, whatever stands there."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np

from detector.events import F32, Flag, InputLevel, OutputLevel
from detector.formats.columns import NO_ANSWER, NO_INPUT, Answer, Given, bounded, hash_text, label_key
from detector.settings import LimitSettings

MAX_TIME_S = 7_258_118_400  # 2200-01-01
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_NUMBERS = ({int}, {float}, {int, float})
_READ_DIGEST = re.compile("u64:[0-9a-f]{16}")


class FieldError(ValueError):
    """A field cannot be read; the message names it and never quotes it."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field}: {fault}")


def is_integer(value: Any) -> bool:
    """Say whether `value` is an integer of 64 bits (parsers disagree about longer ones) and no boolean."""
    return type(value) is int and -(1 << 63) <= value < 1 << 64


def section(parent: dict[str, Any], field: str) -> dict[str, Any]:
    """Return an object, empty where it is absent."""
    value = parent.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FieldError(field, "must be an object")
    return value


def text(parent: dict[str, Any], field: str, path: str) -> str:
    """Return a text (an integer counts as one), "" where it is absent; over 256 bytes its hash."""
    value = parent.get(field)
    if value is None:
        return ""
    if not isinstance(value, str) and not is_integer(value):
        raise FieldError(path, "must be a string")
    try:
        return bounded(str(value))
    except UnicodeEncodeError:
        raise FieldError(path, "is not valid Unicode") from None


def integer(parent: dict[str, Any], field: str, default: int, low: int, high: int) -> int:
    """Return an integer within low..high, `default` where it is absent."""
    value = parent.get(field)
    if value is None:
        return default
    if not is_integer(value) or not low <= value <= high:
        raise FieldError(field, f"must be an integer from {low} to {high}")
    return int(value)


def number(parent: dict[str, Any], field: str) -> float:
    """Return a number as float32, NaN where it is absent or not finite."""
    value = parent.get(field)
    if value is None:
        return float("nan")
    row = floats([value])
    if row is None:
        raise FieldError(field, "must be a number")
    return float(row[0]) if np.isfinite(row[0]) else float("nan")


def time_us(value: Any, field: str = "event_time") -> int:
    """Return microseconds since 1970 UTC of an RFC 3339 text or of a number of seconds; the years 1970 to 2199 only."""
    if value is None:
        raise FieldError(field, "is missing")
    if type(value) is str:
        micros = _rfc3339_us(value, field)
    elif type(value) in (int, float):
        # NaN compares false, huge integers must not become floats
        micros = round(value * 1e6) if 0 <= value < MAX_TIME_S else -1
    else:
        raise FieldError(field, "must be an RFC 3339 text or epoch seconds")
    if not 0 <= micros < MAX_TIME_S * 1_000_000:
        raise FieldError(field, "lies outside the years 1970 to 2199 (numbers are seconds, not milliseconds)")
    return micros


def _rfc3339_us(value: str, field: str) -> int:
    match = _RFC3339.fullmatch(value)
    if match is None:
        raise FieldError(field, "is not RFC 3339 with a time zone, such as 2026-11-21T10:00:00Z")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, zone_h, zone_min = match.groups()[6:]
    try:
        east = timedelta(hours=int(zone_h or 0), minutes=int(zone_min or 0)) * (-1 if sign == "-" else 1)
        start = datetime(year, month, day, hour, minute, tzinfo=timezone(east))
    except ValueError:
        raise FieldError(field, "is no date of the calendar") from None
    if second > 60:  # 60 is a leap second, and RFC 3339 allows it
        raise FieldError(field, "is no date of the calendar")
    whole = (start - _EPOCH) // timedelta(microseconds=1) + second * 1_000_000
    return whole + int(f"{fraction or '':0<6.6}")


def floats(values: Any) -> F32 | None:
    """Return a flat, non-empty list of numbers as float32 (perhaps with infinities), None where it is anything else."""
    if not isinstance(values, list) or set(map(type, values)) not in _NUMBERS:
        return None
    try:
        wide = np.array(values, np.float64)
    except OverflowError:  # an integer beyond the range of float64
        return np.full(len(values), np.inf, np.float32)
    with np.errstate(over="ignore"):
        return wide.astype(np.float32)


def vector(values: Any, limits: LimitSettings, level: InputLevel = InputLevel.VECTOR) -> tuple[Given, Flag]:
    """Return one row of numbers, or no input and the flag that says why."""
    if isinstance(values, list) and len(values) > limits.max_numbers:
        return NO_INPUT, Flag.TOO_LARGE
    row = floats(values)
    if row is None:
        return NO_INPUT, Flag.SHAPE_MISMATCH
    if not np.isfinite(row).all():
        return NO_INPUT, Flag.NOT_FINITE
    return Given(level, row), Flag(0)


def digest(value: Any) -> tuple[Given, Flag]:
    """Return a given digest as a number; `u64:` and 16 hex digits are one that this program has written."""
    if not isinstance(value, str) or not value:
        return NO_INPUT, Flag.SHAPE_MISMATCH
    try:
        number = int(value[4:], 16) if _READ_DIGEST.fullmatch(value) else hash_text(value)
    except UnicodeEncodeError:
        return NO_INPUT, Flag.SHAPE_MISMATCH
    return Given(InputLevel.DIGEST, digest=number or 1), Flag(0)


def common_width(rows: list[Given]) -> int:
    """Return the width that most rows have (the first such)."""
    widths = Counter(len(row.values) for row in rows if len(row.values))
    return widths.most_common(1)[0][0] if widths else 0


def answer(output: Any) -> tuple[Answer, Flag]:
    """Return the output of one instance, or no output and BAD_OUTPUT where any part of it is unreadable."""
    if output is None:
        return NO_ANSWER, Flag(0)
    try:
        return _answer(output), Flag(0)
    except ValueError:  # UnicodeEncodeError is one
        return NO_ANSWER, Flag.BAD_OUTPUT


def _answer(output: Any) -> Answer:
    output = section({"output": output}, "output")
    label, scores = _label(output.get("label")), output.get("scores")
    confidence = None if output.get("confidence") is None else float(_finite([output["confidence"]])[0])
    top = None if output.get("topk") is None else _topk(output["topk"])
    if scores is not None:
        row = _finite(scores)
        best = int(row.argmax())
        named = label if label is not None else (str(best), best)
        return Answer(OutputLevel.SCORES, *named, float(row[best]), row)
    if top is not None:
        label = label if label is not None else top[0]
        confidence = confidence if confidence is not None else top[1]
    level = OutputLevel.CONFIDENCE if confidence is not None else OutputLevel.LABEL if label else OutputLevel.NONE
    return Answer(level, *(label or ("", -1)), confidence if confidence is not None else float("nan"))


def _label(value: Any) -> tuple[str, int] | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) and not is_integer(value):
        raise FieldError("output.label", "must be a string or an integer")
    return bounded(str(value)), label_key(value)


def _topk(value: Any) -> tuple[tuple[str, int], float]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise FieldError("output.topk", "must be a list of [label, score]")
    labels, scores = [_label(pair[0]) for pair in value], _finite([pair[1] for pair in value])
    best = int(scores.argmax())
    return labels[best] or ("", -1), float(scores[best])


def _finite(values: Any) -> F32:
    row = floats(values)
    if row is None or not np.isfinite(row).all():
        raise FieldError("output", "must hold finite numbers")
    return row
