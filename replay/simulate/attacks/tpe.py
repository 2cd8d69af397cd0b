"""Tree-structured Parzen estimator: sample near the good points, prefer where good ones are dense and bad ones are not.

Bergstra et al., Algorithms for Hyper-Parameter Optimization (NIPS 2011): the sampler behind Optuna and Hyperopt, which
people point at anything that answers with a number. Coordinates are treated one by one, as there.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.search import Optimiser, singly, variants

_FIRST, _CANDIDATES, _REMEMBERED = 16, 24, 200


def tpe(rng: Random, dims: int) -> Optimiser:
    """Suggest one point at a time from kernel densities of the best fifth and of the rest."""
    points = rng.standard_normal((_FIRST, dims))
    values = yield from singly(points)
    while True:
        order = np.argsort(-values, kind="stable")
        cut = max(2, min(25, len(order) // 5))
        good, bad = points[order[:cut]], points[order[cut:]]
        width = np.maximum(good.std(0), 0.15)
        trial = good[rng.integers(0, cut, (_CANDIDATES, dims)), np.arange(dims)]
        trial = trial + width * rng.standard_normal((_CANDIDATES, dims))
        gain = _density(trial, good, width) - _density(trial, bad, width)
        chosen = trial[gain.argmax(0), np.arange(dims)]
        value = float((yield chosen[None])[0])
        points = np.concatenate([points, chosen[None]])[-_REMEMBERED:]
        values = np.append(values, value)[-_REMEMBERED:]


def _density(trial: F64, centres: F64, width: F64) -> F64:
    """Return [candidates, dims] the log of a one-dimensional kernel density in each coordinate."""
    z = (trial[:, None, :] - centres[None]) / width
    return np.asarray(np.log(np.exp(-0.5 * z**2).mean(1) + 1e-12))


ATTACKS = variants("tpe", tpe)
