"""Downhill simplex: reflect, expand, contract or shrink a simplex of points.

Nelder & Mead, The Computer Journal 7 (1965), doi:10.1093/comjnl/7.4.308, with the dimension-adaptive coefficients of
Gao & Han (2012). In wide input spaces it works in a random subspace, where alone it can get anywhere.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.search import Optimiser, singly, variants

_SUBSPACE = 12


def nelder_mead(rng: Random, dims: int) -> Optimiser:
    """Maximise by a simplex in at most twelve dimensions; start again when it has collapsed."""
    origin = rng.standard_normal(dims)
    while True:
        n = min(dims, _SUBSPACE)
        axes = np.linalg.qr(rng.standard_normal((dims, n)))[0].T if dims > n else np.eye(dims)
        points = origin + np.concatenate([np.zeros((1, n)), 1.5 * np.eye(n)]) @ axes
        values = yield from singly(points)
        while np.abs(points - points[0]).max() > 0.02:
            order = np.argsort(-values, kind="stable")
            points, values = points[order], values[order]
            points, values = yield from _turn(points, values)
        origin = points[values.argmax()]


def _turn(points: F64, values: F64) -> Generator[F64, F64, tuple[F64, F64]]:
    """Replace the worst point, or shrink towards the best; points are sorted, best first."""
    n = len(points) - 1
    expand, contract, shrink = 1 + 2 / n, 0.75 - 1 / (2 * n), 1 - 1 / n
    centre = points[:-1].mean(0)

    def along(t: float) -> F64:
        return np.asarray(centre + t * (centre - points[-1]))

    reflected = along(1.0)
    value = float((yield reflected[None])[0])
    if value > values[0]:
        further = along(expand)
        far = float((yield further[None])[0])
        points[-1], values[-1] = (further, far) if far > value else (reflected, value)
    elif value > values[-2]:
        points[-1], values[-1] = reflected, value
    else:
        closer = along(contract if value > values[-1] else -contract)
        near = float((yield closer[None])[0])
        if near > max(value, values[-1]):
            points[-1], values[-1] = closer, near
        else:
            points[1:] = points[0] + shrink * (points[1:] - points[0])
            for i in range(1, n + 1):
                values[i] = float((yield points[i][None])[0])
    return points, values


ATTACKS = variants("nelder_mead", nelder_mead)
