"""Evasions: what stands between an attack and its victim. Each disguises the queries of any attack.

A disguise turns the attack's own queries into the rows that are sent, and says which rows are its own; the attack gets
the answers to those only. Pace and identities are chosen in play.py, because they leave the queries alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from detector.events import F32, F64, I64
from replay.simulate.data import Dataset
from replay.simulate.records import Source

Disguise = Callable[[F64], tuple[F64, I64]]
Pace = Literal["script", "jittered", "slow", "batch"]


@dataclass(frozen=True, slots=True)
class Evasion:
    """How an attacker hides."""

    name: str = "none"
    pace: Pace = "script"
    dummies: float = 0.0  # share of genuine-looking records among all queries
    noise: float = 0.0  # blinding noise, as a share of every feature's range
    grid: bool = False  # rounds its queries to the grid of genuine records
    ids: int = 1  # client ids that it spreads its queries over
    history: int = 0  # benign queries of the same key before the attack


EVASIONS: dict[str, Evasion] = {
    e.name: e
    for e in (
        Evasion(),
        Evasion("slow", pace="slow"),
        Evasion("jittered", pace="jittered"),
        Evasion("dummies50", dummies=0.5),
        Evasion("dummies80", dummies=0.8),
        Evasion("ids10", ids=10, pace="jittered"),
        Evasion("ids100", ids=100, pace="jittered"),
        Evasion("blinding", noise=0.02),
        Evasion("rounded", grid=True),
        Evasion("turncoat", history=400),
    )
}


def disguises(evasion: Evasion, data: Dataset, source: Source, rng: Generator) -> list[Disguise]:
    """Return the disguises of an evasion, in the order in which they are put on."""
    worn: list[Disguise] = []
    if evasion.noise:
        worn.append(_blinding(rng, data, evasion.noise))
    if evasion.grid:
        worn.append(lambda x: (data.on_grid(x).astype(np.float64), np.arange(len(x))))
    if evasion.dummies:
        worn.append(_dummies(rng, source, evasion.dummies))
    return worn


def put_on(worn: list[Disguise], x: F64) -> tuple[F32, I64]:
    """Return the rows that are sent, and which of them are the attack's own."""
    own = np.arange(len(x))
    for disguise in worn:
        x, kept = disguise(x)
        own = kept[own]
    return np.ascontiguousarray(x, dtype=np.float32), own


def _blinding(rng: Generator, data: Dataset, share: float) -> Disguise:
    sd = share * (data.high - data.low)

    def disguise(x: F64) -> tuple[F64, I64]:
        return np.clip(x + sd * rng.standard_normal(x.shape), data.low, data.high), np.arange(len(x))

    return disguise


def _dummies(rng: Generator, source: Source, share: float) -> Disguise:
    """Put a geometric number of new genuine-looking records before each own query."""

    def disguise(x: F64) -> tuple[F64, I64]:
        before = rng.geometric(1 - share, len(x)) - 1
        own = np.cumsum(before + 1) - 1
        rows = np.empty((int(own[-1]) + 1, x.shape[1]))
        dummy = np.ones(len(rows), bool)
        dummy[own] = False
        rows[own] = x
        rows[dummy] = source.draw(rng, int(dummy.sum())).x
        return rows, own

    return disguise
