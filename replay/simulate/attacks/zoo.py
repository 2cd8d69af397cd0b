"""ZOO: symmetric finite differences of one random coordinate at a time, with an Adam step on each.

Chen et al., ZOO: Zeroth Order Optimization Based Black-box Attacks (AISec 2017), arXiv:1708.03999.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.adversarial import Victory, margin, search
from replay.simulate.attacks.protocol import SCORED, Attack, Knowledge
from replay.simulate.victims import Answer

_WIDTH, _RATE, _BLOCK = 0.02, 0.15, 8


def zoo(rng: Random, know: Knowledge, x: F64, label: int, budget: int) -> Generator[F64, Answer, Victory]:
    """Probe eight coordinates at a time, two queries each."""
    moved, sent = x.copy(), 0
    first, second, turns = np.zeros(know.width), np.zeros(know.width), np.zeros(know.width)
    while budget - sent > 2 * _BLOCK:
        block = rng.choice(know.width, min(_BLOCK, know.width), replace=False)
        probes = np.repeat(moved[None], 2 * len(block), 0)
        probes[np.arange(0, len(probes), 2), block] += _WIDTH * know.span[block]
        probes[np.arange(1, len(probes), 2), block] -= _WIDTH * know.span[block]
        values = margin((yield know.clip(probes)), label)
        slope = (values[::2] - values[1::2]) / (2 * _WIDTH)
        turns[block] += 1
        first[block] = 0.9 * first[block] + 0.1 * slope
        second[block] = 0.999 * second[block] + 0.001 * slope**2
        mean, square = first[block] / (1 - 0.9 ** turns[block]), second[block] / (1 - 0.999 ** turns[block])
        moved[block] -= _RATE * know.span[block] * mean / (np.sqrt(square) + 1e-8)
        moved = know.clip(moved)
        sent += len(probes) + 1
        if (yield moved[None]).label[0] != label:
            break
    return Victory(moved, sent)


ATTACK = Attack("zoo", "adversarial_search", search(zoo, 400), 600, SCORED, batch=2 * _BLOCK)
