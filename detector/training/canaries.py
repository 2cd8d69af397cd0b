"""Canaries: made-up records for the owner to plant among the training data, which nobody outside can know.

A canary is a child of two similar records: each of its numbers is that of one parent or the other, so every value
occurs in the data and most combinations are plausible. It is neither in the index nor near anything there, nor near
another canary. Where children come out as existing records, strangers could meet a canary by chance: none are made.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detector.events import F32, I64, U64
from detector.training.fingerprints import PRINTS
from detector.training.index import ABSENT, TrainingIndex

PARENTS = 2000  # records to choose from
SIMILAR = 8  # nearest records among which a partner is chosen
TRIES = 50  # children for each canary wanted, at most
LEAST_TRIES = 500  # children that must all be new


class CanaryError(Exception):
    """No canaries can be made of these records; the message says why."""


def invent(x: F32, index: TrainingIndex, count: int) -> F32:
    """Return new canaries [count, d] mixed from records x [n, d]; the same key and records give the same ones.

    CanaryError where the records are too few or too coarse.
    """
    rng = np.random.default_rng([*index.key.numbers("canaries", 4).tolist(), index.canary_count])
    parents = x[np.sort(rng.permutation(len(x))[:PARENTS])]
    partner = _similar(parents, index)
    tries = max(TRIES * count, LEAST_TRIES)
    first = rng.integers(0, len(parents), tries)
    mother, father = parents[first], parents[partner[first, rng.integers(0, partner.shape[1], tries)]]
    children = np.where(rng.random(mother.shape) < 0.5, mother, father)
    born = (children != mother).any(axis=1) & (children != father).any(axis=1)
    hits, known = index.look_up_records(children)
    if not born.any():
        raise CanaryError("the records are all the same, or differ from each other in single numbers only")
    if met := int((known & born).sum()):
        raise CanaryError(
            f"the records are too coarse: of {int(born.sum())} mixtures {met} are training records, so strangers could "
            "meet a canary by chance"
        )
    chosen = _apart(index.prints(children), born & (hits.trained == ABSENT), index, count)
    if len(chosen) < count:
        raise CanaryError(
            f"only {len(chosen)} of {count} canaries keep away from the training records; ask for fewer, or give more "
            "different records"
        )
    return children[chosen]


def register(x: F32, index: TrainingIndex, when: str) -> TrainingIndex:
    """Return the index with records x [n, d] as its newest canaries; they count as training records, too."""
    prints = index.prints(x)
    numbers = np.arange(index.canary_count + 1, index.canary_count + len(x) + 1, dtype=np.int32)
    digests = np.append(index.canary_digests, prints.ravel())
    digests, place = np.unique(digests, return_index=True)  # of canaries that share a cell, the older one has it
    owners = np.append(index.canary_numbers, np.repeat(numbers, PRINTS))[place]
    everything = np.union1d(index.digests, prints.ravel())
    header = replace(
        index.header,
        digests=len(everything),
        canaries=(*index.header.canaries, (len(x), when)),
        canary_digests=len(digests),
    )
    return replace(index, header=header, digests=everything, canary_digests=digests, canary_numbers=owners)


def _similar(parents: F32, index: TrainingIndex) -> I64:
    """Return [n, k] the nearest other records of each."""
    if len(parents) < 2:
        raise CanaryError("at least two records are needed to mix")
    sketch = index.sketch(parents).astype(np.float64)
    square = (sketch**2).sum(axis=1)
    gaps = square[:, None] + square[None, :] - 2 * sketch @ sketch.T
    np.fill_diagonal(gaps, np.inf)
    k = min(SIMILAR, len(parents) - 1)
    return np.argpartition(gaps, k - 1, axis=1)[:, :k]


def _apart(prints: U64, fit: np.ndarray[tuple[int], np.dtype[np.bool_]], index: TrainingIndex, count: int) -> list[int]:
    """Return the first `count` rows that share no digest with each other or with an older canary."""
    taken = set(index.canary_digests.tolist())
    chosen: list[int] = []
    for i in np.flatnonzero(fit).tolist():
        mine = set(prints[i].tolist())
        if len(chosen) < count and not mine & taken:
            chosen.append(i)
            taken |= mine
    return chosen
