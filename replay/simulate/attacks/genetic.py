"""Genetic search: tournaments, uniform crossover, mutation, and elites that are asked again in every generation.

Alzantot et al., GenAttack (GECCO 2019), arXiv:1805.11090; for inversion An et al., MIRROR (NDSS 2022),
doi:10.14722/ndss.2022.24335, whose elites are exact repeats in the query stream.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants

_MEMBERS, _ELITES = 24, 3


def genetic(rng: Random, dims: int) -> Optimiser:
    """Breed twenty-four members a generation."""
    members = rng.standard_normal((_MEMBERS, dims))
    values = yield members
    while True:
        elite = members[np.argsort(-values)[:_ELITES]]
        rounds = rng.integers(0, _MEMBERS, (2, _MEMBERS - _ELITES, 3))
        winners = np.take_along_axis(rounds, values[rounds].argmax(2)[:, :, None], 2)[:, :, 0]
        mother, father = members[winners]
        child = np.where(rng.random(mother.shape) < 0.5, mother, father)
        mutated = rng.random(child.shape) < max(0.1, 2 / dims)
        child = child + mutated * 0.8 * rng.standard_normal(child.shape)
        members = np.concatenate([elite, child])
        values = yield members


ATTACKS = variants("genetic", genetic, batch=_MEMBERS)
