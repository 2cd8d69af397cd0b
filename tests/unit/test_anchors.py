"""Published detectors: each finds its own paper's attack, is quiet on independent data, and equals a slow twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from detector.events import EventBatch, Records
from detector.formats.native import decode
from detector.settings import LimitSettings
from replay.anchors import Range, by_client, catalogue
from replay.anchors.blacklight import Blacklight, Index, fingerprints, window_of
from replay.anchors.neighbours import K, Neighbours, scores
from replay.anchors.prada import Prada, suspicion
from replay.anchors.volume import CALLS, Volume

Rows = NDArray[np.float64]
IMAGE, TABLE = 196, 20
START = 1_763_251_200_000_000


def events(
    x: Sequence[Rows] | Rows, who: Sequence[int], *, gap_s: float = 1.0, labels: Sequence[int] | None = None
) -> EventBatch:
    """Return the events of clients `who` that send rows `x` one after the other."""
    lines = []
    for i, row in enumerate(x):
        moment = np.datetime64(START + int(i * gap_s * 1e6), "us")
        event = {
            "schema": "prediction_event/1",
            "event_time": f"{moment}Z",
            "client": {"id": f"client{who[i]}"},
            "model": {"name": "m", "version": "1"},
            "input": {"vector": np.asarray(row, np.float32).tolist()},
            "output": {"label": 0 if labels is None else labels[i]},
        }
        lines.append(orjson.dumps(event))
    records = Records("t", [0] * len(lines), range(len(lines)), lines)
    decoded = decode(records, limits=LimitSettings(), secret=b"t")
    assert not decoded.refused
    return decoded.batch


def alarms(
    make: Callable[..., Prada | Neighbours | Blacklight | Volume],
    batch: EventBatch,
    who: Sequence[int],
    benign: Sequence[int] = (),
    cut: int = 1000,
) -> list[int]:
    """Return the rows for which an anchor raises an alarm; `benign` clients are there to calibrate on."""
    pairs = max(who) + 1
    width = int(batch.input.offsets[1])
    anchor = make(pairs, {"m": Range(np.zeros(width, np.float32), np.ones(width, np.float32))})
    for start in range(0, len(batch), cut):
        part = batch.slice(start, min(start + cut, len(batch)))
        rows = np.arange(start, start + len(part))
        anchor.observe(part, np.array(who)[rows], rows)
    calm = np.isin(np.arange(pairs), benign)
    return [int(row) for row in anchor.judged(calm).alarms]


def walk(rng: Generator, n: int, width: int, step: float) -> Rows:
    """Return a search around one record: small steps, each from the last accepted point."""
    x = rng.uniform(0.2, 0.8, width)
    rows = []
    for _ in range(n):
        rows.append(x + step * rng.standard_normal(width))
        x = rows[-1] if rng.random() < 0.3 else x
    return np.asarray(np.clip(rows, 0, 1))


def augmentation(rng: Generator, n: int, width: int) -> Rows:
    """Return PRADA's attack, Jacobian-based augmentation: a few natural records, then ±λ copies of all before."""
    rows = list(rng.uniform(0.3, 0.7, (50, width)))
    while len(rows) < n:
        rows += [x + 0.1 * rng.choice([-1.0, 1.0], width) for x in rows]
    return np.asarray(np.clip(rows[:n], 0, 1))


def test_every_anchor_is_found_and_names_its_paper() -> None:
    assert [entry.name for entry in catalogue()] == ["blacklight", "neighbours", "prada", "volume"]
    assert all(entry.paper for entry in catalogue())


def test_prada_finds_jacobian_augmentation_and_is_quiet_on_independent_records() -> None:
    rng = np.random.default_rng(1)
    hostile, benign = augmentation(rng, 400, TABLE), rng.uniform(0.2, 0.8, (400, TABLE))
    assert alarms(Prada, events(hostile, [0] * 400), [0] * 400)
    assert alarms(Prada, events(benign, [0] * 400), [0] * 400) == []


