"""When the queries of a client arrive, seconds since the start of the capture."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from detector.events import F64, I64

HOUR_S = 3600.0


def times(pace: str, rng: Generator, call: I64, begin: float, end: float) -> F64:
    """Return [n] ascending times from `begin` on. `call` [n] numbers the queries that were sent together."""
    n = len(call)
    if pace in ("machine", "slow"):  # other people's calls, or one's own spread out: at any time
        return np.sort(rng.uniform(begin, end, n))
    if pace == "steady":
        period = (end - begin) / n
        return np.sort(begin + period * (np.arange(n) + 0.03 * rng.standard_normal(n)).clip(0))
    if pace == "human":  # some sittings, half a minute between queries, now and then much less
        gaps = rng.lognormal(np.log(15), 1.0, n)
        breaks = rng.random(n) < 1 / 30
        gaps[breaks] += rng.exponential((end - begin) / max(2.0, n / 15), int(breaks.sum()))
        return _squeezed(begin + np.cumsum(gaps), begin, end)
    wait = float(np.exp(rng.uniform(np.log(0.03), np.log(0.6))))
    gaps = rng.lognormal(np.log(wait), 0.5, n)
    same = np.diff(call, prepend=-1) == 0
    gaps[same] = rng.exponential(0.008, int(same.sum()))
    if pace == "batch":  # jobs of some hundred at several moments
        jobs = np.sort(rng.uniform(begin, end, 1 + n // 120))
        job = np.minimum(np.arange(n) // 120, len(jobs) - 1)
        return np.sort(jobs[job] + rng.exponential(0.02, n).cumsum())
    return _squeezed(begin + np.cumsum(gaps), begin, end)


def _squeezed(time_s: F64, begin: float, end: float) -> F64:
    """Return times that end by `end`."""
    last = float(time_s[-1])
    return time_s if last <= end else begin + (time_s - begin) * ((end - begin) / (last - begin))
