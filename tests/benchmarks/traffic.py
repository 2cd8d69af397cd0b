"""Traffic to measure with: ordinary clients of one model, and one that climbs towards a class of it.

Ordinary inputs are drawn anew for every query, around the centre of a class. The climber adds noise to its best input
so far and keeps it where the score of its class rises. Nothing is repeated, so every input takes the whole way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import orjson

from detector.alerts import rfc3339
from detector.events import F64

CLASSES = 10
CLIENTS = 300
CLIMBER = "key-climber"
START_US = 1_795_082_400_000_000  # 2026-11-19T10:00Z
RATE_HZ = 1000.0  # queries a second of event time


@dataclass(slots=True)
class Traffic:
    """A model of `width` inputs and those who ask it.

    `loud`: share of the queries that come from one more client. `flood`: share that comes each from a client of its
    own, never seen before or after. `climb`: share that climbs; after `climb_queries` another client goes on with it,
    from a new start.
    """

    width: int
    loud: float = 0.0
    flood: float = 0.0
    climb: float = 0.05
    climb_queries: int = 1_000_000
    clients: int = CLIENTS
    seed: int = 1
    sent: int = 0
    climbed: int = 0
    _best: F64 = field(init=False)
    _score: float = field(init=False, default=-np.inf)
    _rng: np.random.Generator = field(init=False)
    _centers: F64 = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, self.width])
        self._centers = self._rng.normal(size=(CLASSES, self.width))
        self._best = self._rng.normal(size=self.width)

    def messages(self, count: int) -> list[bytes]:
        """Return the next `count` events, one prediction_event/1 each."""
        return [self._message(client, x) for client, x in self._queries(count)]

    def _queries(self, count: int) -> Iterator[tuple[str, F64]]:
        kind = self._rng.choice(CLASSES, count)
        x = self._centers[kind] + self._rng.normal(size=(count, self.width))
        who = self._rng.random(count)
        for i in range(count):
            self.sent += 1
            share = who[i]
            if share < self.climb:
                yield f"{CLIMBER}-{self.climbed // self.climb_queries}", self._climb()
            elif share < self.climb + self.loud:
                yield "key-loud", x[i]
            elif share < self.climb + self.loud + self.flood:
                yield f"key-once-{self.seed}-{self.sent}", x[i]
            else:
                yield f"key-{self._rng.integers(self.clients)}", x[i]

    def _climb(self) -> F64:
        """Return the climber's next query."""
        if self.climbed % self.climb_queries == 0:
            self._best, self._score = self._rng.normal(size=self.width), -np.inf
        self.climbed += 1
        x = self._best + 0.3 * self._rng.normal(size=self.width)
        score = float(self.answer(x)[0])
        if score > self._score:
            self._best, self._score = x, score
        return x

    def answer(self, x: F64) -> F64:
        """Return the model's scores [10]: a softmax of the distances to the centres."""
        gap = ((self._centers - x) ** 2).sum(axis=1) / (0.2 * self.width)
        score = np.exp(gap.min() - gap)
        return np.asarray(score / score.sum())

    def _message(self, client: str, x: F64) -> bytes:
        scores = self.answer(x)
        return orjson.dumps(
            {
                "schema": "prediction_event/1",
                "event_time": rfc3339(START_US + int(self.sent / RATE_HZ * 1e6)),
                "request_id": f"{self.sent:032x}",
                "client": {"id": client, "kind": "api_key", "ip": "203.0.113.9"},
                "model": {"name": "bench", "version": "1"},
                "status": 200,
                "latency_ms": 3.1,
                "input": {"vector": x.astype(np.float32)},
                "output": {"label": int(scores.argmax()), "scores": scores.round(6)},
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
