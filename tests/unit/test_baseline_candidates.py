"""Candidates for a model's next reference: what one pass in order keeps, however the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.blocks import BLOCKS
from detector.candidates import PER_CLIENT, ROWS, Learning, keep
from detector.sketch import DIMENSIONS

Row = tuple[int, int, int]  # (hash, client, content)


def one_by_one(rows: list[Row]) -> list[Row]:
    """Take rows in order: a client at its cap, or a full pool, gives up its greatest hash, if that is greater."""
    kept: list[Row] = []
    for row in rows:
        mine = [other for other in kept if other[1] == row[1]]
        pool = mine if len(mine) >= PER_CLIENT else kept
        if len(mine) >= PER_CLIENT or len(kept) >= ROWS:
            worst = max(pool, key=lambda other: other[0])
            if row[0] >= worst[0]:
                continue
            kept.remove(worst)
        kept.append(row)
    return sorted(kept, key=lambda other: other[0])


def in_chunks(rows: list[Row], cuts: list[int]) -> list[Row]:
    learning = Learning()
    edges = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, stop in pairwise(edges):
        if start < stop:
            hashes, clients, content = (np.array(column) for column in zip(*rows[start:stop], strict=True))
            sketch = np.repeat(content[:, None], DIMENSIONS, axis=1).astype(np.int16)
            trained = content % 2 == 1
            blocks = np.repeat(content[:, None], BLOCKS, axis=1).astype(np.uint8)
            keep(learning, hashes.astype(np.uint64), clients.astype(np.uint64), sketch, blocks, trained)
    assert (learning.trained == learning.rows[:, 0] % 2).all()
    assert (learning.blocks[:, 0] == learning.rows[:, 0]).all()
    found = (learning.hashes.tolist(), learning.clients.tolist(), learning.rows[:, 0].tolist())
    return list(zip(*found, strict=True))


@given(seed=st.integers(0, 10_000), clients=st.integers(1, 60), n=st.integers(1, 900), cuts=st.lists(st.integers(0)))
def test_chunks_keep_what_one_pass_in_order_keeps(seed: int, clients: int, n: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.choice(10**9, n, replace=False).tolist()
    rows = list(zip(hashes, rng.integers(0, clients, n).tolist(), rng.integers(0, 99, n).tolist(), strict=True))
    assert in_chunks(rows, cuts) == one_by_one(rows)


@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0), max_size=5))
def test_equal_hashes_do_not_make_the_cut_matter(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    columns = (rng.integers(0, 40, 500), rng.integers(0, 30, 500), np.arange(500) % 200)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    assert in_chunks(rows, cuts) == in_chunks(rows, [])
