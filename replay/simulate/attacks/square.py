"""Square attack: random squares (in tables: random blocks of features) are pushed to the edge of the ball.

Andriushchenko et al., Square Attack (ECCV 2020), arXiv:1912.00049.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.adversarial import Victory, margin, search
from replay.simulate.attacks.protocol import SCORED, Attack, Knowledge
from replay.simulate.victims import Answer

_BALL = 0.2


def square(rng: Random, know: Knowledge, x: F64, label: int, budget: int) -> Generator[F64, Answer, Victory]:
    """Start with stripes, then change one square at a time; the squares shrink with the queries."""
    best = know.clip(x + _BALL * rng.choice([-1.0, 1.0], know.width) * know.span)
    answer = yield best[None]
    value, sent = margin(answer, label)[0], 1
    while sent < budget and answer.label[0] == label:
        part = _square(rng, know, max(0.04, 0.3 / (1 + sent / 40)))
        trial = best.copy()
        trial[part] = know.clip(x + _BALL * rng.choice([-1.0, 1.0]) * know.span)[part]
        now = yield trial[None]
        sent += 1
        if margin(now, label)[0] < value:
            best, value, answer = trial, margin(now, label)[0], now
    return Victory(best, sent)


def _square(rng: Random, know: Knowledge, share: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if know.shape is None:
        n = max(1, round(share * know.width))
        return (int(rng.integers(know.width)) + np.arange(n)) % know.width
    height, width = know.shape
    side = max(1, round(np.sqrt(share * height * width)))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    rows, columns = np.meshgrid(top + np.arange(side), left + np.arange(side), indexing="ij")
    return np.asarray(rows * width + columns).ravel()


ATTACK = Attack("square", "adversarial_search", search(square, 300), 600, SCORED)
