"""Changed copies of records: augmentation at test time, noisy instruments, drift."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from detector.events import F32
from replay.simulate import pace
from replay.simulate.benign.protocol import Kind, Setting, Trace, trace


def _augmentation(rng: Generator, at: Setting) -> Trace:
    """Test-time augmentation: each record with a few harmless variants, in one go, to average the answers."""
    variants, data = int(rng.integers(3, 9)), at.victim.data
    records = max(1, at.queries // variants)
    parents = rng.integers(0, len(at.source.originals.y), records)
    base = at.source.near(rng, parents).x
    rows = np.repeat(base, variants, 0)
    first = np.arange(len(rows)) % variants == 0
    if data.shape is None:
        jitter = 0.01 * (data.high - data.low) * rng.standard_normal(rows.shape)
        rows = np.where(first[:, None] | data.category, rows, data.on_grid(rows + jitter))
    else:
        rows = np.where(first[:, None], rows, _shifted(rng, rows, data.shape))
    starts = pace.machine(rng, records, at.begin, at.end)
    times = np.repeat(starts, variants) + 0.01 * (np.arange(len(rows)) % variants)
    order = np.argsort(times, kind="stable")
    return trace(times[order], rows[order])


def _shifted(rng: Generator, rows: F32, shape: tuple[int, int]) -> F32:
    """Return images moved by at most one pixel (of 8) each way, or mirrored."""
    images = rows.reshape(-1, *shape).copy()
    reach = max(1, shape[0] // 10)
    moves = rng.integers(-reach, reach + 1, (len(images), 2)).tolist()
    for i, (down, right) in enumerate(moves):
        images[i] = np.roll(images[i], (down, right), (0, 1)) if down or right else images[i][:, ::-1]
    return images.reshape(rows.shape)


def _noise(rng: Generator, at: Setting) -> Trace:
    """A bad instrument: new records with white noise of three to eight per cent of the range."""
    data = at.victim.data
    x = at.source.draw(rng, at.queries).x
    sd = rng.uniform(0.03, 0.08) * (data.high - data.low)
    noisy = data.on_grid(x + sd * rng.standard_normal(x.shape))
    return trace(pace.machine(rng, at.queries, at.begin, at.end), np.where(data.category, x, noisy))


def _drift(rng: Generator, at: Setting) -> Trace:
    """The world changes: an offset grows to a quarter of the range in some features; images grow darker or brighter."""
    data = at.victim.data
    x = at.source.draw(rng, at.queries).x.astype(np.float64)
    times = pace.machine(rng, at.queries, at.begin, at.end)
    share = (np.arange(at.queries) / max(1, at.queries - 1))[:, None]
    if data.shape is not None:
        moved = x * (1 + rng.choice([-0.5, 0.5]) * share)
    else:
        some = rng.random(data.width) < 0.4
        moved = x + share * some * rng.uniform(-0.25, 0.25, data.width) * (data.high - data.low)
    return trace(times, np.where(data.category, x, data.on_grid(moved)))


KINDS = (
    Kind("augmentation", _augmentation),
    Kind("noise", _noise),
    Kind("drift", _drift),
)
