"""Extraction with a fixed list of queries: a surrogate is trained on the answers.

* random: Tramèr et al., Stealing Machine Learning Models via Prediction APIs (USENIX Security 2016),
  arXiv:1609.02943: uniform random inputs in the valid range;
* knockoff: Orekondy, Schiele & Fritz, Knockoff Nets (CVPR 2019), arXiv:1812.02766: natural records of another
  population;
* copycat: Correia-Silva et al., Copycat CNN (IJCNN 2018), arXiv:1806.05476: the same with labels alone, then records
  of the problem's own population mixed in;
* genuine: the same with records of the population itself, which no query-by-query test can tell from a customer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.local import clone
from replay.simulate.attacks.protocol import LABEL_ONLY, SCORED, Attack, Knowledge, Run

_BLOCK = 32


def _ask(choose: Callable[[Random, Knowledge, int], F64]) -> Callable[[Random, Knowledge, int], Run]:
    def run(rng: Random, know: Knowledge, budget: int) -> Run:
        x, labels = choose(rng, know, budget), []
        for start in range(0, len(x), _BLOCK):
            labels.append((yield x[start : start + _BLOCK]).label)
        return clone(rng, x, np.concatenate(labels))

    return run


def uniform(rng: Random, know: Knowledge, n: int) -> F64:
    """Return n uniform random inputs."""
    return know.low + know.span * rng.random((n, know.width))


def other_population(rng: Random, know: Knowledge, n: int) -> F64:
    """Return n records of another population."""
    if know.other is None:
        raise ValueError("this attack needs records of another population")
    return know.other[rng.choice(len(know.other), n, replace=len(know.other) < n)]


def mixed(rng: Random, know: Knowledge, n: int) -> F64:
    """Return n records, seven of ten from another population, the rest genuine."""
    x = np.concatenate([other_population(rng, know, n - n * 3 // 10), genuine(rng, know, n * 3 // 10)])
    return x[rng.permutation(n)]


def genuine(rng: Random, know: Knowledge, n: int) -> F64:
    """Return n records of the population itself: public ones, and blends of two of the same class."""
    i = rng.integers(0, len(know.public.y), n)
    partner = np.empty(n, np.int64)
    for k, label in enumerate(know.public.y[i].tolist()):
        partner[k] = rng.choice(np.flatnonzero(know.public.y == label))
    first, second = know.public.x[i].astype(np.float64), know.public.x[partner].astype(np.float64)
    blended = first + 0.35 * rng.random((n, 1)) * (second - first)
    gridded = np.where(know.step > 0, np.round(blended / np.maximum(know.step, 1e-9)) * know.step, blended)
    return np.where(know.category, first, gridded)


ATTACKS = (
    Attack("extraction_random", "extraction", _ask(uniform), 800, batch=_BLOCK),
    Attack("extraction_knockoff", "extraction", _ask(other_population), 900, SCORED, batch=_BLOCK),
    Attack("extraction_copycat", "extraction", _ask(mixed), 900, LABEL_ONLY, batch=_BLOCK),
    Attack("extraction_genuine", "extraction", _ask(genuine), 900, batch=_BLOCK),
)
