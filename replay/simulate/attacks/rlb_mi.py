"""Reinforcement-learning inversion: an agent moves a latent point; a third of its queries are exact repeats.

Han, Choi, Lee & Kim, Reinforcement Learning-Based Black-Box Model Inversion Attacks (CVPR 2023), arXiv:2304.04625. Each
step asks for the next state, for the action alone, and for the state again when the reward is computed. The agent here
is a Gaussian policy with REINFORCE instead of soft actor-critic; the stream of queries has the same form.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.protocol import Attack, Inverted, Knowledge, Run
from replay.simulate.attacks.search import STOP, latent_space, wide

_KEEP, _EPISODE = 0.3, 4  # share of the old state in the next one; steps an episode


def rlb_mi(rng: Random, know: Knowledge, budget: int) -> Run:
    """Learn, for one class after another, an action that leads into it."""
    space = latent_space(know, rng)
    found: list[F64] = []
    classes: list[int] = []
    left = budget
    while left >= 3:
        target = int(know.targets[len(found) % len(know.targets)])
        mean, baseline, best, best_score = 0.3 * rng.standard_normal(space.dims), 0.0, np.zeros(space.dims), -1.0
        patience, step, state = budget // 2, 0, rng.standard_normal(space.dims)
        while left >= 3 and patience > 0 and best_score < STOP:
            if step % _EPISODE == 0:
                state = rng.standard_normal(space.dims)
            noise = 0.6 * rng.standard_normal(space.dims)
            action = mean + noise
            state = _KEEP * state + (1 - _KEEP) * action
            answer = yield space.decode(np.stack([state, action, state]))
            left, patience, step = left - 3, patience - 3, step + 1
            score, log_odds = answer.score(target), np.clip(answer.log_odds(target), -8, 8)
            reward = 2 * log_odds[0] + log_odds[1]
            advantage = np.clip(reward - baseline, -6, 6)
            baseline += 0.1 * (reward - baseline)
            mean = np.clip(mean + 0.12 * advantage * noise, -2.5, 2.5)
            if score[:2].max() > best_score:
                best, best_score = (state, action)[int(score[:2].argmax())], float(score[:2].max())
        found.append(space.decode(best[None])[0])
        classes.append(target)
    return Inverted(np.array(found), np.array(classes))


ATTACK = Attack("rlb_mi", "inversion", rlb_mi, 900, suits=wide, batch=3)
