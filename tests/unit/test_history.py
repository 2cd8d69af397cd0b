"""The geometry of a query against its client's past equals what a list of all queries gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator

from detector.baseline import Baselines
from detector.detectors import References
from detector.events import I16
from detector.history import Geometry, history_state, observe
from detector.sketch import DIMENSIONS
from tests import streams
from tests.twins import Past, geometry

EXACT = (
    "queries", "since_us", "fresh", "path", "tight_joined", "run", "number", "founder", "record", "age",
    "span",
)  # fmt: skip
NUMBERS = ("step", "cosine", "near", "joined", "origin", "thread", "tight")
R0, RADII = 100.0, (40.0, 70.0, 120.0)


def references() -> References:
    scales = Baselines(1, 0).scales
    scales.r0[0] = R0
    scales.q05[0], scales.q20[0], scales.q50[0] = RADII
    return scales


def both(sketch: I16, slot: list[int], seed: int = 0) -> tuple[Geometry, dict[str, list[float]]]:
    """Return what kernel and twin say of rows of sketches; some cannot be used, some have no digest."""
    rng = np.random.default_rng(seed)
    n = len(sketch)
    usable = (rng.random(n) < 0.95).astype(np.uint8)
    digest = np.array([streams.key_of(row.tobytes().hex()) for row in sketch], np.uint64)
    digest[(usable == 0) & (rng.random(n) < 0.5)] = 0
    time_us = np.arange(n, dtype=np.int64) * 1000
    slots = np.array(slot, np.int64)
    fast = observe(sketch, usable, digest, time_us, slots, np.zeros(n, np.int32), references(), history_state(8))
    pasts: dict[int, Past] = defaultdict(Past)
    rows = [
        geometry(pasts[slot[i]], sketch[i], bool(usable[i]), int(digest[i]), int(time_us[i]), R0, RADII)
        for i in range(n)
    ]
    return fast, {name: [row[name] for row in rows] for name in (*EXACT, *NUMBERS)}


def assert_equal(fast: Geometry, slow: dict[str, list[float]]) -> None:
    for name in EXACT:
        np.testing.assert_array_equal(getattr(fast, name), slow[name], err_msg=name)
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(fast, name), slow[name], rtol=1e-4, atol=1e-5, err_msg=name)


def spread(rng: Generator, n: int) -> I16:
    """Far apart from each other."""
    return rng.integers(-3000, 3000, (n, DIMENSIONS)).astype(np.int16)


def cloud(rng: Generator, n: int) -> I16:
    """All within one thread."""
    return rng.integers(-15, 15, (n, DIMENSIONS)).astype(np.int16)


def tight(rng: Generator, n: int) -> I16:
    """All within one tight thread, and many exact repeats."""
    out = np.zeros((n, DIMENSIONS), np.int16)
    out[:, :4] = rng.integers(-4, 5, (n, 4))
    return out


def lattice(rng: Generator, n: int) -> I16:
    """Few features with few values: ties of distance, repeats, one-feature differences."""
    out = np.zeros((n, DIMENSIONS), np.int16)
    out[:, :5] = rng.integers(0, 3, (n, 5)) * 40
    return out


def returning(rng: Generator, n: int) -> I16:
    """Close to the query before the last 255: the oldest that is still remembered."""
    base = rng.integers(-3000, 3000, (256, DIMENSIONS)).astype(np.int16)
    out = base[np.arange(n) % 256]
    out[:, 0] += (np.arange(n) // 256).astype(np.int16) * 7
    return out


def line(rng: Generator, n: int) -> I16:
    """Small equal steps along a line, forth and back."""
    where = np.abs(np.arange(n) % 120 - 60)[:, None]
    return np.asarray(where * rng.integers(-9, 10, DIMENSIONS) * 0.5 + np.arange(n)[:, None] % 7, np.int16)


def constant(rng: Generator, n: int) -> I16:
    """One input for ever."""
    del rng
    return np.full((n, DIMENSIONS), 5, np.int16)


@pytest.mark.parametrize("habit", [spread, cloud, tight, lattice, returning, line, constant])
def test_all_columns_equal_the_twin_beyond_the_wrap_of_the_rings(
    habit: Callable[[Generator, int], I16],
) -> None:
    assert_equal(*both(habit(np.random.default_rng(4), 600), [0] * 600))


@pytest.mark.parametrize("seed", range(4))
def test_clients_interleaved_with_changing_habits_equal_the_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    habits = rng.permutation(np.array([spread, cloud, tight, lattice, line], object))
    parts = np.stack([np.concatenate([habits[(k + j) % 5](rng, 60) for j in range(3)]) for k in range(4)])
    order = np.repeat(np.arange(4), 180)
    rng.shuffle(order)
    taken = [0] * 4
    rows = []
    for k in order.tolist():
        rows.append(parts[k, taken[k]])
        taken[k] += 1
    assert_equal(*both(np.array(rows, np.int16), order.tolist(), seed))


def test_the_first_queries_of_a_client_have_no_geometry_yet() -> None:
    fast, _ = both(spread(np.random.default_rng(1), 3), [0, 0, 0])
    assert fast.fresh.all()
    assert np.isnan(fast.step).tolist() == [True, False, False]
    assert np.isnan(fast.cosine).tolist() == [True, True, False]


def test_dummies_in_between_do_not_break_a_thread() -> None:
    rng = np.random.default_rng(5)
    rows = spread(rng, 60)
    center = rows[0].copy()
    rows[::3] = center + rng.integers(-5, 6, (20, DIMENSIONS))
    digest = np.array([streams.key_of(str(k)) for k in range(60)], np.uint64)
    fast = observe(
        rows, np.ones(60, np.uint8), digest, np.arange(60), np.zeros(60, np.int64),
        np.zeros(60, np.int32), references(), history_state(1),
    )  # fmt: skip
    joined = np.flatnonzero(~np.isnan(fast.thread))
    assert joined.tolist() == list(range(6, 60, 3))
    inside = rows[::3].astype(float)
    first, second = inside[-2] - inside[-3], inside[-1] - inside[-2]
    assert fast.thread[57] == pytest.approx(first @ second / np.linalg.norm(first) / np.linalg.norm(second), rel=1e-4)
