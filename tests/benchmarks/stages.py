"""Where the time of one event goes, stage by stage, and what a client costs in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import Any

from detector import answers, blocks, families, history, pipeline
from detector.reference import describe
from tests.benchmarks.memory import NUMBERS_A_ROUND, POLL, PRIMING, Way, seconds
from tests.benchmarks.traffic import Traffic


class Clock:
    """Adds up processor time by stage; a stage inside another counts for itself only."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inside: list[float] = []

    def timed(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work`, with its time counted."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(0.0)
            start = process_time()
            try:
                return work(*args, **kwargs)
            finally:
                took = process_time() - start
                inner = self._inside.pop()
                self.spent[stage] = self.spent.get(stage, 0.0) + took - inner
                if self._inside:
                    self._inside[-1] += took

        return run


def stage_times(traffic: Traffic, messages: int = 0, poll: int = POLL) -> dict[str, float]:
    """Return microseconds an event by stage, in the order of the pipeline; `all` is the sum."""
    way, clock = Way(poll), Clock()
    way.take(traffic.messages(PRIMING))
    count = messages or max(2000, 2 * NUMBERS_A_ROUND // (traffic.width + 10))
    values = traffic.messages(count)
    with _instrumented(way, clock):
        clock.timed("the rest of the pipeline", way.take)(values)
    times = {stage: 1e6 * spent / count for stage, spent in clock.spent.items()}
    return times | {"all": sum(times.values())}


@contextmanager
def _instrumented(way: Way, clock: Clock) -> Iterator[None]:
    """Time the stages of one pipeline while the block runs."""
    p = way.pipeline
    stages: list[tuple[Any, str, str]] = [
        (way, "decode", "decode"),
        (p.baselines, "sketch", "sketch"),
        (history, "observe", "history"),
        (blocks, "observe", "blocks"),
        (answers, "observe", "answers"),
        (families, "combine", "families"),
        (p.baselines, "learn", "baseline learning"),
        (p.triage, "observe", "rules and triage"),
        (p.campaigns, "observe", "campaigns"),
        (pipeline, "build_alert", "alerts"),
    ]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in stages]
    for owner, name, stage in stages:
        setattr(owner, name, clock.timed(stage, getattr(owner, name)))
    detectors = p.tracks.detectors
    p.tracks.detectors = tuple(_Timed(detector, clock) for detector in detectors)
    try:
        yield
    finally:
        p.tracks.detectors = detectors
        for owner, name, before in kept:
            setattr(owner, name, before)


class _Timed:
    """A detector whose time is counted."""

    def __init__(self, detector: Any, clock: Clock) -> None:
        self.name, self.version = detector.name, detector.version
        self.need, self.signals, self.state = detector.need, detector.signals, detector.state
        self.observe = clock.timed(f"detector {detector.name}", detector.observe)


def renewal_ms(traffic: Traffic) -> float:
    """Return the processor time [ms] in which a model's reference is measured anew: once a model and hour."""
    way = Way()
    way.take(traffic.messages(PRIMING))
    s = way.pipeline.baselines.scales
    n = int(s.row_count[0])
    rows, codes = s.rows[0, :, :n].T.copy(), s.blocks[0, :n].copy()
    owners, trained = s.owners[0, :n].copy(), s.trained[0, :n].copy()

    def anew() -> None:
        describe(s, 0, rows, codes, owners, trained)

    return 1e3 * min(seconds(anew) for _ in range(9))


def state_bytes() -> dict[str, float]:
    """Return bytes of state for each followed client by owner and array, and what the table costs in all."""
    way = Way()
    clients = way.pipeline.clients
    sizes: dict[str, float] = {}
    for owner, state in clients.states.items():
        for name, array in state._asdict().items():
            sizes[f"{owner}.{name}"] = array.nbytes / clients.capacity
    table = {name: array.nbytes for name, array in clients.table._asdict().items()}
    sizes["table"] = (sum(table.values()) - table["door"]) / clients.capacity
    return {
        **dict(sorted(sizes.items(), key=lambda item: -item[1])),
        "a followed client, in all": sum(sizes.values()),
        "all unfollowed clients together": table["door"],
    }
