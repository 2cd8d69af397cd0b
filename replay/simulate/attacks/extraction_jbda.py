"""Extraction by Jacobian-based augmentation: step from each known point along the surrogate's gradient, ask, retrain.

Papernot et al., Practical Black-Box Attacks against Machine Learning (AsiaCCS 2017), arXiv:1602.02697; the round
structure with doubling sets as in Juuti et al., PRADA (EuroS&P 2019), arXiv:1805.02628, which was written against it.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.local import clone, linear
from replay.simulate.attacks.protocol import Attack, Knowledge, Run

_SEEDS, _STEP, _BLOCK = 40, 0.1, 32


def extraction_jbda(rng: Random, know: Knowledge, budget: int) -> Run:
    """Double the set of points every round by steps of fixed size along the sign of the gradient."""
    rows = rng.choice(len(know.public.y), min(_SEEDS, len(know.public.y), budget), replace=False)
    x, labels = know.public.x[rows].astype(np.float64), np.empty(0, np.int64)
    while True:
        for start in range(len(labels), len(x), _BLOCK):
            labels = np.concatenate([labels, (yield x[start : start + _BLOCK]).label])
        room = budget - len(x)
        if room <= 0 or len(np.unique(labels)) < 2:
            break
        surrogate = linear(x, labels)
        weights = surrogate[-1].coef_ / surrogate[0].scale_
        if len(weights) == 1:
            weights = np.concatenate([-weights, weights])
        parents = rng.permutation(len(x))[: min(room, len(x))]
        place = np.searchsorted(surrogate.classes_, labels[parents])
        x = np.concatenate(
            [x, know.clip(x[parents] + _STEP * know.span * np.sign(weights[place]) * rng.choice([-1, 1]))]
        )
    return clone(rng, x, labels)


ATTACK = Attack("extraction_jbda", "extraction", extraction_jbda, 640, batch=_BLOCK)
