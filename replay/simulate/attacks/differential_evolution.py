"""Differential evolution: a trial = one member plus the scaled difference of two others, kept if it is better.

Storn & Price, Journal of Global Optimization 11 (1997), doi:10.1023/A:1008202821328 (rand-to-best/1/bin).
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants

_MEMBERS = 20


def differential_evolution(rng: Random, dims: int) -> Optimiser:
    """Evolve twenty members, a generation at a time."""
    members = rng.standard_normal((_MEMBERS, dims))
    values = yield members
    while True:
        other = members[rng.permuted(np.tile(np.arange(_MEMBERS), (_MEMBERS, 1)), axis=1)[:, :2]]
        best = members[values.argmax()]
        mutant = members + 0.6 * (best - members) + 0.6 * (other[:, 0] - other[:, 1])
        crossed = rng.random(members.shape) < 0.8
        crossed[np.arange(_MEMBERS), rng.integers(0, dims, _MEMBERS)] = True
        trial = np.where(crossed, mutant, members)
        now = yield trial
        better = now > values
        members, values = np.where(better[:, None], trial, members), np.where(better, now, values)


ATTACKS = variants("differential_evolution", differential_evolution, batch=_MEMBERS)
