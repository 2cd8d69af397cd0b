"""When queries arrive: seconds since the start of the scenario, never a clock."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from detector.events import F64

DAY_S = 86_400.0
_BUSY_HOURS = np.array([1, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 13, 11, 13, 14, 14, 13, 10, 7, 5, 4, 3, 2, 1], np.float64)


def human(rng: Generator, n: int, begin: float, end: float) -> F64:
    """Return n times of somebody at a screen: sittings in working hours, a median of nine seconds between queries."""
    sittings = max(1, int(np.ceil(n / 40)))
    starts = np.sort(daytime(rng, sittings, begin, end))
    gaps = rng.lognormal(np.log(9), 0.9, n)
    sitting = np.sort(rng.integers(0, sittings, n))
    return fit_between(_within(gaps, sitting) + starts[sitting], begin, end)


def machine(rng: Generator, n: int, begin: float, end: float) -> F64:
    """Return n times of a service that passes on its own users' calls: Poisson with the rhythm of the day."""
    return np.sort(daytime(rng, n, begin, end))


def batch(rng: Generator, n: int, begin: float, end: float, size: int = 256, gap_s: float = 0.02) -> F64:
    """Return n times of a job: blocks of `size` queries, as fast as the API answers, at even intervals."""
    blocks = max(1, int(np.ceil(n / size)))
    interval = (end - begin) / blocks
    starts = begin + interval * (np.arange(blocks) + 0.2 * rng.random())
    block = np.arange(n) // size
    return fit_between(_within(rng.exponential(gap_s, n), block) + starts[block], begin, end)


def steady(rng: Generator, n: int, begin: float, end: float, jitter: float = 0.05) -> F64:
    """Return n times at a fixed period with a little jitter: sensors, health checks."""
    period = (end - begin) / max(n, 1)
    return fit_between(begin + period * (np.arange(n) + jitter * rng.standard_normal(n)), begin, end)


def rush(rng: Generator, n: int, begin: float, end: float, gap_s: float = 0.05) -> F64:
    """Return n times back to back from `begin` on: a script that waits for each answer."""
    return fit_between(begin + np.cumsum(rng.gamma(3, gap_s / 3, n)), begin, end)


def daytime(rng: Generator, n: int, begin: float, end: float) -> F64:
    """Return n unsorted times between begin and end, more of them in working hours."""
    edges = np.arange(np.floor(begin / 3600), np.ceil(end / 3600) + 1) * 3600
    low, high = np.maximum(edges[:-1], begin), np.minimum(edges[1:], end)
    weight = _BUSY_HOURS[(edges[:-1] % DAY_S // 3600).astype(np.int64)] * np.maximum(high - low, 0)
    hour = rng.choice(len(weight), n, p=weight / weight.sum())
    return np.asarray(low[hour] + (high - low)[hour] * rng.random(n))


def fit_between(times: F64, begin: float, end: float) -> F64:
    """Return sorted times inside [begin, end]: squeezed if they run past the end."""
    out = np.maximum(np.sort(times), begin)
    if len(out) and out[-1] > end:
        out = begin + (out - begin) * ((end - begin) / (out[-1] - begin))
    return out


def _within(gaps: F64, group: np.ndarray[tuple[int], np.dtype[np.int64]]) -> F64:
    """Return the running sum of gaps inside each group of consecutive entries."""
    total = np.cumsum(gaps)
    first = np.searchsorted(group, group)
    return total - total[first]
