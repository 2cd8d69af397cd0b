"""Simultaneous perturbation: two queries on either side, all coordinates at once, estimate a slope.

Spall, Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation, IEEE TAC 37
(1992), doi:10.1109/9.119632; as an attack: Uesato et al. (ICML 2018), arXiv:1802.05666.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants


def spsa(rng: Random, dims: int) -> Optimiser:
    """Walk along slopes between two opposite Rademacher steps, with a bounded stride."""
    place, width, average = rng.standard_normal(dims), 0.3, np.zeros(dims)
    while True:
        sign = rng.choice([-1.0, 1.0], dims)
        up, down = yield np.stack([place + width * sign, place - width * sign])
        average = 0.8 * average + 0.2 * np.clip((up - down) / (2 * width), -3, 3) * sign
        place = place + 1.2 * average / (np.sqrt((average**2).mean()) + 0.2)


ATTACKS = variants("spsa", spsa, batch=2)
