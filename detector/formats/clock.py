"""Times as logs write them, whatever the unit."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from detector.formats.fields import MAX_TIME_S, FieldError, time_us

_NAIVE = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?", re.ASCII)
_PLAIN_NUMBER = re.compile(r"\d{1,19}(\.\d{1,9})?", re.ASCII)
_UNITS = ((10**11, 10**6), (10**14, 10**3), (10**17, 1))  # below the bound: microseconds in one unit


def instant_us(value: Any) -> int | None:
    """Return microseconds since 1970 UTC, None where the value is no time of the years 1970 to 2199.

    A number counts as seconds, milliseconds, microseconds or nanoseconds by its size (from 1973 on these cannot be
    confused); a text is RFC 3339, or a date and a time without a zone, which is read as UTC.
    """
    if isinstance(value, str):
        if _PLAIN_NUMBER.fullmatch(value):
            value = float(value) if "." in value else int(value)
        else:
            naive = _NAIVE.fullmatch(value)
            with suppress(FieldError):
                return time_us(f"{naive[1]}T{naive[2]}.{naive[3] or '0'}Z" if naive else value)
            return None
    if type(value) not in (int, float) or not 0 < value < 10**20:
        return None
    micros = next((round(value * unit) for bound, unit in _UNITS if value < bound), None)
    micros = round(value) // 1000 if micros is None else micros
    return micros if micros < MAX_TIME_S * 1_000_000 else None
