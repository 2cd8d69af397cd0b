"""Finite differences: one coordinate after the other is moved a little; then a line search along the gradient.

Numerical gradient estimation as in Fredrikson, Jha & Ristenpart (CCS 2015), where only confidences are
given; the coordinate pattern is that of Chen et al., ZOO (2017), arXiv:1708.03999.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants

_COORDINATES = 24  # per gradient: a random block where there are more


def finite_differences(rng: Random, dims: int) -> Optimiser:
    """Estimate the gradient by forward differences, then double the stride while it helps."""
    place = rng.standard_normal(dims)
    value = (yield place[None])[0]
    while True:
        block = np.sort(rng.choice(dims, min(dims, _COORDINATES), replace=False))
        gradient = np.zeros(dims)
        for i in block.tolist():
            moved = place.copy()
            moved[i] += 0.25
            gradient[i] = (yield moved[None])[0] - value
        if not gradient.any():
            gradient = rng.standard_normal(dims)  # a plateau: trees answer in steps
        direction, stride = gradient / np.linalg.norm(gradient), 0.5
        while stride < 16:
            now = (yield (place + stride * direction)[None])[0]
            if now <= value:
                break
            place, value, stride = place + stride * direction, now, 2 * stride


ATTACKS = variants("finite_differences", finite_differences)
