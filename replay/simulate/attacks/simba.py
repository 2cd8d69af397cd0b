"""SimBA: one random coordinate a step, up or down, kept if the score of the label falls.

Guo et al., Simple Black-box Adversarial Attacks (ICML 2019), arXiv:1905.07121; images also in the cosine basis.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.random import Generator as Random
from scipy.fft import idctn

from detector.events import F64
from replay.simulate.attacks.adversarial import Victory, margin, search
from replay.simulate.attacks.protocol import SCORED, Attack, Knowledge
from replay.simulate.victims import Answer

_STEP = 0.25


def simba(rng: Random, know: Knowledge, x: F64, label: int, budget: int) -> Generator[F64, Answer, Victory]:
    """Try every coordinate once in random order, then again."""
    moved, sent, cosine = x, 1, know.shape is not None and rng.random() < 0.5
    value = margin((yield x[None]), label)[0]
    while sent < budget:
        for i in rng.permutation(know.width).tolist():
            direction = _cosine(know, i) if cosine else np.eye(1, know.width, i)[0]
            for sign in (1.0, -1.0):
                if sent >= budget:
                    return Victory(moved, sent)
                trial = know.clip(moved + sign * _STEP * direction * know.span)
                answer = yield trial[None]
                sent += 1
                if margin(answer, label)[0] < value:
                    moved, value = trial, margin(answer, label)[0]
                    if answer.label[0] != label:
                        return Victory(moved, sent)
                    break
    return Victory(moved, sent)


def _cosine(know: Knowledge, i: int) -> F64:
    """Return [d] the i-th basis image of the cosine transform, as long as `shape` says, of unit length times two."""
    grid = np.zeros(know.width)
    grid[i] = 2.0
    return np.asarray(idctn(grid.reshape(know.shape or (know.width,)), norm="ortho")).ravel()


ATTACK = Attack("simba", "adversarial_search", search(simba, 400), 600, SCORED)
