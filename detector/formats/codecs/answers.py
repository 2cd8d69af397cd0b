"""What the parts of an answer mean, where nothing but their values can say it: names of outputs carry no meaning.

Numbers from 0 up that sum to 1 ± 0.001 are scores; a text or an integer is a label; a lone number with a fraction
between 0 and 1 is the score of class 1 of two, or the confidence where a label stands beside it. Of other numbers
(a regression, logits) nothing is taken.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from detector.events import Flag
from detector.formats import fields
from detector.formats.columns import NO_ANSWER, Answer

_TOLERANCE = 1e-3


def answers(columns: list[list[Any]], n: int) -> list[tuple[Answer, Flag]]:
    """Return the answers of n instances; columns of other lengths are unreadable."""
    if n == 1:  # a list of scores alone, without the list of instances around it
        columns = [[column] if len(column) != 1 and is_distribution(column) else column for column in columns]
    fitting = [column for column in columns if len(column) == n]
    if columns and not fitting:
        return [(NO_ANSWER, Flag.BAD_OUTPUT)] * n
    return [fields.answer(meaning([column[k] for column in fitting])) for k in range(n)]


def meaning(parts: list[Any]) -> dict[str, Any]:
    """Return the parts of one answer by what they are: label, scores, confidence."""
    found: dict[str, Any] = {}
    numbers: list[float] = []
    for part in _opened(parts):
        if isinstance(part, list):
            if is_distribution(part):
                found.setdefault("scores", part)
        elif isinstance(part, str | int):
            found.setdefault("label", int(part) if isinstance(part, bool) else part)
        elif isinstance(part, float):
            numbers.append(part)
    if numbers and "scores" not in found:
        found |= _number(numbers[0], labelled="label" in found)
    return found


def is_distribution(values: list[Any]) -> bool:
    """Say whether these are two or more numbers from 0 up that sum to 1 ± 0.001."""
    if len(values) < 2 or not set(map(type, values)) <= {int, float}:
        return False
    return all(0 <= x <= 1 + _TOLERANCE for x in values) and abs(sum(values) - 1) <= _TOLERANCE


def _opened(parts: list[Any]) -> list[Any]:
    """Open objects, and lists of one: a label as [[3]] is a label."""
    opened: list[Any] = []
    for part in parts:
        inner = part
        while isinstance(inner, list) and len(inner) == 1:
            inner = inner[0]
        opened += [inner] if not isinstance(inner, dict) else [inner[name] for name in sorted(inner)]
    return opened


def _number(value: float, *, labelled: bool) -> dict[str, Any]:
    if not isfinite(value):
        return {"confidence": value}  # flagged as unreadable
    if 0 <= value <= 1:
        return {"confidence": value} if labelled else {"scores": [1 - value, value]}
    if value.is_integer() and not labelled and abs(value) < 1 << 53:
        return {"label": int(value)}
    return {}
