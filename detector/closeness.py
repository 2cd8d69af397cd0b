"""How near benign clients come to each other, measured against the model's reference: the null of kinship.py.

For a query, let a be the distance to the nearest recent query of another client, and b the distance to the nearest
benign row of another client. Both samples are benign and drawn from as many rows, so the closeness a/b has a
distribution that the reference alone can tell: its owners are parted in two (a keyed hash decides, sixteen times), and
every row takes a from its own side and b from the other one. Whole owners change sides, not rows: clients alike to
each other, as two branches of one company, are part of the null.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.events import F32, F64, U64
from detector.kernel import kernel

POINTS = 256  # quantiles kept, at 1/257 … 256/257
LEAST_ROWS, LEAST_OWNERS = 64, 6  # of a reference, before its few clients say what is usual
LEAST_SIDE = 8  # rows on either side of a parting
PARTINGS = 16


def closeness(gaps: F64, owners: U64) -> F32:
    """Return quantiles [256] of the closeness of benign rows; zeros where the reference is too small to tell.

    `gaps` [n, n] are the distances between the rows of a reference, `owners` [n] its clients.
    """
    if len(owners) < LEAST_ROWS or len(np.unique(owners)) < LEAST_OWNERS:
        return np.zeros(POINTS, np.float32)
    mixed = owners * np.uint64(0x9E3779B97F4A7C15)
    sides = (mixed[:, None] >> np.arange(64 - PARTINGS, 64, dtype=np.uint64)) & np.uint64(1) == 1
    sides = sides[:, np.minimum(sides.sum(axis=0), (~sides).sum(axis=0)) >= LEAST_SIDE]
    own, other = _nearest(gaps, owners, np.ascontiguousarray(sides))
    both = np.isfinite(own) & np.isfinite(other)
    if both.sum() < LEAST_ROWS:
        return np.zeros(POINTS, np.float32)
    ratios = own[both] / np.maximum(other[both], 1.0)
    return np.quantile(ratios, np.arange(1, POINTS + 1) / (POINTS + 1)).astype(np.float32)


@kernel
def _nearest(gaps: F64, owners: U64, sides: NDArray[np.bool_]) -> tuple[F64, F64]:
    """Return each row's distance [n, partings] to other owners' nearest on its own side, and on the other one."""
    n, partings = sides.shape
    own, other = np.full((n, partings), np.inf), np.full((n, partings), np.inf)
    for i in range(n):
        for j in range(n):
            if owners[i] == owners[j]:
                continue
            gap = gaps[i, j]
            for k in range(partings):  # without branches, so that it runs in SIMD
                alike = sides[i, k] == sides[j, k]
                own[i, k] = min(own[i, k], gap if alike else np.inf)
                other[i, k] = min(other[i, k], np.inf if alike else gap)
    return own, other
