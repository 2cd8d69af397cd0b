"""Attack families: which tests speak for which attack, as one table.

A detector offers tests: columns of log10 e-values, one a test. A family's evidence is log10 of the weighted mean of the
e-values of its tests. A mean of e-values is an e-value again, whatever the tests share; a test that says nothing (NaN)
bets nothing and counts as e = 1. To feed a new test into a family, add one line to `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.detectors import Signal
from detector.events import F32, F64

LN10 = 2.302585092994046
CAP = 300.0  # log10; beyond it a float64 overflows, and no rule asks


class Progress(NamedTuple):
    """How far the attacker got, by one measure: 0 at `start`, 1 at `end`, clipped; on a log scale where `log`."""

    signal: str
    start: float
    end: float
    log: bool = False


class Family(NamedTuple):
    """One kind of attack. Weights need not sum to 1: they are divided by their sum."""

    name: str
    meaning: str
    tests: tuple[tuple[str, float], ...]  # (signal with log10 e-values, weight)
    progress: tuple[Progress, ...]  # the one that got farthest counts


PARTS = "differences.parts"
VETO = "explainer.parts"  # never silent, so that rules about steering can leave out who varies single features

FAMILIES: tuple[Family, ...] = (
    Family(
        "inversion",
        "inputs are being rebuilt from the model's answers",
        (
            ("steering.chosen", 1),
            ("recency.nearest", 1),
        ),
        (Progress("steering.progress", 0, 1),),
    ),
    Family(
        "attribute_inference",
        "one record is tried with every value of an unknown feature",
        (("differences.sweep", 1),),
        (Progress("differences.swept", 1, 200, log=True),),
    ),
    Family(
        "membership_inference",
        "records are probed for having been in the training data",
        (
            ("probing.threads", 1),
            ("probing.runs", 1),
            ("probing.bisection", 0.5),
            ("training.hits", 0.25),  # little: they speak loudly, and say nothing where there is no index
            ("training.canaries", 0.25),
        ),
        (Progress("reach.records", 1, 200, log=True), Progress("training.records", 1, 200, log=True)),
    ),
    Family(
        "extraction",
        "the model is being copied with inputs of the caller's own making",
        (("novelty.made", 1),),
        (Progress("reach.copy", 0.01, 100, log=True),),
    ),
    Family(
        "adversarial_search",
        "the decision boundary is searched for an input that the model gets wrong",
        (
            ("steering.chosen", 1),
            ("recency.nearest", 1),
            ("probing.bisection", 1),
            ("choices.kept", 1),
            ("choices.mirrored", 1),
        ),
        (Progress("reach.bracket", 2, 0.02, log=True),),
    ),
    Family(
        "explainer",
        "parts of an input are varied one after the other, as SHAP and occlusion do",
        (("differences.coordinates", 1), ("choices.around", 1)),
        (Progress("trajectory.queries", 1, 1_000, log=True),),
    ),
    Family(
        "malformed",
        "a client sends far more calls than others that the model cannot read",
        (("malformed.calls", 1),),
        (Progress("malformed.share", 0, 1),),
    ),
    Family(
        "volume",
        "a client sends more queries than it or its peers ever did",
        (("volume.burst", 1),),
        (Progress("volume.rate", 1, 100_000, log=True),),
    ),
)


def _measures(family: Family) -> str:
    return " or ".join(progress.signal for progress in family.progress)


SIGNALS: tuple[Signal, ...] = (
    Signal(VETO, "log10 e-value", -CAP, CAP, "single features of records varied, 0 where that cannot be told"),
    *(
        signal
        for family in FAMILIES
        for signal in (
            Signal(f"{family.name}.evidence", "log10 e-value", -CAP, CAP, f"evidence that {family.meaning}"),
            Signal(f"{family.name}.progress", "share", 0.0, 1.0, f"how far it got, from {_measures(family)}"),
        )
    ),
)


def family_tests(family: str) -> tuple[str, ...]:
    """Return the tests that feed a family; none for a family that is not in the table."""
    return tuple(test for f in FAMILIES if f.name == family for test, _ in f.tests)


def combine(signals: Mapping[str, F32], families: Iterable[Family] = FAMILIES) -> dict[str, F32]:
    """Return `<family>.evidence` and `<family>.progress`, columns [n], from the columns of the detectors, and VETO.

    Every sum runs over the tests in the table's order, element by element (no BLAS), so that a row's value does not
    depend on the rows beside it. Evidence is NaN where every test of the family is; a column that no detector offers
    counts as NaN.
    """
    families = tuple(families)
    names = [name for name in dict.fromkeys(test for f in families for test, _ in f.tests) if name in signals]
    place = {name: i for i, name in enumerate(names)}
    n = len(next(iter(signals.values()))) if signals else 0
    stacked = np.empty((len(names), n))
    for i, name in enumerate(names):
        stacked[i] = signals[name]
    silent = np.isnan(stacked)
    e_values = np.exp(np.minimum(stacked, CAP) * LN10)
    e_values[silent] = 1.0
    columns: dict[str, F32] = {}
    for family in families:
        alone = signals.get(family.tests[0][0]) if len(family.tests) == 1 else None  # a mean of one: itself
        evidence = _evidence(family, place, e_values, silent) if alone is None else alone
        columns[f"{family.name}.evidence"] = evidence
        reached = [_progress(progress, signals, n) for progress in family.progress]
        columns[f"{family.name}.progress"] = reduce(np.fmax, reached)
    if PARTS in signals:
        columns[VETO] = np.nan_to_num(signals[PARTS], nan=0.0)
    return columns


def _evidence(family: Family, place: Mapping[str, int], e_values: F64, silent: NDArray[np.bool_]) -> F32:
    total = sum(weight for _, weight in family.tests)
    mean = np.zeros(e_values.shape[1])
    mute = np.ones(e_values.shape[1], np.bool_)
    for test, weight in family.tests:
        if test in place:
            mean += (weight / total) * e_values[place[test]]
            mute &= silent[place[test]]
        else:
            mean += weight / total
    evidence: F32 = (np.log(np.maximum(mean, 10.0**-CAP)) / LN10).astype(np.float32)
    evidence[mute] = np.nan
    return evidence


def _progress(progress: Progress, signals: Mapping[str, F32], n: int) -> F32:
    if progress.signal not in signals:
        return np.full(n, np.nan, np.float32)
    column, start, end = signals[progress.signal], progress.start, progress.end
    if progress.log:
        column, start, end = np.log10(np.maximum(column, 1e-9)), float(np.log10(start)), float(np.log10(end))
    share: F32 = np.clip((column - start) / (end - start), 0.0, 1.0).astype(np.float32)
    return share
