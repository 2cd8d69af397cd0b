"""Data-free extraction: a generator seeks inputs on which the surrogate and the victim disagree.

Truong et al., Data-Free Model Extraction (CVPR 2021), arXiv:2011.14779; Kariyappa et al., MAZE (CVPR 2021),
arXiv:2005.03161. The generator here is a Gaussian over the input box; its gradient is estimated by zeroth-order steps
with one probe a sample.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.local import clone, linear
from replay.simulate.attacks.protocol import SCORED, Attack, Knowledge, Run

_BATCH, _EPSILON = 24, 0.1


def extraction_data_free(rng: Random, know: Knowledge, budget: int) -> Run:
    """Alternate a batch with one probe beside each sample, and a step of the generator."""
    centre = (know.low + know.high) / 2 / know.span
    mean, spread = centre.copy(), 0.35
    x, labels = np.empty((0, know.width)), np.empty(0, np.int64)
    while len(x) < budget:
        sample = mean + spread * rng.standard_normal((_BATCH, know.width))
        probe = rng.choice([-1.0, 1.0], sample.shape)
        both = know.clip(np.stack([sample, sample + _EPSILON * probe], 1).reshape(-1, know.width) * know.span)
        both = both[: budget - len(x)]
        answer = yield both
        x, labels = np.concatenate([x, both]), np.concatenate([labels, answer.label])
        whole = len(both) // 2
        if len(np.unique(labels)) > 1 and whole:
            surrogate = linear(x, labels)
            mine = surrogate.predict_proba(both)
            column = np.minimum(np.searchsorted(surrogate.classes_, answer.label), mine.shape[1] - 1)
            apart = np.abs(answer.score(answer.label) - mine[np.arange(len(both)), column])[: 2 * whole]
            slope = (apart[1::2] - apart[::2])[:, None] * probe[:whole] / _EPSILON
            mean = mean + 0.3 * slope.mean(0) + 0.05 * (centre - mean)
    return clone(rng, x, labels)


ATTACK = Attack("extraction_data_free", "extraction", extraction_data_free, 900, SCORED, batch=2 * _BATCH)
