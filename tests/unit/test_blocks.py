"""Blocks tell which features changed, at any width; how coarse the data are decides what that means."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detector.blocks import BLOCKS, RECENT, TWINS, block_state, coarseness, count, different, digest, distance, observe
from detector.events import F32, U8
from tests.twins_differences import blocks_of, most_alike

KEY = 77
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def blocks(rows: F32) -> U8:
    """Return the blocks of rows [n, width]."""
    n, width = rows.shape
    out = np.zeros((n, BLOCKS), np.uint8)
    digest(np.ascontiguousarray(rows).ravel(), np.arange(n + 1) * width, np.arange(n), KEY, out)
    return out


@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 200)), elements=FLOATS))
def test_blocks_are_what_whole_numbers_without_bounds_give(rows: F32) -> None:
    assert blocks(rows).tolist() == [blocks_of(row, KEY) for row in rows]


@pytest.mark.parametrize("width", [1, 30, 64, 65, 784, 3072])
def test_a_change_shows_in_its_own_block_and_nowhere_else(width: int) -> None:
    rng = np.random.default_rng(1)
    rows = np.repeat(rng.normal(size=(1, width)).astype(np.float32), width + 1, axis=0)
    rows[np.arange(width), np.arange(width)] += 1
    found = blocks(rows)
    places = [np.flatnonzero(row != found[-1]).tolist() for row in found[:-1]]
    wanted = [[b] for b in range(min(width, BLOCKS)) for _ in range(b * width // BLOCKS, (b + 1) * width // BLOCKS)]
    wanted = wanted if width > BLOCKS else [[b] for b in range(width)]
    overlooked = [place == [] for place in places]
    assert [place or right for place, right in zip(places, wanted, strict=True)] == wanted
    assert np.mean(overlooked) <= 0.05  # one in 256


def test_minus_zero_is_zero_and_a_key_of_its_own_gives_other_blocks() -> None:
    row = np.zeros((1, 5), np.float32)
    assert (blocks(-row) == blocks(row)).all()
    out = np.zeros((1, BLOCKS), np.uint8)
    digest(row.ravel(), np.array([0, 5]), np.array([0]), KEY + 1, out)
    assert (out != blocks(row)).sum() >= 4


@given(st.integers(0, 2**64 - 1))
def test_bits_are_counted(mask: int) -> None:
    assert count(np.uint64(mask)) == mask.bit_count()


@given(arrays(np.uint8, (2, BLOCKS), elements=st.integers(0, 2)))
def test_the_blocks_that_differ_are_named_and_counted(rows: U8) -> None:
    named = sum(1 << k for k in range(BLOCKS) if rows[0, k] != rows[1, k])
    assert int(different(rows, 0, rows, 1)) == named
    assert distance(rows, 0, rows, 1) == named.bit_count()


@pytest.mark.parametrize("values", [2, 40])
@pytest.mark.parametrize("recent", [1, 5, RECENT])
def test_the_most_alike_of_the_recent_inputs_is_found(values: int, recent: int) -> None:
    rng = np.random.default_rng(values)
    n = 300
    rows, slot = rng.integers(0, values, (n, BLOCKS)).astype(np.uint8), rng.integers(0, 3, n)
    rows[:, 8:] = 0  # few features: many are as alike
    whole = (rng.random(n) < 0.9).astype(np.uint8)
    out = observe(rows, whole, slot, np.full(n, recent), block_state(3))
    pasts: dict[int, list[U8]] = defaultdict(list)
    for i in range(n):
        past = pasts[int(slot[i])]
        age, changed = most_alike(past, rows[i], recent) if whole[i] else (0, frozenset())
        assert (out.apart[i], out.apart_age[i]) == (len(changed), age)
        assert int(out.changed[i]) == sum(1 << b for b in changed)
        past += [rows[i]] * int(whole[i])


def strangers(rows: F32) -> tuple[U8, np.ndarray]:
    return blocks(rows), np.arange(len(rows)).astype(np.uint64)


def test_rows_of_real_numbers_leave_the_windows_open() -> None:
    rng = np.random.default_rng(2)
    found = coarseness(*strangers(rng.normal(size=(256, 20)).astype(np.float32)), 20)
    assert found.alike == 10  # half of the features
    assert (found.recent, found.twins, found.twin_rate) == (RECENT, TWINS, 0)


@pytest.mark.parametrize(("values", "width"), [(3, 9), (2, 12), (5, 6), (2, 3)])
def test_on_coarse_data_chance_stays_within_what_is_promised(values: int, width: int) -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, values, (256, width)).astype(np.float32)
    found = coarseness(*strangers(rows), width)
    fresh = blocks(rng.integers(0, values, (4000, width)).astype(np.float32))
    derived = twinned = 0
    for i in range(600, len(fresh)):
        apart = (fresh[i - found.recent : i] != fresh[i]).sum(axis=1)
        derived += bool(((apart > 0) & (apart <= found.alike)).any())
        twinned += bool(((fresh[i - found.twins : i] != fresh[i]).sum(axis=1) == 1).any()) if found.twins else 0
    assert derived / 3400 <= 0.08
    assert twinned / 3400 <= 0.08
    assert found.recent < RECENT or found.alike == 0 or found.twins < TWINS


def test_a_clients_own_likeness_does_not_make_the_data_coarse() -> None:
    rng = np.random.default_rng(4)
    rows = np.repeat(rng.normal(size=(16, 8)), 16, axis=0).astype(np.float32)
    rows[np.arange(256), np.arange(256) % 8] += rng.normal(size=256).astype(np.float32)  # sliders
    owners = np.repeat(np.arange(16), 16).astype(np.uint64)
    assert coarseness(blocks(rows), owners, 8).twins == TWINS
    assert coarseness(blocks(rows), np.zeros(256, np.uint64), 8).twins < TWINS  # there are no others


def test_without_rows_nothing_is_promised() -> None:
    assert coarseness(np.zeros((0, BLOCKS), np.uint8), np.zeros(0, np.uint64), 5)[:4] == (0, 0, 0, 0)
    assert coarseness(np.zeros((20, BLOCKS), np.uint8), np.zeros(20, np.uint64), 5).alike == 0


@given(seed=st.integers(0, 2**32 - 1), owners=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_how_alike_benign_rows_are_is_counted_pair_by_pair(seed: int, owners: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.zeros((24, BLOCKS), np.uint8)
    rows[:, :6] = rng.integers(0, 2, (24, 6))
    whose = rng.integers(0, owners, 24).astype(np.uint64)
    strange = [(i, j) for i in range(24) for j in range(i) if whose[i] != whose[j]]
    pairs = strange if any((rows[i] != rows[j]).any() for i, j in strange) else list(combinations(range(24), 2))
    apart = [unlike for i, j in pairs if (unlike := rows[i] != rows[j]).any()]
    single = [int(unlike.argmax()) for unlike in apart if unlike.sum() == 1]
    found = coarseness(rows, whose, BLOCKS)
    assert found.twin_rate == pytest.approx(found.twins * len(single) / len(apart))
    again = sum(a == b for a, b in permutations(single, 2)) / max(len(single) * (len(single) - 1), 1)
    assert found.twin_repeat == pytest.approx(again if found.twins < TWINS else 0.0)
    alike = [sum(a == b for a, b in permutations(column, 2)) / (24 * 23) for column in rows.T.tolist()]
    np.testing.assert_allclose(found.same, alike)
