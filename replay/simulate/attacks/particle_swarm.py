"""Particle swarm: every particle is drawn to its own best place and to the swarm's.

Kennedy & Eberhart, Particle Swarm Optimization (ICNN 1995), doi:10.1109/ICNN.1995.488968, with the constriction
coefficients of Clerc & Kennedy (2002).
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants

_PARTICLES = 16


def particle_swarm(rng: Random, dims: int) -> Optimiser:
    """Move sixteen particles."""
    place = rng.standard_normal((_PARTICLES, dims))
    speed = 0.3 * rng.standard_normal((_PARTICLES, dims))
    own, own_value = place.copy(), (yield place)
    while True:
        best = own[own_value.argmax()]
        pull_own, pull_best = rng.random((2, _PARTICLES, dims))
        speed = 0.7298 * speed + 1.49618 * (pull_own * (own - place) + pull_best * (best - place))
        place = np.clip(place + np.clip(speed, -1.5, 1.5), -3, 3)
        values = yield place
        better = values > own_value
        own, own_value = np.where(better[:, None], place, own), np.where(better, values, own_value)


ATTACKS = variants("particle_swarm", particle_swarm, batch=_PARTICLES)