def test_blacklight_finds_a_search_around_an_image_and_is_quiet_on_independent_images() -> None:
    rng = np.random.default_rng(2)
    hostile, benign = walk(rng, 60, IMAGE, 0.004), rng.uniform(0, 1, (300, IMAGE))
    assert alarms(Blacklight, events(hostile, [0] * 60), [0] * 60)[0] <= 10
    assert alarms(Blacklight, events(benign, [0] * 300), [0] * 300) == []


def test_blacklight_links_queries_of_different_clients() -> None:
    rng = np.random.default_rng(3)
    x = walk(rng, 40, IMAGE, 0.002)
    found = alarms(Blacklight, events(x, list(range(40))), list(range(40)))
    assert len(found) > 20


def test_neighbours_finds_a_search_around_a_record_and_keeps_to_its_benign_budget() -> None:
    rng = np.random.default_rng(4)
    benign, fresh, hostile = (rng.uniform(0, 1, (n, TABLE)) for n in (1500, 1500, 1))
    hostile = walk(rng, 200, TABLE, 0.01)
    x, who = [*benign, *fresh, *hostile], [0] * 1500 + [1] * 1500 + [2] * 200
    found = np.array(alarms(Neighbours, events(x, who), who, benign=[0]))
    assert (found < 1500).sum() <= 1  # what it was calibrated on: at most 0.1 %
    assert ((found >= 1500) & (found < 3000)).sum() <= 15
    assert found[found >= 3000][0] == 3000 + K  # at once, when there are 50 to compare with


def test_volume_fires_at_the_five_hundredth_call_within_an_hour_and_not_before() -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 1, (CALLS + 50, 4))
    assert alarms(Volume, events(x, [0] * len(x), gap_s=7.2), [0] * len(x)) == list(range(CALLS - 1, len(x)))
    assert alarms(Volume, events(x, [0] * len(x), gap_s=7.3), [0] * len(x)) == []
    two = [i % 2 for i in range(len(x))]  # two clients share the calls
    assert alarms(Volume, events(x, two, gap_s=1.0), two) == []


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: str(entry.name))
@pytest.mark.parametrize("cut", [1, 7, 333])
def test_alarms_do_not_depend_on_where_batches_are_cut(entry: object, cut: int) -> None:
    rng = np.random.default_rng(6)
    hostile, benign = walk(rng, 700, TABLE, 0.01), rng.uniform(0, 1, (200, TABLE))
    who = [1] * 700 + [0] * 200
    order = rng.permutation(900)
    who = [who[i] for i in order]
    x = np.concatenate([hostile, benign])[np.argsort(np.argsort(who, kind="stable"))]
    batch = events(x, who, labels=[int(v) for v in rng.integers(0, 2, 900)])
    make = entry.make  # type: ignore[attr-defined]
    whole = alarms(make, batch, who, benign=[0])
    assert whole
    assert alarms(make, batch, who, benign=[0], cut=cut) == whole


def slow_prada(x: Rows, labels: Sequence[int]) -> list[float]:
    """Algorithm 3 of the paper as written: the distances D of one client."""
    sets: dict[int, list[Rows]] = {}
    gaps: dict[int, list[float]] = {}
    threshold: dict[int, float] = {}
    every = []
    for row, c in zip(x, labels, strict=True):
        if c not in sets:
            sets[c], gaps[c], threshold[c] = [row], [0.0], 0.0
            continue
        nearest = min(float(np.linalg.norm(row - y)) for y in sets[c])
        every.append(nearest)
        if nearest > threshold[c]:
            sets[c].append(row)
            gaps[c].append(nearest)
            threshold[c] = max(threshold[c], float(np.mean(gaps[c]) - np.std(gaps[c])))
    return every


