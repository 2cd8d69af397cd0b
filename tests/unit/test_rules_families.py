"""Families: a weighted mean of e-values, row by row."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.detectors import discover
from detector.families import FAMILIES, PARTS, SIGNALS, VETO, Family, Progress, combine, family_tests
from tests.unit.rules_support import column

PAIR = Family("pair", "a test", (("a.x", 3), ("b.y", 1)), (Progress("c.z", 1, 0),))
LOG_E = st.one_of(st.just(math.nan), st.floats(-250, 250, width=32))


@given(st.lists(st.tuples(LOG_E, LOG_E), min_size=1, max_size=20))
def test_evidence_is_the_log_of_the_weighted_mean_of_e_values(rows: list[tuple[float, float]]) -> None:
    signals = {"a.x": column([r[0] for r in rows]), "b.y": column([r[1] for r in rows])}
    got = combine(signals, (PAIR,))["pair.evidence"]
    for (x, y), value in zip(rows, got.tolist(), strict=True):
        if math.isnan(x) and math.isnan(y):
            assert math.isnan(value)
        else:
            mean = 0.75 * 10 ** (0 if math.isnan(x) else x) + 0.25 * 10 ** (0 if math.isnan(y) else y)
            np.testing.assert_allclose(value, math.log10(mean), rtol=1e-5, atol=1e-5)


@given(st.lists(st.tuples(LOG_E, LOG_E), min_size=1, max_size=40), st.data())
def test_a_row_does_not_depend_on_the_rows_beside_it(rows: list[tuple[float, float]], data: st.DataObject) -> None:
    signals = {"steering.chosen": column([r[0] for r in rows]), "novelty.made": column([r[1] for r in rows])}
    signals["trajectory.queries"] = np.abs(signals["novelty.made"]) * 100
    cut = data.draw(st.integers(0, len(rows)))
    parts = [combine({k: v[a:b] for k, v in signals.items()}) for a, b in ((0, cut), (cut, len(rows)))]
    for name, whole in combine(signals).items():
        assert np.concatenate([part[name] for part in parts]).tobytes() == whole.tobytes()


def test_a_silent_or_missing_test_counts_as_no_evidence() -> None:
    (both,) = combine({"a.x": column([6]), "b.y": column([math.nan])}, (PAIR,))["pair.evidence"]
    (one,) = combine({"a.x": column([6])}, (PAIR,))["pair.evidence"]
    assert both == one
    np.testing.assert_allclose(one, math.log10(0.75e6 + 0.25), rtol=1e-6)


def test_progress_runs_from_start_to_end_and_is_clipped() -> None:
    columns = combine({"c.z": column([1, 0.25, 0, -2, math.nan])}, (PAIR,))
    np.testing.assert_array_equal(columns["pair.progress"], column([0, 0.75, 1, 1, math.nan]))


def test_progress_can_be_read_on_a_log_scale() -> None:
    family = Family("pair", "a test", (("a.x", 1),), (Progress("q", 1, 10_000, log=True),))
    columns = combine({"q": column([0, 1, 100, 10_000, 1e6])}, (family,))
    np.testing.assert_allclose(columns["pair.progress"], [0, 0, 0.5, 1, 1], rtol=1e-6)


def test_of_several_measures_of_progress_the_one_that_got_farthest_counts() -> None:
    family = PAIR._replace(progress=(Progress("c.z", 0, 1), Progress("q", 2, 0.02, log=True)))
    columns = combine({"c.z": column([0.5, 0.5, math.nan]), "q": column([0.2, 0.002, 2])}, (family,))
    np.testing.assert_allclose(columns["pair.progress"], [0.5, 1, 0], rtol=1e-6)


def test_every_family_of_the_table_is_in_the_catalogue_and_speaks() -> None:
    columns = combine(
        {test: column([7]) for family in FAMILIES for test, _ in family.tests} | {PARTS: column([math.nan])}
    )
    assert {signal.name for signal in SIGNALS} == set(columns)
    assert columns[VETO] == 0  # where nothing is known, a rule that asks for little goes on
    for family in FAMILIES:
        np.testing.assert_allclose(columns[f"{family.name}.evidence"], 7, rtol=1e-6)
        assert family_tests(family.name) == tuple(test for test, _ in family.tests)


def test_every_test_and_measure_of_the_table_is_offered_by_a_detector() -> None:
    offered = {signal.name: signal for detector in discover() for signal in detector.signals}
    for family in FAMILIES:
        assert {test for test, _ in family.tests} | {p.signal for p in family.progress} <= set(offered)
        assert {offered[test].unit for test, _ in family.tests} == {"log10 e-value"}
