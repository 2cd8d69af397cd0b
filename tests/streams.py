"""Small seeded streams of prediction events: clients of many habits in front of a softmax model; no simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from detector.events import F32, F64, EventBatch, InputLevel, ModelRef, OutputLevel, Ragged

START_US = 1_780_000_000_000_000
SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
MODEL = ModelRef("m0", "1")


@dataclass(frozen=True)
class Query:
    """One event to be: what `batch` turns into a row."""

    client: str
    x: F32 | None  # None: the log holds no input
    scores: F32 | None  # a probability for every class; None: the log holds no answer
    model: ModelRef = MODEL
    partition: int = 0
    time_us: int = START_US
    status: int = 200
    answer: OutputLevel = OutputLevel.SCORES
    confident: bool = True  # False: the confidence of a top-1 answer is missing


def batch(queries: Sequence[Query], topic: str = "events") -> EventBatch:
    """Return the queries as columns; offsets count up inside each partition."""
    models = list(dict.fromkeys(q.model for q in queries))
    ends: dict[int, int] = {}
    offsets = []
    for q in queries:
        offsets.append(ends.get(q.partition, 0))
        ends[q.partition] = offsets[-1] + 1
    labels = [-1 if q.scores is None else int(np.argmax(q.scores)) for q in queries]
    levels = [OutputLevel.NONE if q.scores is None else q.answer for q in queries]
    n = len(queries)
    return EventBatch(
        topic=topic,
        models=models,
        model=np.array([models.index(q.model) for q in queries], np.int32),
        time_us=np.array([q.time_us for q in queries], np.int64),
        partition=np.array([q.partition for q in queries], np.int32),
        offset=np.array(offsets, np.int64),
        instance=np.zeros(n, np.int32),
        client_key=np.array([key_of(q.client, *q.model) for q in queries], np.uint64),
        client_id=[q.client for q in queries],
        client_kind=["unknown"] * n,
        client_ip=[""] * n,
        status=np.array([q.status for q in queries], np.int16),
        latency_ms=np.full(n, np.nan, np.float32),
        input_level=np.array([InputLevel.NONE if q.x is None else InputLevel.VECTOR for q in queries], np.uint8),
        input=_ragged([q.x for q in queries]),
        input_digest=np.array([0 if q.x is None else key_of(q.x.tobytes().hex()) for q in queries], np.uint64),
        output_level=np.array(levels, np.uint8),
        scores=_ragged([q.scores if q.answer == OutputLevel.SCORES else None for q in queries]),
        confidence=np.array([_confidence(q) for q in queries], np.float32),
        label=["" if label < 0 else str(label) for label in labels],
        label_key=np.array(labels, np.int64),
        flags=np.zeros(n, np.uint16),
    )


def key_of(*parts: str) -> int:
    """Return a hash of texts that is never 0."""
    digest = hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") | 1


def splits(events: EventBatch, cuts: Sequence[int]) -> list[EventBatch]:
    """Cut a batch at the named rows."""
    edges = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    return [events.slice(start, stop) for start, stop in pairwise(edges)]


@dataclass(frozen=True)
class Model:
    """A linear softmax model: class scores of an input, in 0..1."""

    weights: F64

    @classmethod
    def make(cls, rng: Generator, width: int, classes: int) -> Model:
        return cls(rng.normal(size=(width, classes)) * 1.5)

    @property
    def width(self) -> int:
        return len(self.weights)

    def scores(self, x: F32) -> F32:
        z = x.astype(np.float64) @ self.weights
        e = np.exp(z - z.max())
        return np.asarray(e / e.sum(), np.float32)


Habit = Callable[[Generator, Model, int], list[F32]]


def ordinary(rng: Generator, model: Model, n: int) -> list[F32]:
    """Records of the model's own kind, one after the other."""
    return list(rng.normal(size=(n, model.width)).astype(np.float32))


def climb(rng: Generator, model: Model, n: int) -> list[F32]:
    """Hill climbing towards class 0: the next query depends on the last answers."""
    best = rng.normal(size=model.width)
    made = []
    for _ in range(n):
        trial = best + rng.normal(size=model.width) * 0.2
        made.append(trial.astype(np.float32))
        if model.scores(made[-1])[0] >= model.scores(best.astype(np.float32))[0]:
            best = trial
    return made


def slider(rng: Generator, model: Model, n: int) -> list[F32]:
    """A smooth path of equal small steps."""
    x, step = rng.normal(size=model.width), rng.normal(size=model.width) * 0.02
    return [(x + i * step).astype(np.float32) for i in range(n)]


