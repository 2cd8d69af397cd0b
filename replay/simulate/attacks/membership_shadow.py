"""Membership by a shadow model: learn at home how answers to members differ, then ask for every record once, in blocks.

Shokri et al., Membership Inference Attacks Against Machine Learning Models (IEEE S&P 2017), arXiv:1610.05820.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64, I64
from replay.simulate.attacks.local import linear, log_odds, shadow
from replay.simulate.attacks.protocol import SCORED, Attack, Knowledge, Run, Suspected

_BLOCK = 50


def membership_shadow(rng: Random, know: Knowledge, budget: int) -> Run:
    """Train a shadow on half of the public records and an attack model on its answers to both halves."""
    x, y = know.public.x.astype(np.float64), know.public.y
    inside = rng.random(len(y)) < 0.5
    for label in range(know.classes):  # every class in the half that trains the shadow
        inside[np.flatnonzero(y == label)[0]] = True
    scores = shadow(rng, x[inside], y[inside]).predict_proba(x)
    judge = linear(_view(scores[np.arange(len(y)), y], scores.max(1)), inside.astype(np.int64))
    belief, n = np.full(len(know.subjects.y), np.nan), min(budget, len(know.subjects.y))
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        answer = yield know.subjects.x[rows].astype(np.float64)
        view = _view(answer.score(know.subjects.y[rows]), answer.score(answer.label))
        belief[rows] = judge.predict_proba(view)[:, 1]
    return Suspected(belief)


def _view(true: F64, top: F64) -> F64:
    wrong: I64 = (true < top - 1e-9).astype(np.int64)
    return np.stack([log_odds(true), log_odds(top), wrong], 1)


ATTACK = Attack("membership_shadow", "membership_inference", membership_shadow, 200, SCORED, batch=_BLOCK)
