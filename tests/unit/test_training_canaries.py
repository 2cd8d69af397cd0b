"""Canaries look like records, are none, and nobody meets one by chance."""

from __future__ import annotations

import numpy as np
import pytest

from detector.events import F32, ModelRef
from detector.training.canaries import CanaryError, invent, register
from detector.training.index import ABSENT, TrainingIndex
from tests import pipelines

REF = ModelRef("m", "")


def records(n: int = 600, seed: int = 1) -> F32:
    """Return records in five numbers that hang together, in steps of a hundredth."""
    mixing = np.random.default_rng(9).normal(size=(3, 5))
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, 3)) @ mixing + 0.3 * rng.normal(size=(n, 5)), 2)
    return np.asarray(x, np.float32)


@pytest.fixture(scope="module")
def index() -> TrainingIndex:
    return pipelines.index_of(list(records()), REF)


def test_a_canary_is_new_and_each_of_its_numbers_is_not(index: TrainingIndex) -> None:
    x, made = records(), invent(records(), index, 50)
    assert made.shape == (50, 5)
    assert (index.look_up_records(made)[0].trained == ABSENT).all()
    for j in range(5):
        assert set(made[:, j].tolist()) <= set(x[:, j].tolist())


def test_canaries_keep_the_shape_of_the_data(index: TrainingIndex) -> None:
    x, made = records(), invent(records(), index, 200)
    np.testing.assert_allclose(np.corrcoef(made.T), np.corrcoef(x.T), atol=0.2)


def test_the_same_key_makes_the_same_canaries_and_the_next_ones_are_others(index: TrainingIndex) -> None:
    first = invent(records(), index, 10)
    np.testing.assert_array_equal(first, invent(records(), index, 10))
    more = invent(records(), register(first, index, "now"), 10)
    assert not set(map(bytes, more)) & set(map(bytes, first))


def test_registered_canaries_are_known_by_their_numbers_with_their_rounded_copies(index: TrainingIndex) -> None:
    first = invent(records(), index, 10)
    once = register(first, index, "2026")
    more = invent(records(), once, 5)
    twice = register(more, once, "2027")
    assert twice.header.canaries == ((10, "2026"), (5, "2027"))
    asked = np.concatenate([first, more])
    np.testing.assert_array_equal(twice.look_up_records(asked)[0].canary, np.arange(1, 16))
    almost = (asked * np.float32(1 + 1e-4)).astype(np.float32)
    np.testing.assert_array_equal(twice.look_up_records(almost)[0].canary, np.arange(1, 16))
    assert twice.fingerprint != once.fingerprint != index.fingerprint


def test_strangers_and_training_records_are_no_canaries(index: TrainingIndex) -> None:
    known = register(invent(records(), index, 50), index, "now")
    assert not (known.look_up_records(records())[0].canary > 0).any()
    strangers = records(100_000, seed=2)
    assert (known.look_up_records(strangers)[0].canary > 0).mean() <= 1e-4


def test_an_index_without_canaries_says_so(index: TrainingIndex) -> None:
    assert (index.look_up_records(records())[0].canary == -1).all()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((30, 5), np.float32), "all the same"),
        (records()[:1], "at least two records"),
        (np.floor(records() / 3), "too coarse"),
    ],
)
def test_records_that_make_no_canaries_are_refused(x: F32, message: str, index: TrainingIndex) -> None:
    coarse = pipelines.index_of(list(x), REF) if "coarse" in message else index
    with pytest.raises(CanaryError, match=message):
        invent(x, coarse, 5)
