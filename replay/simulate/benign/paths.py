"""Inputs that follow one another smoothly: sensors, video frames, sliders."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy.signal import lfilter

from detector.events import F32, F64
from replay.simulate import pace
from replay.simulate.benign.protocol import Kind, Setting, Trace, trace
from replay.simulate.records import Motion


def _slider(rng: Generator, at: Setting) -> Trace:
    """A user opens a record and drags one feature at a time through part of its range, in even ticks."""
    return trace(pace.human(rng, at.queries, at.begin, at.end), drags(rng, at, at.queries))


def drags(rng: Generator, at: Setting, n: int) -> F32:
    """Return n ticks of sliders."""
    data = at.victim.data
    rows: list[F32] = []
    while sum(map(len, rows)) < n:
        x = at.source.draw(rng, 1).x[0].astype(np.float64)
        for feature in rng.choice(data.width, min(data.width, int(rng.integers(1, 4))), replace=False).tolist():
            ticks = int(rng.integers(6, 24))
            goal = rng.uniform(data.low[feature], data.high[feature])
            drag = np.repeat(x[None], ticks, 0)
            drag[:, feature] = np.linspace(x[feature], goal, ticks)
            x = drag[int(rng.integers(ticks))].copy()  # lets go where the user likes it
            rows.append(data.on_grid(drag))
    return np.concatenate(rows)[:n]


def _sensor(rng: Generator, at: Setting) -> Trace:
    """Readings at a fixed period: the state glides from one record to the next, the instrument adds coloured noise."""
    return trace(pace.steady(rng, at.queries, at.begin, at.end), glide(rng, at, at.queries))


def glide(rng: Generator, at: Setting, n: int) -> F32:
    """Return n readings along a smooth path through genuine records."""
    stay = int(rng.integers(15, 90))  # readings from one record to the next
    knots = at.source.draw(rng, n // stay + 2).x.astype(np.float64)
    place = np.arange(n) / stay
    left, share = place.astype(np.int64), (place % 1)[:, None]
    eased = share * share * (3 - 2 * share)
    path = knots[left] + eased * (knots[left + 1] - knots[left])
    path = np.where(at.victim.data.category, knots[left], path)
    noise = lfilter([1.0], [1.0, -0.9], rng.standard_normal((n, path.shape[1])), axis=0)
    span = at.victim.data.high - at.victim.data.low
    return at.victim.data.on_grid(path + np.where(at.victim.data.category, 0, 0.003 * span * noise))


def _video(rng: Generator, at: Setting) -> Trace:
    """Frames of scenes: one image that slowly turns, grows, drifts and bends, at several frames a second."""
    parents, motions = [], []
    total = 0
    while total < at.queries:
        n = min(int(rng.integers(30, 150)), at.queries - total)
        parents.append(np.full(n, rng.integers(0, len(at.source.originals.y))))
        motions.append(_smooth_motion(rng, n, at.source.side))
        total += n
    motion = Motion(*(np.concatenate(columns) for columns in zip(*motions, strict=True)))
    x = at.source.moved(np.concatenate(parents), motion)
    begin = float(rng.uniform(at.begin, at.begin + 0.5 * (at.end - at.begin)))
    return trace(pace.fit_between(begin + 0.2 * np.arange(at.queries, dtype=np.float64), begin, at.end), x)


def _smooth_motion(rng: Generator, n: int, side: int) -> Motion:
    unit = side / 32
    return Motion(
        _wander(rng, (n,), 0.10),
        1 + _wander(rng, (n,), 0.06),
        _wander(rng, (n, 2), 0.9 * unit),
        _wander(rng, (n, 2, 4, 4), 0.5 * unit),
    )


def _wander(rng: Generator, shape: tuple[int, ...], sd: float) -> F64:
    """Return a path [n, …] that changes slowly: noise through two slow filters, of about the given spread."""
    slow = lfilter([0.06], [1.0, -0.94], lfilter([1.0], [1.0, -0.8], rng.standard_normal(shape), axis=0), axis=0)
    return np.asarray(sd * (slow * 2.0 + rng.standard_normal(shape[1:])))


KINDS = (
    Kind("what_if_slider", _slider),
    Kind("sensor", _sensor, suits=lambda data: data.shape is None),
    Kind("video_frames", _video, suits=lambda data: data.shape is not None),
)
