"""Why a rule matched one event, and what would have kept it quiet, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np

from detector.alerts import Evidence
from detector.conditions import Condition, Every, Threshold, thresholds
from detector.events import F32
from detector.rules import Rule, Ruleset

_BEYOND = {
    ">=": "above",
    ">": "of at least",
    "<=": "below",
    "<": "of at most",
}  # a threshold there would not have been met


def at(signals: Mapping[str, F32], name: str, row: int) -> float:
    """Return what a signal said of one event, NaN where nothing."""
    return float(signals[name][row]) if name in signals else np.nan


def evidence_items(
    ruleset: Ruleset,
    rule: Rule,
    signals: Mapping[str, F32],
    row: int,
    quantiles: Mapping[str, tuple[float, float, float]],
) -> tuple[Evidence, ...]:
    """Return every threshold of the rule and its ladder, met or not, each once, in the order written."""
    asked = chain.from_iterable(thresholds(condition) for condition in rule.conditions)
    items = []
    for threshold in dict.fromkeys(asked):
        signal = ruleset.catalogue.get(threshold.signal)
        observed = at(signals, threshold.signal, row)
        items.append(
            Evidence(
                signal=threshold.signal,
                observed=observed,
                op=threshold.op,
                threshold=threshold.value,
                unit=signal.unit if signal else "",
                met=threshold.met(observed),
                baseline=quantiles.get(threshold.signal),
            )
        )
    return tuple(items)


def quiet(condition: Condition, signals: Mapping[str, F32], row: int) -> str:
    """Say in one sentence which thresholds would have kept a rule quiet on an event that meets its condition."""
    return f"The rule would have stayed quiet with {_unmet(condition, signals, row)}."


def _unmet(condition: Condition, signals: Mapping[str, F32], row: int) -> str:
    """Name the thresholds that make a met condition an unmet one: any of an `all`, each met part of an `any`."""
    if isinstance(condition, Threshold):
        return _moved(condition, at(signals, condition.signal, row))
    if isinstance(condition, Every):
        return ", or ".join(_unmet(part, signals, row) for part in condition.parts)
    parts = [_unmet(part, signals, row) for part in condition.parts if _met(part, signals, row)]
    return parts[0] if len(parts) == 1 else f"all of ({'; '.join(parts)})"


def _met(condition: Condition, signals: Mapping[str, F32], row: int) -> bool:
    if isinstance(condition, Threshold):
        return condition.met(at(signals, condition.signal, row))
    every = all if isinstance(condition, Every) else any
    return every(_met(part, signals, row) for part in condition.parts)


def _moved(threshold: Threshold, observed: float) -> str:
    more = "more" if threshold.op in (">=", ">") else "less"
    by = abs(observed - threshold.value)
    return (
        f"a threshold {_BEYOND[threshold.op]} {observed:.4g} on {threshold.signal} "
        f"({by:.4g} {more} than its {threshold.value:g})"
    )
