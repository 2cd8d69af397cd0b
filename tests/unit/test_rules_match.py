"""Matching: conditions on columns, NaN, models, exceptions, severity."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.conditions import Condition, Every, Some, Threshold, evaluate
from detector.registry import Registry
from detector.rules_match import Matcher
from detector.rules_yaml import Source
from tests.unit.rules_support import CATALOGUE, RULE, batch_of, column, edited, renamed, ruleset_of

VALUES = st.one_of(st.just(math.nan), st.integers(-3, 3).map(float))
LEAF = st.builds(
    Threshold, st.sampled_from(["a", "b"]), st.sampled_from([">=", ">", "<=", "<"]), st.integers(-3, 3).map(float)
)
TREE: st.SearchStrategy[Condition] = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        .map(tuple)
        .flatmap(lambda parts: st.sampled_from([Every(parts), Some(parts)]))
    ),
    max_leaves=8,
)


def naive(condition: Condition, row: dict[str, float]) -> bool:
    """One row at a time, in plain Python."""
    if isinstance(condition, Threshold):
        x, v = row[condition.signal], condition.value
        return {">=": x >= v, ">": x > v, "<=": x <= v, "<": x < v}[condition.op]
    results = [naive(part, row) for part in condition.parts]
    return all(results) if isinstance(condition, Every) else any(results)


@given(TREE, st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12))
def test_columns_give_what_one_row_at_a_time_gives(condition: Condition, rows: list[tuple[float, float]]) -> None:
    columns = {"a": column([r[0] for r in rows]), "b": column([r[1] for r in rows])}
    expected = [naive(condition, {"a": a, "b": b}) for a, b in rows]
    assert evaluate(condition, columns, len(rows)).tolist() == expected


def test_a_silent_signal_meets_nothing_not_even_a_negated_condition() -> None:
    from detector.conditions import read_condition  # noqa: PLC0415

    source = Source("x", "not: {signal: inversion.evidence, op: '>=', value: 3}")
    condition = read_condition(source, (), source.data, CATALOGUE)
    columns = {"inversion.evidence": column([math.nan, 2, 3])}
    assert evaluate(condition, columns, 3).tolist() == [False, True, False]


def test_a_signal_that_nobody_offers_meets_nothing() -> None:
    assert evaluate(Threshold("gone.signal", ">=", 0), {}, 2).tolist() == [False, False]


def signals_of(evidence: list[float], progress: float = 0.0) -> dict[str, np.ndarray]:
    n = len(evidence)
    return {
        "inversion.evidence": column(evidence),
        "inversion.progress": column([progress] * n),
        "trajectory.queries": column([30] * n),
    }


def test_the_highest_rung_of_the_ladder_counts(tmp_path: Path) -> None:
    matcher = Matcher(ruleset_of(tmp_path, RULE), Registry())
    (low,) = matcher.matches(batch_of([0, 1, 2, 3]), signals_of([2, 3, 6, math.nan]))
    assert (low.rows.tolist(), low.level.tolist()) == ([1, 2], [2, 3])
    (high,) = matcher.matches(batch_of([0, 1]), signals_of([3, 3], progress=0.9))
    assert high.level.tolist() == [4, 4]


def test_nobody_named_counts_one_step_less_but_at_least_low(tmp_path: Path) -> None:
    rules = RULE, renamed(2, edited("severity: medium", "severity: low"))
    batch = batch_of([0, 1], client=["unknown", "key-1"])
    found = {
        match.rule: match.level.tolist()
        for match in Matcher(ruleset_of(tmp_path, *rules), Registry()).matches(batch, signals_of([3, 3]))
    }
    assert found == {0: [1, 2], 1: [1, 1]}


def test_models_are_taken_in_and_left_out_by_glob(tmp_path: Path) -> None:
    text = edited("severity: medium", 'severity: medium\nmodels: {include: ["fraud-*"], exclude: ["*-sandbox"]}')
    batch = batch_of([0, 1, 2], model=["fraud-2", "fraud-sandbox", "score"])
    (found,) = Matcher(ruleset_of(tmp_path, text), Registry()).matches(batch, signals_of([4, 4, 4]))
    assert found.rows.tolist() == [0]


def test_exceptions_hold_for_ids_and_globs_until_their_day_ends_and_are_counted(tmp_path: Path) -> None:
    text = (
        RULE
        + "exceptions:\n  - {id: qa, client: [key-qa, 'ci-*'], reason: nightly, owner: mlops, expires: 2026-12-31}\n"
    )
    matcher = Matcher(ruleset_of(tmp_path, text), Registry())
    last = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 - 1
    clients = ["key-qa", "ci-7", "key-1", "key-qa", "key-qa2"]
    batch = batch_of([last, last, last, last + 1, last], client=clients)
    (found,) = matcher.matches(batch, signals_of([4] * 5))
    assert found.rows.tolist() == [2, 3, 4]
    assert matcher.excepted == {("ascent", "qa"): 2}


def test_a_rule_that_is_off_is_not_evaluated(tmp_path: Path) -> None:
    matcher = Matcher(ruleset_of(tmp_path, edited("stage: alert", '"stage": off')), Registry())
    assert list(matcher.matches(batch_of([0]), signals_of([99]))) == []
