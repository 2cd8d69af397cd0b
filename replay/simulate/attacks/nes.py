"""Natural evolution strategies: antithetic pairs of Gaussian steps estimate the gradient, then one step along it.

Wierstra et al., Natural Evolution Strategies, JMLR 15 (2014); as a black-box attack in Ilyas et al., Black-box
Adversarial Attacks with Limited Queries and Information (ICML 2018), arXiv:1804.08598.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants

_PAIRS = 10


def nes(rng: Random, dims: int) -> Optimiser:
    """Climb with gradients from ten antithetic pairs and momentum."""
    mean, velocity, sigma, rate = rng.standard_normal(dims), np.zeros(dims), 0.3, 0.8
    while True:
        steps = rng.standard_normal((_PAIRS, dims))
        pairs = np.stack([steps, -steps], 1).reshape(-1, dims)  # +u, −u, +u', −u', …
        values = yield mean + sigma * pairs
        gradient = (values[:, None] * pairs).mean(0) / sigma
        velocity = 0.5 * velocity + gradient / (np.linalg.norm(gradient) + 1e-9)
        mean = mean + rate * velocity


ATTACKS = variants("nes", nes, batch=2 * _PAIRS)
