"""Attribute inference: ask for a person's record with every value of the attribute that is not known.

Fredrikson et al., Privacy in Pharmacogenetics (USENIX Security 2014): weigh every value by its prior and by how well
the answer then agrees with the known outcome. Mehnaz et al., Are Your Sensitive Attributes Private? (USENIX Security
2022), arXiv:2201.09370: decide by confidence (CSMIA) or by labels alone (LOMIA). The variants differ in the order of
the sweep.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64, I64
from replay.simulate.attacks.protocol import Attack, Guessed, Knowledge, Run
from replay.simulate.data import Dataset


def record_by_record(rng: Random, know: Knowledge, budget: int) -> Run:  # noqa: ARG001 - nothing is left to chance
    """Sweep all values of the attribute on one person, then on the next (Fredrikson et al. 2014)."""
    values = _values(know)
    n = min(budget // len(values), len(know.subjects.y))
    scores = np.empty((n, len(values)))
    for i in range(n):
        for j, value in enumerate(values):
            scores[i, j] = (yield _with(know, np.array([i]), np.array([value]))).score(int(know.subjects.y[i]))[0]
    return _guess(know, scores)


def value_by_value(rng: Random, know: Knowledge, budget: int) -> Run:
    """Ask for everybody with the first value, then for everybody with the second, in blocks and in another order."""
    values = _values(know)
    n = min(budget // len(values), len(know.subjects.y))
    scores = np.empty((n, len(values)))
    for j, value in enumerate(values):
        order = rng.permutation(n)
        for start in range(0, n, 20):
            rows = order[start : start + 20]
            answer = yield _with(know, rows, np.full(len(rows), value))
            scores[rows, j] = answer.score(know.subjects.y[rows])
    return _guess(know, scores)


def two_unknown(rng: Random, know: Knowledge, budget: int) -> Run:
    """Another feature of the person is not known either: sweep it too, over four plausible values, and average."""
    values, blind = _values(know), int(rng.choice([j for j in range(know.width) if j != know.sensitive]))
    plausible = np.unique(np.quantile(know.public.x[:, blind], [0.2, 0.4, 0.6, 0.8], method="nearest"))
    n = min(budget // (len(values) * len(plausible)), len(know.subjects.y))
    scores = np.empty((n, len(values)))
    for i in range(n):
        for j, value in enumerate(values):
            rows = np.repeat(_with(know, np.array([i]), np.array([value])), len(plausible), 0)
            rows[:, blind] = plausible
            scores[i, j] = (yield rows).score(int(know.subjects.y[i])).mean()
    return _guess(know, scores)


def _values(know: Knowledge) -> F64:
    if know.sensitive_values is None:
        raise ValueError("attribute inference needs a data set with a sensitive attribute")
    return know.sensitive_values


def _with(know: Knowledge, rows: I64, values: F64) -> F64:
    x = know.subjects.x[rows].astype(np.float64)
    x[:, know.sensitive] = values
    return x


def _guess(know: Knowledge, scores: F64) -> Guessed:
    """Weigh how well each value explains the outcome with how common it is among public records."""
    values, out = _values(know), np.full(len(know.subjects.y), np.nan)
    prior = np.array([np.isclose(know.public.x[:, know.sensitive], value).mean() for value in values])
    out[: len(scores)] = values[(prior * (scores + 1e-3)).argmax(1)]
    return Guessed(out)


def _has_secret(data: Dataset) -> bool:
    return data.sensitive is not None


ATTACKS = (
    Attack("attribute_sweep", "attribute_inference", record_by_record, 240, suits=_has_secret),
    Attack("attribute_blocks", "attribute_inference", value_by_value, 240, suits=_has_secret, batch=20),
    Attack("attribute_two_unknown", "attribute_inference", two_unknown, 480, suits=_has_secret, batch=4),
)
