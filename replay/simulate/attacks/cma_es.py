"""Covariance matrix adaptation: the evolution strategy that learns the shape of its own steps.

Hansen, The CMA Evolution Strategy: A Tutorial (2016), arXiv:1604.00772, with the author's library `cma`.
"""

from __future__ import annotations

from typing import Any

import cma
import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants


def cma_es(rng: Random, dims: int) -> Optimiser:
    """Ask and tell `cma`, fed with our random numbers so that a seed decides everything."""

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape)

    options = {"verbose": -9, "randn": normal, "seed": np.nan, "CMA_diagonal": dims > 100, "tolfun": 0, "tolx": 0}
    strategy = cma.CMAEvolutionStrategy(rng.standard_normal(dims) * 0.5, 0.7, options)
    while True:
        points = strategy.ask()
        values = yield np.array(points)
        told = np.full(len(points), values.min())  # the last generation may have been cut by the budget
        told[: len(values)] = values
        strategy.tell(points, (-told).tolist())


ATTACKS = variants("cma_es", cma_es, batch=16)
