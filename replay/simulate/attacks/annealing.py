"""Simulated annealing: accept a worse point with a chance that cools down.

Kirkpatrick, Gelatt & Vecchi, Optimization by Simulated Annealing, Science 220 (1983), doi:10.1126/science.220.4598.671.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants


def annealing(rng: Random, dims: int) -> Optimiser:
    """Walk with a temperature that falls by two per cent a query."""
    place, heat = rng.standard_normal(dims), 1.0
    value = float((yield place[None])[0])
    while True:
        trial = place + (0.2 + 0.4 * heat) * rng.standard_normal(dims) * (rng.random(dims) < max(0.3, 4 / dims))
        now = float((yield trial[None])[0])
        if now > value or rng.random() < np.exp((now - value) / (heat + 1e-6)):
            place, value = trial, now
        heat = max(0.98 * heat, 0.01)


ATTACKS = variants("annealing", annealing)
