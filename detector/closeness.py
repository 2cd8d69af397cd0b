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
    strangers = np.where(owners[:, None] == owners[None, :], np.inf, gaps)
    mixed = owners * np.uint64(0x9E3779B97F4A7C15)
    found = []
    for bit in range(64 - PARTINGS, 64):
        side = (mixed >> np.uint64(bit)) & np.uint64(1) == 1
        found += [_ratios(strangers, side), _ratios(strangers, ~side)]
    ratios = np.concatenate(found)
    if len(ratios) < LEAST_ROWS:
        return np.zeros(POINTS, np.float32)
    return np.quantile(ratios, np.arange(1, POINTS + 1) / (POINTS + 1)).astype(np.float32)


def _ratios(strangers: F64, side: NDArray[np.bool_]) -> F64:
    """Return the closeness of the rows of one side."""
    if min(side.sum(), (~side).sum()) < LEAST_SIDE:
        return np.empty(0)
    a = strangers[np.ix_(side, side)].min(axis=1)
    b = strangers[np.ix_(side, ~side)].min(axis=1)
    both = np.isfinite(a) & np.isfinite(b)
    return np.asarray(a[both] / np.maximum(b[both], 1.0))
