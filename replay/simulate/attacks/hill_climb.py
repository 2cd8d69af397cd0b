"""Hill climbing: change the best input a little, keep the change if the target's confidence rises.

The classic black-box inversion, as in Fredrikson, Jha & Ristenpart, Model Inversion Attacks that Exploit Confidence
Information (CCS 2015), https://doi.org/10.1145/2810103.2813677.
"""

from __future__ import annotations

from numpy.random import Generator as Random

from replay.simulate.attacks.search import Optimiser, variants


def hill_climb(rng: Random, dims: int) -> Optimiser:
    """Climb with a step that grows on success and shrinks on failure (the 1/5 rule)."""
    best = rng.standard_normal((1, dims))
    value = (yield best)[0]
    step = 0.6
    while True:
        trial = best + step * rng.standard_normal((1, dims))
        now = (yield trial)[0]
        if now > value:
            best, value, step = trial, now, min(step * 1.5, 2.0)
        else:
            step = max(step * 0.93, 0.05)


ATTACKS = variants("hill_climb", hill_climb)
