"""Crowds: a model with many ordinary clients, and jobs that are spread over several ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from detector.events import I64, EventBatch
from detector.pipeline import Pipeline
from detector.rules import Ruleset
from detector.settings import LimitSettings
from tests import streams

MODEL = streams.Model(np.random.default_rng(7).normal(size=(12, 3)) * 0.3)  # gentle slopes: a climb lasts
Spread = Callable[[Generator, int, int], I64]  # (rng, queries, ids) → which id sends each query


def at_random(rng: Generator, n: int, ids: int) -> I64:
    """Any id sends any query."""
    return rng.integers(0, ids, n)


def in_turn(rng: Generator, n: int, ids: int) -> I64:
    """Round robin."""
    del rng
    return np.arange(n) % ids


def in_blocks(rng: Generator, n: int, ids: int) -> I64:
    """Id after id, a dozen queries each, then again."""
    del rng
    return np.arange(n) // 12 % ids


def by_role(rng: Generator, n: int, ids: int) -> I64:
    """One id sends half of the queries, the others share the rest."""
    return np.where(rng.random(n) < 0.5, 0, 1 + rng.integers(0, ids - 1, n))


SPREADS: tuple[Spread, ...] = (at_random, in_turn, in_blocks, by_role)


def ordinary(clients: int = 12, each: int = 30, at_s: int = 0, name: str = "benign") -> list[list[streams.Query]]:
    """Return ordinary clients, enough for a reference that knows how near they come to each other."""
    return [
        streams.queries(
            np.random.default_rng([3, k, len(name)]), MODEL, streams.ordinary, each, _like(f"{name}{k}", at_s, k % 2)
        )
        for k in range(clients)
    ]


def job(
    habit: streams.Habit,
    n: int,
    ids: int,
    spread: Spread = at_random,
    *,
    name: str = "id",
    seed: int = 0,
    at_s: int = 2000,
    partitions: int = 1,
) -> list[streams.Query]:
    """Return one job's queries, spread over ids; a query a second."""
    rng = np.random.default_rng([seed, n, ids])
    made = streams.queries(rng, MODEL, habit, n, _like(name, at_s, 0))
    who = spread(rng, n, ids).tolist()
    return [replace(q, client=f"{name}{w}", partition=w % partitions) for q, w in zip(made, who, strict=True)]


def in_time(*parts: Sequence[streams.Query]) -> EventBatch:
    """Return everything in order of time."""
    return streams.batch(sorted((query for part in parts for query in part), key=lambda q: q.time_us))


def pipeline(rules: Ruleset, campaigns: int = 16, clients: int = 256) -> Pipeline:
    """Return a pipeline with room for some campaigns."""
    limits = LimitSettings(clients=clients, models=4, campaigns=campaigns, admit_after=2)
    return Pipeline(rules, limits, b"tests")


def _like(client: str, at_s: int, partition: int) -> streams.Query:
    return streams.Query(client, None, None, partition=partition, time_us=streams.START_US + at_s * streams.SECOND_US)
