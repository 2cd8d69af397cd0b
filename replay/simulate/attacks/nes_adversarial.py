"""NES as an adversarial search: antithetic probes estimate the gradient, projected sign steps follow it.

Ilyas et al., Black-box Adversarial Attacks with Limited Queries and Information (ICML 2018), arXiv:1804.08598.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.adversarial import Victory, margin, search
from replay.simulate.attacks.protocol import SCORED, Attack, Knowledge
from replay.simulate.victims import Answer

_PAIRS, _SIGMA, _STEP, _BALL = 10, 0.05, 0.03, 0.3


def nes_adversarial(rng: Random, know: Knowledge, x: F64, label: int, budget: int) -> Generator[F64, Answer, Victory]:
    """Stay inside a ball (largest change of a feature) around the record."""
    moved, sent, momentum = x, 0, np.zeros(know.width)
    while budget - sent > 2 * _PAIRS:
        steps = rng.standard_normal((_PAIRS, know.width))
        probes = np.stack([steps, -steps], 1).reshape(-1, know.width)
        values = margin((yield know.clip(moved + _SIGMA * probes * know.span)), label)
        momentum = 0.5 * momentum + (values[:, None] * probes).mean(0)
        change = np.clip((moved - _STEP * np.sign(momentum) * know.span - x) / know.span, -_BALL, _BALL)
        moved = know.clip(x + change * know.span)
        sent += 2 * _PAIRS + 1
        if (yield moved[None]).label[0] != label:
            break
    return Victory(moved, sent)


ATTACK = Attack("nes_adversarial", "adversarial_search", search(nes_adversarial, 400), 600, SCORED, batch=2 * _PAIRS)
