"""Data sets in the simulator's form, split into members, public and held-out records."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.random import Generator

from replay.simulate.data import Dataset, Part, category_of, step_of
from tests.foreign import images, tables
from tests.foreign.tables import Raw

MEMBERS, PUBLIC = 400, 400

MAKERS: dict[str, Callable[[Generator], Raw]] = {maker.__name__: maker for maker in tables.MAKERS + images.MAKERS}


@cache
def population(name: str, seed: int) -> Dataset:
    """Return a data set: 400 members, 400 public records, thousands held out, which benign clients send."""
    rng = np.random.default_rng([seed, *name.encode()])
    raw = MAKERS[name](rng)
    order = rng.permutation(len(raw.y))
    whole = Part(np.ascontiguousarray(raw.x[order], np.float32), raw.y[order].astype(np.int64))
    rows = np.arange(len(order))
    every = None if raw.shape is not None else 0  # pixels have one range, the features of a table each their own
    low, high = (
        np.broadcast_to(end, raw.x.shape[1]).astype(np.float64) for end in (raw.x.min(every), raw.x.max(every))
    )
    return Dataset(
        name=name,
        classes=int(raw.y.max()) + 1,
        members=whole.take(rows[:MEMBERS]),
        public=whole.take(rows[MEMBERS : MEMBERS + PUBLIC]),
        held_out=whole.take(rows[MEMBERS + PUBLIC :]),
        low=low,
        high=high,
        step=np.array([step_of(column) for column in raw.x.T]),
        category=np.array([category_of(column) for column in raw.x.T]),
        shape=raw.shape,
        sensitive=raw.sensitive,
    )
