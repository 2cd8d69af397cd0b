"""Published detectors to compare with, one file each, written from their papers with their published constants.

They share nothing with `detector/`: an anchor sees the decoded events and says how suspicious each is, in units of its
published threshold. `catalogue()` finds them; `replay/evaluate` runs them over the same captures and scores them with
the same code.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.events import F32, F64, I64, EventBatch, InputLevel

Bools = NDArray[np.bool_]


class Range(NamedTuple):
    """What the owner knows of a model's features: the range of each, from benign records."""

    low: F32  # [d]
    high: F32  # [d]

    def unit(self, x: F32) -> F32:
        """Return rows [n, d] with every feature scaled to 0..1 and clipped there, as pixels are."""
        width = np.maximum(self.high - self.low, np.float32(1e-12))
        return np.asarray(np.clip((x - self.low) / width, 0, 1), np.float32)


class Judged(NamedTuple):
    """How suspicious the events are of which an anchor says something, in units of its published threshold."""

    row: I64  # [n] ascending
    suspicion: F64  # [n] an alarm is raised at 1 and above

    @property
    def alarms(self) -> I64:
        """Return the rows that raise an alarm, ascending."""
        rows: I64 = self.row[self.suspicion >= 1]
        return rows

    @staticmethod
    def joined(parts: Sequence[tuple[I64, F64]]) -> Judged:
        """Return (rows, suspicion) of several chunks, in the order of the capture."""
        row = np.concatenate([np.empty(0, np.int64), *(row for row, _ in parts)])
        suspicion = np.concatenate([np.empty(0), *(suspicion for _, suspicion in parts)])
        order = np.argsort(row, kind="stable")
        return Judged(row[order], suspicion[order])


class Anchor(Protocol):
    """One detector at work on one capture."""

    def observe(self, batch: EventBatch, pair: I64, row: I64) -> None:
        """Take the next n events. `pair` [n] numbers the client and model, `row` [n] the event in the capture."""
        ...

    def judged(self, benign: Bools) -> Judged:
        """Return how suspicious every event was. `benign` [pairs] marks clients to calibrate on."""
        ...


class Entry(NamedTuple):
    """An anchor of the catalogue: what a file of this folder offers as `ANCHOR`."""

    name: str
    paper: str
    make: type[Anchor]  # called with the number of pairs and the feature ranges by model
    families: tuple[str, ...]  # of attacks that it was made to find

    def build(self, pairs: int, ranges: Mapping[str, Range]) -> Anchor:
        """Return a new one for one capture."""
        return self.make(pairs, ranges)  # type: ignore[call-arg]  # protocols have no constructors


@cache
def catalogue() -> tuple[Entry, ...]:
    """Return every anchor, in the order of their names."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return tuple(sorted((module.ANCHOR for module in modules), key=lambda entry: str(entry.name)))


def vectors(batch: EventBatch, ranges: Mapping[str, Range]) -> Iterator[tuple[str, I64, F32]]:
    """Yield (model, rows [m], inputs [m, d] scaled to 0..1) for the answered calls that carry a whole input."""
    width = batch.input.offsets[1:] - batch.input.offsets[:-1]
    whole = (batch.input_level == InputLevel.VECTOR) & (batch.status == 200)
    for number, model in enumerate(batch.models):
        known = ranges.get(model.name)
        if known is None:
            continue
        rows = np.flatnonzero(whole & (batch.model == number) & (width == len(known.low)))
        if len(rows):
            x = batch.input.take(rows).values.reshape(len(rows), len(known.low))
            yield model.name, rows, known.unit(x)


def by_client(pair: I64) -> Iterator[tuple[int, I64]]:
    """Yield (pair, positions in `pair`, in stream order) for each client that occurs."""
    order = np.argsort(pair, kind="stable")
    cuts = np.flatnonzero(np.diff(pair[order])) + 1
    for positions in np.split(order, cuts):
        if len(positions):
            yield int(pair[positions[0]]), positions
