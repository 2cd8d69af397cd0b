"""Membership by augmentation: a record that was trained on keeps its label under shifts and turns.

Choquette-Choo et al., Label-Only Membership Inference Attacks (ICML 2021), arXiv:2007.14321, section 4.1.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.local import nudged
from replay.simulate.attacks.protocol import Attack, Knowledge, Run, Suspected

_VARIANTS = 8


def membership_augmentation(rng: Random, know: Knowledge, budget: int) -> Run:
    """Ask for each record and eight variants; believe in proportion to the mean score of its true class."""
    belief = np.full(len(know.subjects.y), np.nan)
    for i in range(min(budget // (_VARIANTS + 1), len(belief))):
        x = know.subjects.x[i].astype(np.float64)
        answer = yield np.concatenate([x[None], nudged(rng, know, x, _VARIANTS, 1.5)])
        belief[i] = answer.score(int(know.subjects.y[i])).mean()
    return Suspected(belief)


ATTACK = Attack("membership_augmentation", "membership_inference", membership_augmentation, 900, batch=_VARIANTS + 1)
