"""In memory, one core: merely decoding, and all the way from bytes to alerts, on the same messages in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import process_time
from typing import NamedTuple

import orjson

from detector.alerts import Alert
from detector.events import Records
from detector.pipeline import Pipeline
from detector.settings import Settings
from detector.wiring import build_pipeline, decoder, rules_of
from tests.benchmarks.traffic import CLIMBER, Traffic

NUMBERS_A_ROUND = 200_000  # inputs and scores of one round's messages together
POLL = 4000  # records handed over at a time, as the service does
PRIMING = 1200  # messages until the model has its reference and the climber its evidence


class Way:
    """Decoder and pipeline as the service wires them, with shipped rules and default settings."""

    def __init__(self, poll: int = POLL, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.decode = decoder(self.settings)
        self.pipeline: Pipeline = build_pipeline(self.settings, rules_of(self.settings))
        self.poll = poll
        self.read = 0
        self.alerts: list[Alert] = []

    def take(self, values: Sequence[bytes]) -> None:
        """Take records all the way to alerts."""
        for start in range(0, len(values), self.poll):
            part = values[start : start + self.poll]
            records = Records("bench", [0] * len(part), range(self.read, self.read + len(part)), part)
            self.read += len(part)
            self.alerts += self.pipeline.process(self.decode(records).batch)


class Rate(NamedTuple):
    """Messages a second of processor time; the ratio is the median over rounds, each with its own pair."""

    decode_only: float
    to_alerts: float
    ratio: float
    climber_found: bool


def measure(traffic: Traffic, rounds: int, poll: int = POLL, flood_first: int = 0) -> Rate:
    """Measure both ways, in turn; every round has new messages. `flood_first`: messages before the first round."""
    way = Way(poll)
    way.take(traffic.messages(PRIMING))
    while flood_first > 0:
        way.take(traffic.messages(min(POLL, flood_first)))
        flood_first -= POLL
    count = max(256, NUMBERS_A_ROUND // (traffic.width + 10))
    pairs = []
    for turn in range(rounds):
        values = traffic.messages(count)
        steps = [lambda: _parse(values), lambda: way.take(values)]  # noqa: B023 (called before the next round)
        order = (0, 1) if turn % 2 == 0 else (1, 0)  # whoever comes second finds warm caches
        took = {step: seconds(steps[step]) for step in order}
        pairs.append((took[0], took[1]))
    return Rate(
        decode_only=count / median(a for a, _ in pairs),
        to_alerts=count / median(b for _, b in pairs),
        ratio=median(a / b for a, b in pairs),
        climber_found=any(alert.client_id.startswith(CLIMBER) for alert in way.alerts),
    )


def _parse(values: Sequence[bytes]) -> None:
    for value in values:
        orjson.loads(value)


def seconds(work: Callable[[], None]) -> float:
    """Return the processor time of a piece of work: what others do on the machine at the time does not count."""
    start = process_time()
    work()
    return process_time() - start
