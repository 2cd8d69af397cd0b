"""HopSkipJump: a decision-based attack; see boundary.py for the walk itself.

Chen, Jordan & Wainwright, HopSkipJumpAttack (IEEE S&P 2020), arXiv:1904.02144.
"""

from __future__ import annotations

from collections.abc import Generator

from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.adversarial import Victory, search
from replay.simulate.attacks.boundary import other_side, walk
from replay.simulate.attacks.protocol import Attack, Knowledge
from replay.simulate.victims import Answer


def hop_skip_jump(rng: Random, know: Knowledge, x: F64, label: int, budget: int) -> Generator[F64, Answer, Victory]:
    """Start at a record of another class and come as near to x as the budget allows."""
    far = other_side(rng, know, label, x)
    if (yield far[None]).label[0] == label:
        return Victory(x, 1)
    end = yield from walk(rng, know, x, label, far, budget - 1)
    return Victory(end.end, end.sent + 1)


ATTACK = Attack("hop_skip_jump", "adversarial_search", search(hop_skip_jump, 300), 600, batch=20)
