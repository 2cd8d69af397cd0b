"""The sketch is exact: whole numbers, the same in any company."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detector.events import F32, I16, I64, Ragged
from detector.sketch import (
    CLIP,
    DIMENSIONS,
    GATEWAY_STEP,
    GATEWAY_UNITS,
    UNITS,
    adopt,
    packed,
    project,
    robust_scale,
    sign_matrix,
)
from tests import twins

SEED = 7


def sketch(rows: F32, center: F32, scale: F32, chosen: I64 | None = None) -> I16:
    """Project rows [n, width] with the kernel."""
    n, width = rows.shape
    out = np.zeros((n, DIMENSIONS), np.int16)
    offsets = np.arange(n + 1, dtype=np.int64) * width
    named = np.arange(n) if chosen is None else chosen
    project(rows.ravel(), offsets, named, center, scale, sign_matrix(width, SEED), out)
    return out


def space(width: int, seed: int = 0) -> tuple[F32, F32]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=width).astype(np.float32), rng.uniform(50, 5000, width).astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 31, 32, 33, 64, 784, 1024, 1025, 2500])
def test_the_kernel_gives_the_whole_numbers_of_its_twin(width: int) -> None:
    rng = np.random.default_rng(width)
    rows = (rng.normal(size=(35, width)) * rng.choice([0.1, 1, 30], (35, 1))).astype(np.float32)
    rows[0], rows[1] = 1e30, -1e30  # every feature clipped: the greatest sums there are
    center, scale = space(width)
    truth = twins.project(rows, center, scale, sign_matrix(width, SEED))
    np.testing.assert_array_equal(sketch(rows, center, scale), truth)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_row_has_the_same_sketch_in_any_company(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from([3, 32, 33, 200, 1500]))
    n = data.draw(st.integers(1, 70))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = rng.normal(size=(n, width)).astype(np.float32)
    center, scale = space(width)
    together = sketch(rows, center, scale)
    cuts = sorted(data.draw(st.sets(st.integers(0, n), max_size=8)) | {0, n})
    parts = [sketch(rows[a:b], center, scale) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    chosen = np.flatnonzero(rng.random(n) < 0.5)
    some = sketch(rows, center, scale, chosen)
    np.testing.assert_array_equal(some[chosen], together[chosen])
    assert not np.delete(some, chosen, axis=0).any()


def test_few_features_stay_apart_and_the_rest_is_zero() -> None:
    rows = np.array([[1.0, -2.0, 1e9]], np.float32)
    out = sketch(rows, np.zeros(3, np.float32), np.full(3, UNITS, np.float32))
    assert out[0, :3].tolist() == [UNITS, -2 * UNITS, CLIP]
    assert not out[0, 3:].any()


def test_distances_survive_the_projection() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 784)).astype(np.float32)
    out = sketch(rows, np.zeros(784, np.float32), np.full(784, UNITS, np.float32)).astype(np.float64) / UNITS
    gaps = np.linalg.norm(out[:30] - out[30:], axis=1) / np.sqrt(DIMENSIONS)
    true = np.linalg.norm(rows[:30] - rows[30:], axis=1) / np.sqrt(784)
    assert 0.85 < np.mean(gaps / true) < 1.15


def test_signs_depend_on_width_and_seed_only() -> None:
    again = np.random.Generator(np.random.PCG64([SEED, 50])).integers(0, 2, (50, DIMENSIONS)) * 2 - 1
    np.testing.assert_array_equal(sign_matrix(50, SEED), again)
    assert (sign_matrix(50, SEED) != sign_matrix(50, SEED + 1)).any()


def test_a_gateway_sketch_is_taken_over_in_sketch_units() -> None:
    rows = Ragged(np.array([1, -128, 127, *range(40)], np.float32), np.array([0, 3, 43], np.int64))
    out = np.zeros((2, DIMENSIONS), np.int16)
    adopt(rows.values, rows.offsets, np.arange(2), out)
    assert out[0, :4].tolist() == [128, -16384, 16256, 0]
    assert out[1].tolist() == [128 * k for k in range(DIMENSIONS)]


@given(arrays(np.int16, (3, DIMENSIONS), elements=st.integers(-32767, 32767)))
def test_what_a_gateway_sends_is_off_by_half_a_step_at_most_and_clipped(given_rows: I16) -> None:
    sent = packed(given_rows)
    out = np.zeros((3, DIMENSIONS), np.int16)
    adopt(sent.astype(np.float32).ravel(), np.arange(4) * DIMENSIONS, np.arange(3), out)
    clipped = np.clip(given_rows.astype(float), -127 * GATEWAY_STEP, 127 * GATEWAY_STEP)
    assert np.abs(out * (GATEWAY_STEP / GATEWAY_UNITS) - clipped).max() <= GATEWAY_STEP / 2


def test_scale_withstands_a_tenth_of_outliers_and_features_that_never_vary() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(3, 2, (200, 4))
    rows[:, 3] = 5.0
    center, spread = robust_scale(rows)
    np.testing.assert_allclose(center[:3], 3, atol=0.5)
    np.testing.assert_allclose(spread[:3], 2, rtol=0.3)
    assert center[3] == 5
    assert spread[3] == pytest.approx(0.1 * np.sqrt(np.mean(np.append(spread[:3], 0) ** 2)))
    assert (robust_scale(np.ones((9, 2)))[1] == 1).all()