def test_prada_keeps_the_distances_of_the_papers_algorithm() -> None:
    rng = np.random.default_rng(7)
    x = np.concatenate([walk(rng, 80, 6, 0.05), rng.uniform(0, 1, (80, 6))]).astype(np.float32)
    labels = [int(v) for v in rng.integers(0, 3, 160)]
    anchor = Prada(1, {"m": Range(np.zeros(6, np.float32), np.ones(6, np.float32))})
    anchor.observe(events(list(x), [0] * 160, labels=labels), np.zeros(160, np.int64), np.arange(160))
    np.testing.assert_allclose(anchor._clients[0].distances, slow_prada(x.astype(np.float64), labels), atol=1e-6)


def test_pradas_test_is_shapiro_wilk_beyond_a_hundred_distances() -> None:
    rng = np.random.default_rng(8)
    skewed = rng.exponential(1.0, 300) ** 3
    kept = skewed[np.abs(skewed - skewed.mean()) <= 3 * skewed.std()]
    assert stats.shapiro(kept).statistic < 0.9
    assert suspicion(skewed) > 1
    assert suspicion(skewed[:100]) == 0
    assert 0 < suspicion(rng.normal(5, 1, 300)) < 1
    assert suspicion(np.zeros(300)) == 0


@given(st.integers(K + 1, K + 40), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_neighbour_scores_are_means_of_the_fifty_smallest_distances(n: int, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(0, 1, (n, 3)).astype(np.float32)
    wide = x.astype(np.float64)
    slow = [np.sort(np.linalg.norm(wide[:i] - wide[i], axis=1))[:K].mean() for i in range(K, n)]
    np.testing.assert_allclose(scores(x, K), slow, atol=1e-9)


@given(st.lists(st.frozensets(st.integers(1, 30), min_size=1, max_size=60), max_size=30), st.integers(1, 5))
@settings(deadline=None)  # the first call compiles
def test_the_fingerprint_index_equals_a_comparison_with_every_earlier_query(
    prints: list[frozenset[int]], cut: int
) -> None:
    index = Index()
    padded = np.array([sorted(own) + [0] * (60 - len(own)) for own in prints], np.uint64).reshape(-1, 60)
    found = [
        bool(hit) for start in range(0, len(prints), cut) for hit in index.shared(padded[start : start + cut]) >= 1
    ]
    slow = [any(len(own & other) >= min(25, -(-len(own) // 2)) for other in prints[:i]) for i, own in enumerate(prints)]
    assert found == slow


def test_the_fingerprint_index_grows() -> None:
    rng = np.random.default_rng(10)
    prints = rng.integers(1, 2**63, (3000, 50), dtype=np.uint64)
    index = Index()
    assert not any((index.shared(prints[i : i + 100]) >= 1).any() for i in range(0, 3000, 100))
    assert (index.shared(prints[::-1]) >= 1).all()


def test_fingerprints_are_fifty_hashes_of_windows_and_equal_inputs_have_equal_ones() -> None:
    x = np.random.default_rng(9).uniform(0, 1, (3, IMAGE)).astype(np.float32)
    x[2] = x[0]
    first, second, third = fingerprints(x).tolist()
    assert len(set(first)) == 50
    assert first == third
    assert not set(first) & set(second)
    blank = fingerprints(np.zeros((1, IMAGE), np.float32))[0]
    assert np.count_nonzero(blank) == 1


@pytest.mark.parametrize(("width", "window"), [(3072, 50), (784, 20), (64, 20), (30, 15), (4, 2), (1, 1)])
def test_windows_fit_the_input(width: int, window: int) -> None:
    assert window_of(width) == window
    assert fingerprints(np.zeros((1, width), np.float32))[0, 0] > 0


@given(st.lists(st.integers(0, 4), max_size=40))
def test_by_client_gives_every_position_once_and_in_order(pairs: list[int]) -> None:
    found = list(by_client(np.array(pairs, np.int64)))
    assert sorted(i for _, at in found for i in at.tolist()) == list(range(len(pairs)))
    assert all(pairs[i] == who for who, at in found for i in at.tolist())
    assert all((np.diff(at) > 0).all() for _, at in found)
