"""Membership by noise: how many noisy copies of a record keep its label, or its score?

Choquette-Choo et al. (ICML 2021), arXiv:2007.14321, "random noise".
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.protocol import Attack, Knowledge, Run, Suspected

_COPIES = 12


def membership_noise(rng: Random, know: Knowledge, budget: int) -> Run:
    """Send a dozen noisy copies of each record; believe in proportion to the mean score of its true class."""
    belief = np.full(len(know.subjects.y), np.nan)
    for i in range(min(budget // _COPIES, len(belief))):
        noise = 0.06 * know.span * rng.standard_normal((_COPIES, know.width))
        noise[0] = 0
        answer = yield know.clip(know.subjects.x[i] + noise)
        belief[i] = answer.score(int(know.subjects.y[i])).mean()
    return Suspected(belief)


ATTACK = Attack("membership_noise", "membership_inference", membership_noise, 1200, batch=_COPIES)
