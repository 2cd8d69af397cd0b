"""The protocol of benign clients: a function from a setting to the queries that one client sends to one model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from detector.events import F32, F64, I16
from replay.simulate.data import Dataset
from replay.simulate.records import Source
from replay.simulate.victims import Victim


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and when a benign client works."""

    victim: Victim
    source: Source
    begin: float  # seconds since the start of the scenario
    end: float
    queries: int  # about how many it sends


@dataclass(frozen=True, slots=True)
class Trace:
    """The queries of one client to one model, in order of time."""

    time_s: F64  # [n]
    x: F32  # [n, d]
    status: I16  # [n] HTTP status; other than 200 the call had no answer


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of benign client. `hard` ones look like attacks in some way; explainers are named as such."""

    name: str
    run: Callable[[Generator, Setting], Trace]
    hard: bool = True
    explainer: bool = False
    suits: Callable[[Dataset], bool] = lambda _: True


def trace(time_s: F64, x: NDArray[np.floating], status: I16 | None = None) -> Trace:
    """Return a trace whose queries all succeeded unless told otherwise."""
    ok = np.full(len(x), 200, np.int16) if status is None else status
    return Trace(time_s, np.ascontiguousarray(x, np.float32), ok)
