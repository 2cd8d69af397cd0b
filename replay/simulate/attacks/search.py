"""What all inversion attacks with scores share: a search space, a target class, and when to stop.

An optimiser is a generator of its own kind: it yields points u [n, dims] in coordinates of about unit size, is sent
values [n] to maximise, and never ends. `inversion` turns it into an attack on one class after another, in input space
or in the latent space of a generator fitted on public data.

References: Fredrikson, Jha & Ristenpart (2015), https://doi.org/10.1145/2810103.2813677, invert a class by climbing
its confidence; Zhang et al. (2020), arXiv:1911.07135, search in the latent space of a generator trained on public data.
Here the generator is a principal-component analysis, which is what small data can feed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.protocol import SCORED, Attack, Inverted, Knowledge, Run
from replay.simulate.data import Dataset

STOP = 0.9  # the confidence at which the classic attack is content
Optimiser = Generator[F64, F64, None]
LEAST = (0, 80)  # half of the attackers go on to at least so many queries a class, as tools with fixed iterations do
MakeOptimiser = Callable[[Random, int], Optimiser]


@dataclass(frozen=True, slots=True)
class Space:
    """Linear search space: x = centre + u @ axes, clipped to the valid range."""

    centre: F64
    axes: F64  # [dims, d]
    low: F64
    high: F64

    @property
    def dims(self) -> int:
        """Return the number of coordinates."""
        return len(self.axes)

    def decode(self, u: F64) -> F64:
        """Return inputs [n, d] for points u [n, dims]."""
        return np.clip(self.centre + u @ self.axes, self.low, self.high)


def input_space(know: Knowledge, rng: Random) -> Space:
    """Every feature is a coordinate; the centre is mid-range or, for half of the attackers, the public mean."""
    centre = know.public.x.mean(0, dtype=np.float64) if rng.random() < 0.5 else (know.low + know.high) / 2
    return Space(centre, np.diag(know.span / 4), know.low, know.high)


def latent_space(know: Knowledge, rng: Random, dims: int = 16) -> Space:  # noqa: ARG001 - one signature for all spaces
    """Principal components of the public records, in standard deviations."""
    x = know.public.x.astype(np.float64)
    centre = x.mean(0)
    _, size, axes = np.linalg.svd((x - centre) / know.span, full_matrices=False)
    k = min(dims, int((size > 1e-6).sum()))
    return Space(centre, axes[:k] * know.span * (size[:k, None] / np.sqrt(len(x))), know.low, know.high)


def inversion(
    make: MakeOptimiser, space_of: Callable[[Knowledge, Random], Space]
) -> Callable[[Random, Knowledge, int], Run]:
    """Return the attack that inverts one target class after another with this optimiser."""

    def run(rng: Random, know: Knowledge, budget: int) -> Run:
        space = space_of(know, rng)
        found: list[F64] = []
        classes: list[int] = []
        left, least = budget, int(rng.choice(LEAST))
        while left > 0:  # one reconstruction of every class after another, as many as the budget allows
            target = int(know.targets[len(found) % len(know.targets)])
            optimiser, best, best_score = make(rng, space.dims), space.centre, -1.0
            u, patience, sent = next(optimiser), max(1, budget // 2), 0
            while left > 0 and sent < patience:
                x = space.decode(u[: min(left, patience - sent)])
                left, sent = left - len(x), sent + len(x)
                answer = yield x
                scores = answer.score(target)
                if scores.max() > best_score:
                    best, best_score = x[scores.argmax()], float(scores.max())
                if best_score >= STOP and sent >= least:
                    break
                if left > 0 and sent < patience:
                    u = optimiser.send(answer.log_odds(target))
            found.append(best)
            classes.append(target)
        return Inverted(np.array(found), np.array(classes))

    return run


def singly(points: F64) -> Generator[F64, F64, F64]:
    """Ask for points [n, dims] one after the other; return their values [n]."""
    values = []
    for point in points:
        now = yield point[None]
        values.append(float(now[0]))
    return np.array(values)


def variants(name: str, make: MakeOptimiser, batch: int = 1, budget: int = 600) -> tuple[Attack, Attack]:
    """Return the attack in input space and, as `name_latent`, in latent space."""
    raw, latent = inversion(make, input_space), inversion(make, latent_space)
    return (
        Attack(name, "inversion", raw, budget, SCORED, suits=wide, batch=batch),
        Attack(f"{name}_latent", "inversion", latent, budget, SCORED, suits=wide, batch=batch),
    )


def wide(data: Dataset) -> bool:
    """Return whether inverting a class means anything: a flower of four features is no secret."""
    return data.width >= 9
