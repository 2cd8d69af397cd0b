"""Exact bounds of rates: Clopper-Pearson, one-sided, 95 %."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import beta

CONFIDENCE = 0.95


class Rate(NamedTuple):
    """`found` of `n`, with the lowest and the highest true rate that this does not contradict at 95 % each."""

    n: int
    found: int
    rate: float | None  # None of nothing
    low95: float
    high95: float


def rate(found: int, n: int) -> Rate:
    """Return the rate of `found` in `n` with its bounds; found > n (two false alerts on one query) counts as n."""
    k = min(found, n)
    low = float(beta.ppf(1 - CONFIDENCE, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(CONFIDENCE, k + 1, n - k)) if k < n else 1.0
    return Rate(n, found, k / n if n else None, low, high)
