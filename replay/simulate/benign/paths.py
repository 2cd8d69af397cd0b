"""Inputs that follow one another smoothly: sensors, video frames, sliders."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from replay.simulate import pace
from replay.simulate.benign.protocol import Kind, Setting, Trace, trace


def _slider(rng: Generator, at: Setting) -> Trace:
    """A user opens a record and drags one feature at a time through part of its range, in even ticks."""
    data, rows = at.victim.data, []
    while sum(len(r) for r in rows) < at.queries:
        x = at.source.draw(rng, 1).x[0].astype(np.float64)
        for feature in rng.choice(data.width, min(data.width, int(rng.integers(1, 4))), replace=False):
            ticks = int(rng.integers(6, 24))
            goal = rng.uniform(data.low[feature], data.high[feature])
            drag = np.repeat(x[None], ticks, 0)
            drag[:, feature] = np.linspace(x[feature], goal, ticks)
            x = drag[int(rng.integers(ticks))].copy()  # lets go where the user likes it
            rows.append(data.on_grid(drag))
    return trace(pace.human(rng, at.queries, at.begin, at.end), np.concatenate(rows)[: at.queries])


KINDS = (Kind("what_if_slider", _slider),)
