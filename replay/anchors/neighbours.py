"""Stateful detection by nearest neighbours: a query is suspicious when its client asked much the same fifty times.

Chen, Carlini & Wagner, "Stateful Detection of Black-Box Adversarial Attacks", SPAI 2020. The score of a query is the
mean distance to the k = 50 nearest of the client's earlier queries; a score below δ means attack. δ is the 0.1 %
quantile on benign data, so that at most one benign query in a thousand raises an alarm, set for each model on the
ordinary benign clients of the calibration half (the paper uses the training set).

Here distances are Euclidean on features scaled to 0..1 (the authors' plain variant; their better one needs an encoder
trained for the images at hand), and a client's newest 1,000 queries are remembered, their program's chunk. The paper
clears a client's queries after an alarm; here they stay, which leaves its first alarm as it is. Out of its element:
benign clients that repeat themselves, tables with few different records, and attacks shorter than 51 queries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import cdist

from detector.events import F32, F64, I64, EventBatch
from replay.anchors import Bools, Entry, Judged, Range, by_client, vectors

K = 50
QUANTILE = 0.001
REMEMBERED = 1000


class Neighbours:
    """Remembers inputs and scores; δ is set at the end."""

    def __init__(self, pairs: int, ranges: Mapping[str, Range]) -> None:
        self._ranges = ranges
        self._last: list[F32 | None] = [None] * pairs
        self._scores: dict[str, list[tuple[I64, I64, F64]]] = {}  # model -> (row, pair, score) of each chunk

    def observe(self, batch: EventBatch, pair: I64, row: I64) -> None:
        """Score answered calls with whole inputs."""
        for model, rows, x in vectors(batch, self._ranges):
            for who, at in by_client(pair[rows]):
                before = self._last[who]
                every = x[at] if before is None else np.concatenate([before, x[at]])
                first = max(K, len(every) - len(at))  # the first of the new queries with 50 before it
                if first < len(every):
                    fresh = rows[at[first - len(every) :]]
                    found = (row[fresh], pair[fresh], scores(every, first))
                    self._scores.setdefault(model, []).append(found)
                self._last[who] = every[-REMEMBERED:]

    def judged(self, benign: Bools) -> Judged:
        """Set δ by model, on all models together where one has no benign scores, and hold the scores against it."""
        columns = {m: [np.concatenate(c) for c in zip(*parts, strict=True)] for m, parts in self._scores.items()}
        calm = {model: score[benign[pair]] for model, (_, pair, score) in columns.items()}
        pooled = np.concatenate([np.empty(0), *calm.values()])
        found = []
        for model, (row, _, score) in columns.items():
            known = calm[model] if len(calm[model]) else pooled
            if len(known):
                delta = np.quantile(known, QUANTILE, method="lower")
                # an alarm is raised below δ, not at it; distances of 0 are as suspicious as can be
                found.append((row, np.nextafter(delta, -np.inf) / np.maximum(score, 1e-12)))
        return Judged.joined(found)


def scores(every: F32, first: int) -> F64:
    """Return the scores of rows first.. of a client's queries [n, d], each against up to 1,000 before it."""
    n = len(every)
    distance = cdist(every[first:], every)
    place, other = np.arange(first, n)[:, None], np.arange(n)[None]
    distance[(other >= place) | (other < place - REMEMBERED)] = np.inf
    return np.asarray(np.partition(distance, K - 1, axis=1)[:, :K].mean(1))


ANCHOR = Entry("neighbours", "Chen, Carlini & Wagner, SPAI 2020", Neighbours, ("adversarial_search",))
