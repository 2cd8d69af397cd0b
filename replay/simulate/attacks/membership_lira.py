"""Membership by likelihood ratio: how far is the answer from that of models that have not seen the record?

Carlini et al., Membership Inference Attacks From First Principles (IEEE S&P 2022), arXiv:2112.03570, offline variant.
As in the authors' code every record is asked twice: as it is, and mirrored (images) or nudged (tables).
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.local import log_odds, nudged, shadow
from replay.simulate.attacks.protocol import SCORED, Attack, Knowledge, Run, Suspected

_SHADOWS = 4


def membership_lira(rng: Random, know: Knowledge, budget: int) -> Run:
    """Ask for pairs; compare with shadow models of random public halves, which are all without the record."""
    n = min(budget // 2, len(know.subjects.y))
    if n == 0:
        return Suspected(np.full(len(know.subjects.y), np.nan))
    x, y = know.subjects.x[:n].astype(np.float64), know.subjects.y[:n]
    twins = np.stack([_twin(rng, know, row) for row in x])
    out = _shadow_log_odds(rng, know, x, twins, y)
    belief = np.full(len(know.subjects.y), np.nan)
    for i in range(n):
        seen = (yield np.stack([x[i], twins[i]])).log_odds(int(y[i]))
        belief[i] = ((np.clip(seen, -14, 14) - out[:, :, i].mean(0)) / (out[:, :, i].std(0) + 1.0)).mean()
    return Suspected(belief)


def _twin(rng: Random, know: Knowledge, x: F64) -> F64:
    return nudged(rng, know, x, 1)[0] if know.shape is None else x.reshape(know.shape)[:, ::-1].ravel()


def _shadow_log_odds(
    rng: Random, know: Knowledge, x: F64, twins: F64, y: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> F64:
    """Return [shadows, 2, n] log-odds of the true class by models that never saw the records."""
    out = []
    for _ in range(_SHADOWS):
        some = rng.random(len(know.public.y)) < 0.7
        for label in range(know.classes):
            some[np.flatnonzero(know.public.y == label)[0]] = True
        model = shadow(rng, know.public.x[some].astype(np.float64), know.public.y[some])
        rows = np.arange(len(y))
        out.append([log_odds(model.predict_proba(asked)[rows, y]) for asked in (x, twins)])
    return np.array(out)


ATTACK = Attack("membership_lira", "membership_inference", membership_lira, 400, SCORED, batch=2)