def noise_copies(rng: Generator, model: Model, n: int) -> list[F32]:
    """Twelve tight copies of each record."""
    centers = np.repeat(rng.normal(size=(n // 12 + 1, model.width)), 12, axis=0)[:n]
    return list((centers + rng.normal(size=centers.shape) * 0.01).astype(np.float32))


def retries(rng: Generator, model: Model, n: int) -> list[F32]:
    """Each record six times back to back, and some records again later."""
    rows = rng.normal(size=(n // 6 + 1, model.width)).astype(np.float32)
    rows[3::4] = rows[0]
    return [rows[i // 6] for i in range(n)]


def constant(rng: Generator, model: Model, n: int) -> list[F32]:
    """One input for ever: a health check."""
    del rng
    return [np.zeros(model.width, np.float32)] * n


def bisection(rng: Generator, model: Model, n: int) -> list[F32]:
    """Between two records, halving the step: the search for a boundary."""
    made: list[F32] = []
    while len(made) < n:
        low, high = rng.normal(size=(2, model.width))
        for _ in range(9):
            middle = (low + high) / 2
            made.append(middle.astype(np.float32))
            if rng.random() < 0.5:
                low = middle
            else:
                high = middle
    return made[:n]


def sweep(rng: Generator, model: Model, n: int) -> list[F32]:
    """Every record twice, with another value of its second feature."""
    rows = np.repeat(rng.normal(size=(n // 2 + 1, model.width)), 2, axis=0)[:n].astype(np.float32)
    rows[:, 1] = np.arange(n) % 2
    return list(rows)


def coordinates(rng: Generator, model: Model, n: int) -> list[F32]:
    """One record with one feature changed at a time."""
    rows = np.tile(rng.normal(size=model.width), (n, 1))
    rows[np.arange(n), np.arange(n) % model.width] += rng.normal(size=n)
    return list(rows.astype(np.float32))


def search(rng: Generator, model: Model, n: int) -> list[F32]:
    """One feature at a time, up and down; what lowers the score of the record's class stays."""
    made: list[F32] = []
    while len(made) < n:
        best = rng.normal(size=model.width)
        made.append(best.astype(np.float32))
        label = int(model.scores(made[0]).argmax())
        for j in rng.permutation(model.width).tolist():
            for sign in (0.5, -0.5):
                trial = best.copy()
                trial[j] += sign
                made.append(trial.astype(np.float32))
                if model.scores(made[-1])[label] < model.scores(best.astype(np.float32))[label]:
                    best = trial
                    break
    return made[:n]


def novel(rng: Generator, model: Model, n: int) -> list[F32]:
    """Inputs far outside of what the model sees."""
    return list((rng.normal(size=(n, model.width)) * 6).astype(np.float32))


def coarse(rng: Generator, model: Model, n: int) -> list[F32]:
    """Inputs of few values: many ties, repeats and one-feature differences."""
    return list(rng.integers(0, 2, (n, model.width)).astype(np.float32))


HABITS: tuple[Habit, ...] = (
    ordinary, climb, slider, noise_copies, retries, constant, bisection, sweep, coordinates, search, novel, coarse,
)  # fmt: skip
HARMLESS: tuple[Habit, ...] = (ordinary, slider, constant)


def queries(rng: Generator, model: Model, habit: Habit, n: int, like: Query) -> list[Query]:
    """Return n queries of one client, one a second from `like.time_us` on, everything else as in `like`."""
    rows = habit(rng, model, n)
    return [
        replace(like, x=x, scores=model.scores(x), time_us=like.time_us + i * SECOND_US) for i, x in enumerate(rows)
    ]


def spoil(rng: Generator, made: Sequence[Query], share: float = 0.15) -> list[Query]:
    """Let a share of the queries fail, lose input, answer or confidence, or keep less of the answer."""
    faults: tuple[Callable[[Query], Query], ...] = (
        lambda q: replace(q, status=503),
        lambda q: replace(q, x=None),
        lambda q: replace(q, scores=None),
        lambda q: replace(q, answer=OutputLevel.LABEL),
        lambda q: replace(q, answer=OutputLevel.CONFIDENCE),
        lambda q: replace(q, answer=OutputLevel.CONFIDENCE, confident=False),
        lambda q: replace(q, scores=None if q.scores is None else q.scores[:2]),  # fewer classes than before
        lambda q: replace(q, scores=None if q.scores is None else q.scores * 30 - 8),  # no probabilities
        lambda q: replace(q, x=None if q.x is None else q.x[:-1]),  # another width than the model's
    )
    return [faults[int(rng.integers(len(faults)))](q) if rng.random() < share else q for q in made]


def shuffle(rng: Generator, parts: Sequence[Sequence[Query]]) -> list[Query]:
    """Interleave clients at random, each in its own order."""
    turn = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rng.shuffle(turn)
    streams = [iter(part) for part in parts]
    return [next(streams[k]) for k in turn.tolist()]


def _confidence(query: Query) -> float:
    if query.scores is None or query.answer == OutputLevel.LABEL or not query.confident:
        return np.nan
    return float(query.scores.max())


def _ragged(rows: Sequence[F32 | None]) -> Ragged:
    widths = [0 if row is None else len(row) for row in rows]
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    present = [row for row in rows if row is not None]
    return Ragged(np.concatenate(present) if present else np.empty(0, np.float32), offsets)
