"""Membership by distance: records that were trained on lie further from the decision boundary. Labels suffice.

Choquette-Choo et al., Label-Only Membership Inference Attacks (ICML 2021), arXiv:2007.14321; Li & Zhang, Membership
Leakage in Label-Only Exposures (CCS 2021), arXiv:2007.15528. The distance is measured with HopSkipJump.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.boundary import other_side, walk
from replay.simulate.attacks.protocol import Attack, Knowledge, Run, Suspected

_PER_RECORD = 30


def membership_boundary(rng: Random, know: Knowledge, budget: int) -> Run:
    """Measure the distance of one record after another; wrongly answered ones are taken for outsiders."""
    belief, sent = np.full(len(know.subjects.y), np.nan), 0
    for i, label in enumerate(know.subjects.y.tolist()):
        if budget - sent < _PER_RECORD:
            break
        x = know.subjects.x[i].astype(np.float64)
        sent += 1
        if (yield x[None]).label[0] != label:
            belief[i] = 0.0
            continue
        far = other_side(rng, know, label, x)
        sent += 1
        if (yield far[None]).label[0] == label:
            belief[i] = 1.0
            continue
        end = yield from walk(rng, know, x, label, far, _PER_RECORD - 2, probes=8)
        sent += end.sent
        belief[i] = float(np.linalg.norm((end.end - x) / know.span) / np.sqrt(know.width))
    return Suspected(belief)


ATTACK = Attack("membership_boundary", "membership_inference", membership_boundary, 2000)
