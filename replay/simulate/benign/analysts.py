"""People who look at the model itself: hard samples, thresholds, notebooks, and orders that are not random."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from detector.events import F32, F64
from replay.simulate import pace
from replay.simulate.benign.paths import drags, glide
from replay.simulate.benign.protocol import Kind, Setting, Trace, trace


def _gap(at: Setting, x: F32) -> F64:
    """Return [n] top-1 minus top-2: how sure the model is, which the analysts know from earlier scoring."""
    scores = np.sort(at.victim.scores(x), 1)
    return np.asarray(scores[:, -1] - scores[:, -2])


def _hard_queue(rng: Generator, at: Setting) -> Trace:
    """A queue for review: only the least sure tenth of new records is sent."""
    pool = at.source.draw(rng, 10 * at.queries).x
    hard = pool[np.sort(np.argsort(_gap(at, pool), kind="stable")[: at.queries])]
    return trace(pace.machine(rng, at.queries, at.begin, at.end), hard)


def _threshold(rng: Generator, at: Setting) -> Trace:
    """A threshold is tuned by halving: every round sends the records near it again, to both arms of an A/B test."""
    pool = at.source.draw(rng, max(40, at.queries)).x
    score = at.victim.scores(pool).max(1)
    low, high = 0.3, 1.0
    rows: list[F32] = []
    while sum(map(len, rows)) < at.queries:
        middle = (low + high) / 2
        near = pool[np.argsort(np.abs(score - middle), kind="stable")[: int(rng.integers(10, 25))]]
        rows.append(np.repeat(near[rng.permutation(len(near))], 2, 0))
        low, high = (middle, high) if rng.random() < 0.5 else (low, middle)
        if high - low < 0.01:
            low, high = 0.3, 1.0
            pool = at.source.draw(rng, len(pool)).x
            score = at.victim.scores(pool).max(1)
    return trace(pace.human(rng, at.queries, at.begin, at.end), np.concatenate(rows)[: at.queries])


def _notebook(rng: Generator, at: Setting) -> Trace:
    """Cells of a notebook: a handful of records, run again, one feature edited, a larger sample."""
    data, x = at.victim.data, at.source.draw(rng, 5).x
    rows: list[F32] = []
    while sum(map(len, rows)) < at.queries:
        action = rng.choice(["again", "edit", "sample", "new"], p=[0.3, 0.3, 0.2, 0.2])
        if action == "new":
            x = at.source.draw(rng, int(rng.integers(1, 8))).x
        elif action == "edit":
            x = x.copy()
            feature = int(rng.integers(data.width))
            x[0, feature] = data.held_out.x[rng.integers(len(data.held_out.x)), feature]
        rows.append(at.source.draw(rng, int(rng.integers(20, 60))).x if action == "sample" else x)
    return trace(pace.human(rng, at.queries, at.begin, at.end), np.concatenate(rows)[: at.queries])


def _sorted_batch(rng: Generator, at: Setting) -> Trace:
    """A nightly job whose export is sorted: by a feature, or by last month's score of some class."""
    x = at.source.draw(rng, at.queries).x
    scores = at.victim.scores(x)
    by_score = rng.random() < 0.5
    key = scores[:, rng.integers(scores.shape[1])] if by_score else x[:, int(x.std(0).argmax())]
    order = np.argsort(key * rng.choice([-1, 1]), kind="stable")
    begin = rng.uniform(at.begin, at.begin + 0.5 * (at.end - at.begin))
    return trace(pace.rush(rng, at.queries, begin, at.end, 0.02), x[order])


def _single_class(rng: Generator, at: Setting) -> Trace:
    """A tenant whose records all belong to one class."""
    label = int(rng.choice(np.unique(at.source.originals.y)))
    return trace(pace.machine(rng, at.queries, at.begin, at.end), at.source.draw(rng, at.queries, label).x)


def _switching(rng: Generator, at: Setting) -> Trace:
    """A key that serves several harmless purposes in turn: new records, sliders, a smooth path, the same record."""
    rows: list[F32] = []
    while sum(map(len, rows)) < at.queries:
        n = int(rng.integers(20, 80))
        match int(rng.integers(4)):
            case 0:
                rows.append(at.source.draw(rng, n).x)
            case 1:
                rows.append(drags(rng, at, n))
            case 2:
                rows.append(glide(rng, at, n))
            case _:
                rows.append(np.repeat(at.source.draw(rng, 1).x, min(n, 6), 0))
    return trace(pace.human(rng, at.queries, at.begin, at.end), np.concatenate(rows)[: at.queries])


KINDS = (
    Kind("hard_sample_queue", _hard_queue),
    Kind("threshold_tuning", _threshold),
    Kind("notebook", _notebook),
    Kind("sorted_batch", _sorted_batch),
    Kind("single_class_tenant", _single_class),
    Kind("switching", _switching),
)
