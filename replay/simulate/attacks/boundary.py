"""Walking along a decision boundary by labels alone: the core of HopSkipJump, used to move records and to measure them.

Chen, Jordan & Wainwright, HopSkipJumpAttack (IEEE S&P 2020), arXiv:1904.02144: halve the way to the boundary, estimate
its normal there from random probes, step along the normal, halve again.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.protocol import Knowledge
from replay.simulate.victims import Answer


class Walk(NamedTuple):
    """Where a walk ended: the nearest input found with another label, and the queries it took."""

    end: F64  # [d]
    sent: int


def other_side(rng: Random, know: Knowledge, label: int, x: F64) -> F64:
    """Return the public record of another class nearest to x among a random dozen: no query needed."""
    others = know.public.x[know.public.y != label].astype(np.float64)
    some = others[rng.choice(len(others), min(12, len(others)), replace=False)]
    return np.asarray(some[(((some - x) / know.span) ** 2).sum(1).argmin()])


def walk(
    rng: Random, know: Knowledge, x: F64, label: int, start: F64, budget: int, probes: int = 20
) -> Generator[F64, Answer, Walk]:
    """Walk from `start` (answered otherwise than `label`) towards x, for at most `budget` queries."""
    near, sent = yield from halve(x, label, start, budget)
    step = 0
    while budget - sent >= probes // 2:
        step += 1
        n = min(int(probes * np.sqrt(step)), budget - sent)
        distance = np.linalg.norm((near - x) / know.span)
        noise = rng.standard_normal((n, know.width))
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        width = max(0.02, distance / np.sqrt(know.width))
        sign = np.where((yield know.clip(near + width * noise * know.span)).label != label, 1.0, -1.0)
        sent += n
        normal = ((sign - sign.mean() * (abs(sign.mean()) < 1))[:, None] * noise).mean(0)
        normal /= np.linalg.norm(normal) + 1e-12
        stride = distance / np.sqrt(step)
        while sent < budget and stride > 1e-3:  # a shorter stride until the point is still on the other side
            trial = know.clip(near + stride * normal * know.span)
            sent += 1
            if (yield trial[None]).label[0] != label:
                closer, more = yield from halve(x, label, trial, budget - sent)
                sent += more
                if np.linalg.norm((closer - x) / know.span) < np.linalg.norm((near - x) / know.span):
                    near = closer
                break
            stride /= 2
    return Walk(near, sent)


def halve(x: F64, label: int, far: F64, budget: int, share: float = 0.02) -> Generator[F64, Answer, Walk]:
    """Halve the line between x and a point of another label until what is left is a small share of it."""
    low, high, sent = 0.0, 1.0, 0
    while high - low > share and sent < budget:
        middle = (low + high) / 2
        sent += 1
        if (yield (x + middle * (far - x))[None]).label[0] != label:
            high = middle
        else:
            low = middle
    return Walk(x + high * (far - x), sent)
