"""Traffic that operating a service makes: health checks, retries, load tests, onboarding bursts."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from replay.simulate import pace
from replay.simulate.benign.protocol import Kind, Setting, Trace, trace


def _health_check(rng: Generator, at: Setting) -> Trace:
    """One to three fixed records at a fixed period, for ever."""
    probes = at.source.draw(rng, int(rng.integers(1, 4))).x
    return trace(pace.steady(rng, at.queries, at.begin, at.end), probes[np.arange(at.queries) % len(probes)])


def _retries(rng: Generator, at: Setting) -> Trace:
    """A client behind a bad network: an eighth of its calls fail and are sent again up to three times."""
    calls = max(1, int(at.queries / 1.2))
    x = at.source.draw(rng, calls).x
    times = pace.machine(rng, calls, at.begin, at.end)
    again = np.where(rng.random(calls) < 0.125, rng.integers(1, 4, calls), 0)
    row = np.repeat(np.arange(calls), again + 1)
    first = np.searchsorted(row, row)
    attempt = np.arange(len(row)) - first
    last = attempt == again[row]
    when = (
        times[row]
        + np.cumsum(np.where(attempt > 0, 0.5 * 2.0**attempt, 0.0))
        - np.cumsum(np.where(attempt > 0, 0.5 * 2.0**attempt, 0.0))[first]
    )
    status = np.where(last, 200, rng.choice([502, 503, 504], len(row))).astype(np.int16)
    order = np.argsort(when, kind="stable")
    return trace(when[order], x[row[order]], status[order])


def _load_test(rng: Generator, at: Setting) -> Trace:
    """A few hundred records in a loop, as fast as it goes."""
    pool = at.source.draw(rng, int(rng.integers(50, 400))).x
    begin = rng.uniform(at.begin, at.begin + 0.7 * (at.end - at.begin))
    return trace(pace.rush(rng, at.queries, begin, at.end, 0.01), pool[rng.integers(0, len(pool), at.queries)])


def _onboarding(rng: Generator, at: Setting) -> Trace:
    """A new customer sends its whole archive at once, then works at machine pace."""
    burst = at.queries * 3 // 4
    begin = rng.uniform(at.begin, at.begin + 0.5 * (at.end - at.begin))
    first = pace.rush(rng, burst, begin, at.end, 0.03)
    later = pace.machine(rng, at.queries - burst, float(first[-1]) if burst else begin, at.end)
    return trace(np.concatenate([first, later]), at.source.draw(rng, at.queries).x)


def _contract_test(rng: Generator, at: Setting) -> Trace:
    """A pipeline's tests at every release: a dozen or two made-up inputs, some of which must be refused."""
    data = at.victim.data
    cases = data.on_grid(data.low + (data.high - data.low) * rng.random((int(rng.integers(8, 25)), data.width)))
    refused = rng.random(len(cases)) < rng.uniform(0.2, 0.5)
    runs = np.arange(at.queries) // len(cases)
    starts = np.sort(rng.uniform(at.begin, at.end, runs.max(initial=0) + 1))
    case = np.arange(at.queries) % len(cases)
    times = starts[runs] + 0.05 * case
    order = np.argsort(times, kind="stable")
    return trace(times[order], cases[case[order]], np.where(refused[case[order]], 422, 200).astype(np.int16))


KINDS = (
    Kind("health_check", _health_check),
    Kind("retries", _retries),
    Kind("load_test", _load_test),
    Kind("onboarding", _onboarding),
    Kind("contract_test", _contract_test),
)
