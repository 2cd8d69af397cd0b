"""Membership through noisy answers: ask for the same record again and again, and average the noise away.

The averaging that output perturbation invites: Jia et al., MemGuard (CCS 2019), arXiv:1909.10594, discuss it as the
reason why noise must be the same for the same record.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.protocol import Attack, Knowledge, Run, Suspected

_REPEATS = 10


def membership_repeats(rng: Random, know: Knowledge, budget: int) -> Run:  # noqa: ARG001 - nothing is left to chance
    """Ask for each record ten times; believe in proportion to the mean score of its true class."""
    belief = np.full(len(know.subjects.y), np.nan)
    for i in range(min(budget // _REPEATS, len(belief))):
        seen = []
        for _ in range(_REPEATS):
            seen.append((yield know.subjects.x[i : i + 1].astype(np.float64)).score(int(know.subjects.y[i]))[0])
        belief[i] = np.mean(seen)
    return Suspected(belief)


ATTACK = Attack("membership_repeats", "membership_inference", membership_repeats, 1000, ("noisy",))
