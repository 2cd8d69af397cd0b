"""The nearest of the last 256 queries: rings of sketches, of one client (history.py) or of one model (kinship.py).

Straight loops over one number each, so that they run in SIMD. Distances from 0 up are ordered like their bits, and
whole numbers compare in SIMD where floats do not.
"""

from __future__ import annotations

import numpy as np

from detector.events import F32, I16, I32
from detector.kernel import in_place
from detector.sketch import DIMENSIONS

WINDOW = 256
FARTHEST = 0x7F800000  # the bits of infinity


@in_place
def distances(ring: I16, x: I16, squared: F32) -> None:
    """Write the squared distances [256] of a sketch to all of a ring [32, 256]."""
    squared[:] = 0.0
    for k in range(DIMENSIONS):
        here = np.float32(x[k])
        row = ring[k]
        for w in range(WINDOW):
            gap = np.float32(row[w]) - here
            squared[w] += gap * gap


@in_place
def least(ordered: I32, count: int, first: int, last: int) -> int:
    """Return the smallest of the numbers of ages first..last (1 = the newest of `count`); FARTHEST where none is."""
    found = FARTHEST
    start = (count - last) % WINDOW
    stop = start + last - first + 1
    for w in range(start, min(stop, WINDOW)):
        found = min(found, ordered[w])
    for w in range(stop - WINDOW):
        found = min(found, ordered[w])
    return found


@in_place
def newest_with(ordered: I32, count: int, value: int, first: int = 1) -> int:
    """Return the place of the newest query, from age `first` on, at a distance that is known to occur."""
    for age in range(first, WINDOW + 1):
        if ordered[(count - age) % WINDOW] == value:
            return (count - age) % WINDOW
    return 0
