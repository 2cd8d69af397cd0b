"""Boundary attack: a random walk along the boundary, a little towards the record at every step.

Brendel, Rauber & Bethge, Decision-Based Adversarial Attacks (ICLR 2018), arXiv:1712.04248.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.adversarial import Victory, search
from replay.simulate.attacks.boundary import other_side
from replay.simulate.attacks.protocol import Attack, Knowledge
from replay.simulate.victims import Answer


def boundary_attack(rng: Random, know: Knowledge, x: F64, label: int, budget: int) -> Generator[F64, Answer, Victory]:
    """Propose a step on the sphere around x and one inwards; keep it while the label stays another one."""
    best = other_side(rng, know, label, x)
    if (yield best[None]).label[0] == label:
        return Victory(x, 1)
    around, inwards = 0.2, 0.15
    for sent in range(1, budget):
        away = (best - x) / know.span
        radius = np.linalg.norm(away)
        noise = rng.standard_normal(know.width)
        noise -= away * (noise @ away) / (radius**2 + 1e-12)
        trial = away + around * radius * noise / (np.linalg.norm(noise) + 1e-12)
        trial *= (1 - inwards) * radius / (np.linalg.norm(trial) + 1e-12)
        moved = know.clip(x + trial * know.span)
        if (yield moved[None]).label[0] != label:
            best, around, inwards = moved, min(around * 1.1, 0.5), min(inwards * 1.15, 0.3)
        else:
            around, inwards = max(around * 0.95, 0.02), max(inwards * 0.92, 0.005)
        if radius < 0.02:
            return Victory(best, sent + 1)
    return Victory(best, budget)


ATTACK = Attack("boundary_attack", "adversarial_search", search(boundary_attack, 300), 600)
