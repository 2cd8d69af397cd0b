"""From an emission to the alert: numbers, evidence, reason, risk."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.alerts import Alert, Engine, document
from detector.families import combine
from detector.registry import Entry
from detector.rules import verdict
from detector.triage import Context, Triage, build_alert, risk
from tests.unit.rules_support import RULE, batch_of, column, ruleset_of

START = 1_700_000_000_000_000
PARTS = st.floats(0, 1)
RANKS = st.integers(0, 3)


def alerts_of(folder: Path, text: str = RULE, client: str = "key-1") -> list[Alert]:
    """A short stream: quiet, raised on the second event, escalated on the fourth."""
    ruleset = ruleset_of(folder, text)
    climb = [0.0, 5.0, 5.0, 9.0]
    signals = {
        "steering.chosen": column(climb),
        "recency.nearest": column([math.nan, 1.0, 1.0, 1.0]),
        "steering.progress": column([0.1, 0.2, 0.3, 0.95]),
        "steering.target": column([3.0] * 4),
        "trajectory.queries": column([10, 11, 12, 13]),
    }
    signals |= combine(signals)
    batch = batch_of([START + i for i in range(4)], client=[client] * 4, start=100)
    triage = Triage(ruleset)
    found = triage.observe(batch, np.zeros(4, np.int64), signals, triage.state(1))
    entry = Entry("scorer", sensitivity="medium", output="scores", owner="risk")
    context = Context(START - 5, "first rows", "3", entry, quantiles={"inversion.evidence": (0.1, 0.5, 1.0)})
    return [build_alert(ruleset, emission, batch, signals, context) for emission in found]


def test_the_alert_says_when_where_who_and_how_bad(tmp_path: Path) -> None:
    raised, escalated = alerts_of(tmp_path)
    assert (raised.action, raised.severity) == ("alert-raised", "medium")
    assert (escalated.action, escalated.severity) == ("alert-escalated", "critical")
    assert (raised.start_us, raised.first_match_us, raised.time_us) == (START - 5, START + 1, START + 1)
    assert (escalated.first_match_us, escalated.time_us, escalated.suppressed) == (START + 1, START + 3, 1)
    assert escalated.span == ("t", 0, 101, 103)
    assert (raised.client_id, raised.model, raised.queries, raised.target) == ("key-1", "scorer", 11, "3")
    assert raised.alert_id("default") == escalated.alert_id("default")
    assert escalated.risk > raised.risk


def test_every_condition_is_shown_met_or_not(tmp_path: Path) -> None:
    raised, _ = alerts_of(tmp_path)
    shown = [(e.signal, e.threshold, e.met, e.unit) for e in raised.evidence]
    assert shown == [
        ("inversion.evidence", 3.0, True, "log10 e-value"),
        ("trajectory.queries", 2.0, True, "queries"),
        ("inversion.evidence", 6.0, False, "log10 e-value"),
        ("inversion.progress", 0.9, False, "share"),
    ]
    assert raised.evidence[0].baseline == (0.1, 0.5, 1.0)
    assert raised.evidence[1].baseline is None


def test_contributions_are_the_tests_that_spoke(tmp_path: Path) -> None:
    raised, _ = alerts_of(tmp_path)
    assert raised.contributions == {"steering.chosen": 5.0, "recency.nearest": 1.0}


def test_the_reason_is_one_sentence_with_numbers(tmp_path: Path) -> None:
    _, escalated = alerts_of(tmp_path)
    reason = escalated.reason
    assert reason.startswith("A climb: client key-1 on model scorer, towards class 3, 13 queries: ")
    assert "inversion.progress 0.95 (>= 0.9)" in reason
    assert "strongest test steering.chosen 9" in reason
    assert reason.endswith(".")


def test_a_hostile_client_name_stays_one_printable_line(tmp_path: Path) -> None:
    raised, _ = alerts_of(tmp_path, client="x\n\x1b[31m" + "y" * 300)
    assert raised.reason.isprintable()
    assert len(raised.reason) < 400
    assert raised.client_id.startswith("x\n"), "the document keeps the id as it came"


def test_the_document_is_complete(tmp_path: Path) -> None:
    doc = document(alerts_of(tmp_path)[0], Engine("default", "live", START))
    assert doc["threat"]["technique"]["subtechnique"] == {"id": ["AML.T0024.001"], "name": ["Invert AI Model"]}
    assert (doc["rule"]["category"], doc["querywatch"]["stage"]) == ("inversion", "alert")
    assert doc["event"]["severity"] == 47
    known = {"sensitivity": "medium", "owner": "risk", "output": "scores"}
    assert doc["querywatch"]["model"] == {"name": "scorer", "version": "1", **known}


@given(PARTS, PARTS, RANKS, RANKS, st.floats(-5, 300), st.floats(0, 300))
def test_risk_stays_in_range_and_rises_with_each_part(
    p: float, more_p: float, s: int, more_s: int, e: float, more_e: float
) -> None:
    low = risk(e, p, s)
    assert 0 <= low <= 100
    assert risk(e + more_e, max(p, more_p), max(s, more_s)) >= low


def test_risk_knows_nothing_of_what_is_nan() -> None:
    assert risk(math.nan, 1, 3) == 0
    assert risk(6, math.nan, 3) == risk(6, 0, 3) == pytest.approx(45)


def test_a_rule_test_is_judged_by_raised_alerts_and_the_highest_severity(tmp_path: Path) -> None:
    text = RULE.replace("expect: {alerts: 1}", "expect: {alerts: 1, severity: [high, critical]}")
    alerts = alerts_of(tmp_path, text)
    (rule,) = ruleset_of(tmp_path, text).rules
    positive, near_miss = rule.tests
    assert verdict(positive, rule, alerts) == ""
    assert verdict(positive, rule, alerts[:1]) == "climb: severity medium, expected high or critical"
    assert verdict(positive, rule, []) == "climb: 0 alerts, expected 1"
    assert verdict(near_miss, rule, alerts) == "slider: 1 alerts, expected 0"
    assert verdict(near_miss, rule, []) == ""
