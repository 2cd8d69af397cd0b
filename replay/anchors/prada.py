"""PRADA: the distances between a client's successive queries should look normally distributed.

Juuti, Szyller, Marchal & Asokan, "PRADA: Protecting against DNN Model Stealing Attacks", EuroS&P 2019, algorithm 3.
For every client and answered class a growing set keeps queries that are far from those kept before; the distance of
each query to the nearest of its class's set goes into D. Beyond 100 distances, and without those over three standard
deviations from the mean, the Shapiro-Wilk statistic W of D below δ means attack.

Constants: |D| > 100, three standard deviations, δ = 0.90, tested at every tenth query (both as the authors' program
has it). Distances are Euclidean on features scaled to 0..1. Of very long histories the newest 5,000 distances are
tested, up to where W's approximation holds. Out of its element: explainers and sensors (anything but independent
draws), table features of a few values, and clients with fewer than 101 queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from detector.events import F32, F64, I64, EventBatch
from replay.anchors import Bools, Entry, Judged, Range, by_client, vectors

DELTA = 0.90
MINIMUM = 100
EVERY = 10
LONGEST = 5000


@dataclass(slots=True)
class _Growing:
    """The growing set of one class: points, and the running mean and deviation of their distances."""

    points: F32  # [capacity, d]
    count: int = 1
    distances: int = 1  # the first point counts with distance 0
    total: float = 0.0
    squares: float = 0.0
    threshold: float = 0.0

    def add(self, x: F32, distance: float) -> None:
        if self.count == len(self.points):
            self.points = np.concatenate([self.points, np.empty_like(self.points)])
        self.points[self.count] = x
        self.count += 1
        self.distances += 1
        self.total += distance
        self.squares += distance * distance
        mean = self.total / self.distances
        deviation = np.sqrt(max(self.squares / self.distances - mean * mean, 0.0))
        self.threshold = max(self.threshold, mean - deviation)


@dataclass(slots=True)
class _Client:
    sets: dict[int, _Growing] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)
    queries: int = 0

    def take(self, x: F32, label: int) -> float:
        """Take one query and return how suspicious the test that may follow finds the client, else 0."""
        self.queries += 1
        growing = self.sets.get(label)
        if growing is None:
            self.sets[label] = _Growing(np.repeat(x[None], 8, 0))
            return 0.0
        gap = growing.points[: growing.count] - x
        distance = float(np.sqrt(np.einsum("ij,ij->i", gap, gap).min()))
        self.distances.append(distance)
        if distance > growing.threshold:
            growing.add(x, distance)
        return suspicion(np.array(self.distances[-LONGEST:])) if self.queries % EVERY == 0 else 0.0


def suspicion(distances: F64) -> float:
    """Return how far W of the distances [n], outliers left out, is below 1; 1 = at δ, 0 where W is not defined."""
    if len(distances) <= MINIMUM:
        return 0.0
    kept = distances[np.abs(distances - distances.mean()) <= 3 * distances.std()]
    if len(kept) < 3 or np.ptp(kept) == 0:  # W of equal numbers is not defined: all repeats, say
        return 0.0
    return float((1 - stats.shapiro(kept).statistic) / (1 - DELTA))


class Prada:
    """Growing sets by client and class."""

    def __init__(self, pairs: int, ranges: Mapping[str, Range]) -> None:
        self._clients = [_Client() for _ in range(pairs)]
        self._ranges = ranges
        self._tested: list[tuple[I64, F64]] = []

    def observe(self, batch: EventBatch, pair: I64, row: I64) -> None:
        """Look at answered calls with whole inputs and a label."""
        for _, rows, x in vectors(batch, self._ranges):
            labels = batch.label_key[rows].tolist()
            for who, at in by_client(pair[rows]):
                client = self._clients[who]
                found = np.array([client.take(x[i], labels[i]) for i in at.tolist()])
                self._tested.append((row[rows[at[found > 0]]], found[found > 0]))

    def judged(self, benign: Bools) -> Judged:
        """Return how far from normal the distances were at every test."""
        del benign
        return Judged.joined(self._tested)


ANCHOR = Entry("prada", "Juuti et al., EuroS&P 2019", Prada, ("extraction",))
