"""Exact bounds of rates (Clopper-Pearson, one-sided, 95 %), of their ratios, and of differences between pairs."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import beta, binom

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
    return Rate(n, found, k / n if n else None, *_bounds(k, n, CONFIDENCE))


def ratio(some: Rate, others: Rate) -> Rate | None:
    """Return one rate as a share of another, from independent counts; None of nothing. `n`, `found`: of the first.

    Each bound takes both rates at their worst of 97.5 %, so that 95 % hold for the ratio (Bonferroni).
    """
    if not some.n or not others.n or not others.found:
        return None
    each = (1 + CONFIDENCE) / 2
    low, high = _bounds(min(some.found, some.n), some.n, each)
    other_low, other_high = _bounds(min(others.found, others.n), others.n, each)
    return Rate(some.n, some.found, (some.rate or 0.0) / (others.rate or 1.0), low / other_high, high / other_low)


def sign_test(more: int, less: int) -> float:
    """Return how likely at least `more` of the discordant pairs are, were either side of each as likely (McNemar)."""
    return float(binom.sf(more - 1, more + less, 0.5))


def _bounds(k: int, n: int, confidence: float) -> tuple[float, float]:
    low = float(beta.ppf(1 - confidence, k, n - k + 1)) if k else 0.0
    return low, float(beta.ppf(confidence, k + 1, n - k)) if k < n else 1.0
