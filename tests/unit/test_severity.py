"""Severity = strength × progress × what the model protects, through the shipped rules."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.alerts import SEVERITIES
from detector.conditions import thresholds
from detector.families import FAMILIES
from detector.registry import SEVERITY, Entry, Registry
from detector.rules import Ruleset, catalogue, default_folder, load_rules
from detector.rules_match import Matcher
from detector.triage import Triage
from tests.unit.rules_support import RULE, batch_of, column, ruleset_of

ALWAYS_LOW = {"volume", "explainer"}
E_VALUES = st.sampled_from([0.0, 2.0, 3.0, 4.0, 5.9, 6.0, 12.0, 80.0])
SHARES = st.sampled_from([0.0, 0.3, 0.5, 0.85, 0.9, 0.95, 1.0])
RANKS = st.integers(0, 3)


@cache
def shipped() -> Ruleset:
    return load_rules(default_folder(), catalogue())


def registry(rank: int) -> Registry:
    return Registry((Entry("*", sensitivity=SEVERITIES[rank]),))  # type: ignore[arg-type]


def levels(signals: dict[str, float], rank: int) -> dict[str, int]:
    """Return the severity of every shipped rule that one event with these signals meets."""
    columns = {name: column([value]) for name, value in signals.items()}
    found = Matcher(shipped(), registry(rank)).matches(batch_of([0]), columns)
    return {shipped().active[match.rule].id: int(match.level[0]) for match in found}


def everything(draw: st.DataObject, evidence: float, progress: float) -> dict[str, float]:
    """Return a value for every signal that a rule asks: families as given, the raw measures drawn."""
    asked = {t.signal for rule in shipped().active for s in (rule.when, *(e.when for e in rule.escalate))
             for t in thresholds(s)}  # fmt: skip
    signals = {name: draw.draw(st.sampled_from([-1.0, 0.0, 0.5, 0.96, 4.0, 600.0]), name) for name in sorted(asked)}
    for family in FAMILIES:
        signals |= {f"{family.name}.evidence": evidence, f"{family.name}.progress": progress}
    return signals


@settings(deadline=None)  # the first example loads the rules
@given(st.data(), E_VALUES, E_VALUES, SHARES, SHARES, RANKS, RANKS)
def test_more_evidence_progress_or_sensitivity_never_lowers_the_severity(
    draw: st.DataObject, e: float, more_e: float, p: float, more_p: float, rank: int, more_rank: int
) -> None:
    signals = everything(draw, e, p)
    before = levels(signals, rank)
    for family in FAMILIES:
        signals[f"{family.name}.evidence"] = max(e, more_e)
        signals[f"{family.name}.progress"] = max(p, more_p)
    after = levels(signals, max(rank, more_rank))
    for rule, level in before.items():
        assert after[rule] >= level, rule


@settings(deadline=None)  # the first example loads the rules
@given(st.data(), E_VALUES, SHARES, RANKS)
def test_volume_and_explainers_stay_low_whatever_the_model_protects(
    draw: st.DataObject, e: float, p: float, rank: int
) -> None:
    families = {rule.id: rule.family for rule in shipped().active}
    for rule, level in levels(everything(draw, e, p), rank).items():
        assert families[rule] not in ALWAYS_LOW or level == 1


def test_severity_moves_one_step_at_most_and_low_stays_low() -> None:
    steps = SEVERITY.astype(int) - np.arange(1, 5)[:, None]
    assert np.abs(steps).max() == 1
    assert (np.diff(SEVERITY, axis=0) >= 0).all()
    assert (np.diff(SEVERITY.astype(int), axis=1) >= 0).all()
    assert SEVERITY[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("sensitivity", "first", "last"), [("low", 1, 3), ("medium", 2, 4), ("critical", 3, 4)])
def test_an_episode_escalates_when_only_its_progress_rises(
    tmp_path: Path, sensitivity: str, first: int, last: int
) -> None:
    triage = Triage(ruleset_of(tmp_path, RULE), Registry((Entry("*", sensitivity=sensitivity),)))  # type: ignore[arg-type]
    signals = {
        "inversion.evidence": column([4, 4, 4]),
        "inversion.progress": column([0.1, 0.5, 0.95]),
        "trajectory.queries": column([30, 31, 32]),
    }
    found = triage.observe(batch_of([0, 1, 2]), np.zeros(3, np.int64), signals, triage.state(1))
    assert [(e.row, e.level, e.escalated) for e in found] == [(0, first, False), (2, last, True)]


def test_a_caller_without_a_name_counts_one_step_less_on_every_model(tmp_path: Path) -> None:
    signals = {"inversion.evidence": column([6]), "trajectory.queries": column([30])}
    for rank in range(4):
        (named,), (nobody,) = (
            Matcher(ruleset_of(tmp_path, RULE), registry(rank)).matches(batch_of([0], [client]), signals)
            for client in ("key-1", "unknown")
        )
        assert nobody.level[0] == SEVERITY[1, rank] <= named.level[0] == SEVERITY[2, rank]
