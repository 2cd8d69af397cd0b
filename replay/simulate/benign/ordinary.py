"""Ordinary clients: new records at human, batch and machine pace; most of all traffic."""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from detector.events import F64
from replay.simulate import pace
from replay.simulate.benign.protocol import Kind, Setting, Trace, trace

Arrivals = Callable[[Generator, int, float, float], F64]


def _fresh(arrivals: Arrivals) -> Callable[[Generator, Setting], Trace]:
    def run(rng: Generator, at: Setting) -> Trace:
        return trace(arrivals(rng, at.queries, at.begin, at.end), at.source.draw(rng, at.queries).x)

    return run


def _newcomer(rng: Generator, at: Setting) -> Trace:
    """A key that was never seen before and stays for a few dozen queries."""
    n = max(4, min(60, at.queries // 5))
    begin = rng.uniform(at.begin, at.begin + 0.8 * (at.end - at.begin))
    return trace(pace.human(rng, n, begin, at.end), at.source.draw(rng, n).x)


KINDS = (
    Kind("human", _fresh(pace.human), hard=False),
    Kind("machine", _fresh(pace.machine), hard=False),
    Kind("batch", _fresh(pace.batch), hard=False),
    Kind("newcomer", _newcomer, hard=False),
)
