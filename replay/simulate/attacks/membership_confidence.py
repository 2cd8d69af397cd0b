"""Membership by confidence: a model is surer of the records that it was trained on. One query a record.

Yeom et al., Privacy Risk in Machine Learning (CSF 2018), arXiv:1709.01604; Salem et al., ML-Leaks (NDSS 2019),
arXiv:1806.01246. With labels alone the test is whether the answer is right.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from replay.simulate.attacks.protocol import Attack, Knowledge, Run, Suspected


def membership_confidence(rng: Random, know: Knowledge, budget: int) -> Run:  # noqa: ARG001 - nothing is left to chance
    """Ask for every record once; believe in proportion to the score of its true class."""
    belief = np.full(len(know.subjects.y), np.nan)
    for i in range(min(budget, len(belief))):
        belief[i] = (yield know.subjects.x[i : i + 1].astype(np.float64)).log_odds(int(know.subjects.y[i]))[0]
    return Suspected(belief)


ATTACK = Attack("membership_confidence", "membership_inference", membership_confidence, 200)
