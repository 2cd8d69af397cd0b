"""Boundary repulsion: label-only inversion in a latent space.

Kahla, Chen, Just & Jia, Label-Only Model Inversion Attacks via Boundary Repulsion (CVPR 2022), arXiv:2203.01925. From
a latent point of the target class, 32 points on a sphere around it vote: those outside the class push the centre
away. When three quarters are inside, the centre has been asked, and the radius grows by 1.3. The latent space here is
a PCA.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.protocol import LABEL_ONLY, Attack, Inverted, Knowledge, Run
from replay.simulate.attacks.search import latent_space, wide

_SPHERE, _GROW, _INSIDE, _STRIDE = 32, 1.3, 0.75, 0.5


def brep_mi(rng: Random, know: Knowledge, budget: int) -> Run:
    """Invert one class after another by labels alone."""
    space = latent_space(know, rng)
    found: list[F64] = []
    classes: list[int] = []
    left = budget
    while left > 0:
        target = int(know.targets[len(found) % len(know.targets)])
        centre, best, radius, patience = None, np.zeros(space.dims), 0.6, max(_SPHERE + 1, budget // 2)
        while left > 0 and patience > 0 and radius < 5:
            if centre is None:  # first a latent point of the class, by chance
                u = 0.8 * rng.standard_normal((min(_SPHERE, left), space.dims))
            else:
                sphere = rng.standard_normal((_SPHERE, space.dims))
                sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
                u = np.concatenate([centre + radius * sphere, centre[None]])[:left]
            left, patience = left - len(u), patience - len(u)
            inside = (yield space.decode(u)).label == target
            if centre is None:
                hits = np.flatnonzero(inside)
                centre = u[hits[0]] if len(hits) else None
                continue
            best = centre
            if inside[:_SPHERE].mean() >= _INSIDE:
                radius *= _GROW
                continue
            outward = np.where(inside[: len(sphere)], 0.0, -1.0)[: len(u)]
            push = (outward[:, None] * sphere[: len(outward)]).sum(0)
            norm = np.linalg.norm(push)
            centre = centre + (_STRIDE * push / norm if norm > 0 else 0)
        found.append(space.decode(best[None])[0])
        classes.append(target)
    return Inverted(np.array(found), np.array(classes))


ATTACK = Attack("brep_mi", "inversion", brep_mi, 1200, LABEL_ONLY, suits=wide, batch=_SPHERE)
