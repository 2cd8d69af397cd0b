"""What attackers compute at home without asking the victim: surrogates, shadow models, harmless changes of records."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.random import Generator as Random
from scipy.ndimage import rotate, shift
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from detector.events import F64, I64
from replay.simulate.attacks.protocol import Cloned, Knowledge


def shadow(rng: Random, x: F64, y: I64) -> Any:
    """Fit a network that overfits a little, as the victim may do."""
    network = MLPClassifier((64, 32), alpha=1e-4, max_iter=80, learning_rate_init=3e-3, random_state=_state(rng))
    return _fitted(make_pipeline(StandardScaler(), network), x, y)


def linear(x: F64, y: I64) -> Any:
    """Fit a logistic regression: the surrogate whose gradient is known."""
    return _fitted(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)), x, y)


def clone(rng: Random, x: F64, y: I64) -> Cloned:
    """Return the better of a network and of trees, fitted to the victim's answers, by a held-out quarter."""
    if len(np.unique(y)) < 2:
        only = int(y[0])
        return Cloned(lambda rows: np.full(len(rows), only))
    order = rng.permutation(len(y))
    test, train = order[: len(y) // 4], order[len(y) // 4 :]
    if len(np.unique(y[train])) < 2:
        train = order
    trees = ExtraTreesClassifier(100, random_state=_state(rng)).fit(x[train], y[train])
    network = shadow(rng, x[train], y[train])
    best = max((network, trees), key=lambda model: float(model.score(x[test], y[test])) if len(test) else 0.0)
    return Cloned(lambda rows: np.asarray(best.predict(rows), np.int64))


def nudged(rng: Random, know: Knowledge, x: F64, n: int, strength: float = 1.0) -> F64:
    """Return n harmless variants [n, d] of a record: small shifts and turns of an image, jitter of a table's row."""
    if know.shape is None:
        jitter = strength * 0.02 * know.span * rng.standard_normal((n, know.width))
        return know.clip(np.where(know.category, x, x + jitter))
    image, out = x.reshape(know.shape), np.empty((n, know.width))
    for i in range(n):
        moved = shift(image, strength * rng.uniform(-1, 1, 2) * know.shape[0] / 16, order=1)
        out[i] = rotate(moved, strength * rng.uniform(-12, 12), reshape=False, order=1).ravel()
    return know.clip(out)


def log_odds(p: F64) -> F64:
    """Return log p/(1 − p) within bounds."""
    inside = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))


def _fitted(model: Any, x: F64, y: I64) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an attacker does not wait for convergence
        return model.fit(x, y)


def _state(rng: Random) -> int:
    return int(rng.integers(2**31))
