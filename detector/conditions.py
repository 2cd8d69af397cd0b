"""Conditions of rules: a tree of all / any / not over thresholds on signals, evaluated on whole columns.

`not` is pushed down to the thresholds while reading (not (x ≥ 6) becomes x < 6), so a signal that says nothing (NaN)
meets no condition, negated or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.detectors import Signal
from detector.events import F32
from detector.rules_yaml import Source, Where, clip, nearest

Mask = NDArray[np.bool_]

_OPERATORS = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}
_LEAF = ("signal", "op", "value")
_BRANCHES = ("all", "any", "not")
_OPPOSITE = {">=": "<", "<": ">=", ">": "<=", "<=": ">"}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One signal against one number."""

    signal: str
    op: str
    value: float

    def met(self, observed: float) -> bool:
        """Say whether one value meets it, in the float32 of the columns."""
        return bool(_OPERATORS[self.op](np.float32(observed), np.float32(self.value)))


@dataclass(frozen=True, slots=True)
class Every:
    """All parts at once."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part; no part at all is never met."""

    parts: tuple[Condition, ...]


Condition = Threshold | Every | Some
NEVER = Some(())


def evaluate(condition: Condition, columns: Mapping[str, F32], n: int) -> Mask:
    """Mark the rows [n] that meet a condition. `all` stops at its first part that no row meets: the usual case."""
    if isinstance(condition, Threshold):
        column = columns.get(condition.signal)
        if column is None:  # a signal of a detector that is switched off
            return np.zeros(n, np.bool_)
        return np.asarray(_OPERATORS[condition.op](column, np.float32(condition.value)))
    if isinstance(condition, Every):
        mask = evaluate(condition.parts[0], columns, n)
        for part in condition.parts[1:]:
            if not mask.any():
                break
            mask = mask & evaluate(part, columns, n)
        return mask
    mask = np.zeros(n, np.bool_)
    for part in condition.parts:
        mask = mask | evaluate(part, columns, n)
    return mask


def thresholds(condition: Condition) -> Iterator[Threshold]:
    """Yield the thresholds of a condition in the order written."""
    if isinstance(condition, Threshold):
        yield condition
    else:
        for part in condition.parts:
            yield from thresholds(part)


def as_data(condition: Condition) -> Any:
    """Return a condition as JSON data: what a hash is taken of, and what `rules show` prints."""
    if isinstance(condition, Threshold):
        return {"signal": condition.signal, "op": condition.op, "value": condition.value}
    return {"all" if isinstance(condition, Every) else "any": [as_data(part) for part in condition.parts]}


def read_condition(
    source: Source, where: Where, data: Any, catalogue: Mapping[str, Signal] | None, *, negated: bool = False
) -> Condition:
    """Read one tree; faults are noted in `source`, and a faulty part becomes one that is never met."""
    if isinstance(data, dict) and any(key in data for key in _LEAF):
        return _threshold(source, where, data, catalogue, negated)
    key = _branch(source, where, data)
    if key is None:
        return NEVER
    at, inner = (*where, key), data[key]
    if key == "not":
        return read_condition(source, at, inner, catalogue, negated=not negated)
    parts = tuple(read_condition(source, (*at, i), part, catalogue, negated=negated) for i, part in enumerate(inner))
    return Every(parts) if (key == "all") != negated else Some(parts)


def _branch(source: Source, where: Where, data: Any) -> str | None:
    """Return which of all, any and not a mapping holds; None, with the fault noted, where it is none of these."""
    if not isinstance(data, dict) or not data:
        source.problem(where, "QW204", "a condition is {signal, op, value} or one of all, any, not")
        return None
    unknown = [key for key in data if key not in _BRANCHES]
    for key in unknown:
        message = f"unknown key {clip(key)!r} in a condition{nearest(key, _LEAF + _BRANCHES)}"
        source.problem((*where, key), "QW104", message, key=True)
    if unknown:
        return None
    if len(data) > 1:
        source.problem(where, "QW204", "a condition has exactly one of all, any, not: nest them to combine")
        return None
    ((key, inner),) = data.items()
    if key != "not" and (not isinstance(inner, tuple) or not inner):
        source.problem((*where, key), "QW204", f"{key!r} takes a list of conditions, at least one")
        return None
    return str(key)


def _threshold(
    source: Source, where: Where, data: dict[str, Any], catalogue: Mapping[str, Signal] | None, negated: bool
) -> Condition:
    before = len(source.problems)
    for key in data:
        if key not in _LEAF:
            source.problem(
                (*where, key), "QW104", f"unknown key {clip(key)!r} in a threshold{nearest(key, _LEAF)}", key=True
            )
    for key in _LEAF:
        if key not in data:
            source.problem(where, "QW105", f"a threshold needs {key!r}")
    signal, op, value = (data.get(key) for key in _LEAF)
    if "signal" in data and not isinstance(signal, str):
        source.problem((*where, "signal"), "QW106", "a signal is named by text")
    elif signal is not None and catalogue is not None and signal not in catalogue:
        source.problem((*where, "signal"), "QW201", f"unknown signal {clip(signal)!r}{nearest(str(signal), catalogue)}")
    if "op" in data and op not in _OPERATORS:
        source.problem((*where, "op"), "QW202", f"unknown operator {clip(op)!r}; valid: {', '.join(_OPERATORS)}")
    if "value" in data and (isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value)):
        source.problem((*where, "value"), "QW106", f"a threshold is a finite number, not {clip(value)!r}")
    if len(source.problems) > before:
        return NEVER
    threshold = Threshold(str(signal), _OPPOSITE[str(op)] if negated else str(op), float(data["value"]))
    if catalogue is not None and not _reachable(threshold, catalogue[threshold.signal]):
        low, high = catalogue[threshold.signal].low, catalogue[threshold.signal].high
        source.problem((*where, "value"), "QW203", f"never met: {signal} runs from {low:g} to {high:g}")
    return threshold


def _reachable(threshold: Threshold, signal: Signal) -> bool:
    return threshold.met(signal.high if threshold.op in (">=", ">") else signal.low)
