"""Extraction by active learning: ask where the surrogate is least sure.

Pal et al., ActiveThief (AAAI 2020); Chandrasekaran et al., Exploring Connections Between Active Learning
and Model Extraction (USENIX Security 2020), arXiv:1811.02054. The pool mixes another population with random blends.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.local import clone, linear
from replay.simulate.attacks.protocol import Attack, Knowledge, Run

_FIRST, _ROUND, _POOL = 60, 40, 2000


def extraction_active(rng: Random, know: Knowledge, budget: int) -> Run:
    """Choose forty points a round by the smallest margin of a linear surrogate."""
    public = know.public.x.astype(np.float64)
    blend = rng.random((_POOL // 2, 1)) * 1.6 - 0.3
    pair = public[rng.integers(0, len(public), (2, _POOL // 2))]
    wide = know.low + know.span * rng.random((_POOL // 2, know.width))
    pool = know.clip(np.concatenate([pair[0] + blend * (pair[1] - pair[0]), wide]))
    chosen = rng.permutation(len(pool))[: min(_FIRST, budget)]
    labels = (yield pool[chosen]).label
    while len(chosen) < budget:
        fresh = np.setdiff1d(np.arange(len(pool)), chosen)
        if len(np.unique(labels)) > 1:
            scores = np.sort(linear(pool[chosen], labels).predict_proba(pool[fresh]), 1)
            fresh = fresh[np.argsort(scores[:, -1] - scores[:, -2], kind="stable")]
        more = fresh[: min(_ROUND, budget - len(chosen))]
        labels = np.concatenate([labels, (yield pool[more]).label])
        chosen = np.concatenate([chosen, more])
    return clone(rng, pool[chosen], labels)


ATTACK = Attack("extraction_active", "extraction", extraction_active, 500, batch=_ROUND)
