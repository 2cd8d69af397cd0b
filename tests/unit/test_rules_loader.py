"""Loading rules: what is right is read in full, what is wrong is told with its place, all of it at once."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.atlas import load_atlas
from detector.conditions import Every, Some, Threshold
from detector.rules import RulesError, load_rules
from detector.rules_schema import Checks, read_rule
from detector.rules_yaml import MAX_BYTES, Source
from tests.unit.rules_support import CATALOGUE, RULE, edited, folder_of, problems_of, renamed, ruleset_of, shipped

ATLAS = load_atlas(shipped() / "atlas.json")
EXCEPTION = "exceptions:\n  - {id: qa, client: [key-qa], reason: nightly, owner: mlops, expires: 2026-12-31}\n"


def test_a_rule_is_read_in_full(tmp_path: Path) -> None:
    (rule,) = ruleset_of(tmp_path, RULE + EXCEPTION).rules
    assert rule.when == Every((Threshold("inversion.evidence", ">=", 3.0), Threshold("trajectory.queries", ">=", 2.0)))
    assert (rule.family, rule.episode, rule.severity) == ("inversion", 3_600_000_000, "medium")
    assert [step.severity for step in rule.escalate] == ["high", "critical"]
    assert rule.exceptions[0].expires == date(2026, 12, 31)
    assert [test.positive for test in rule.tests] == [True, False]


@pytest.mark.parametrize(
    ("old", "new", "at", "code", "hint"),
    [
        ("severity: medium", "severety: medium", "severety", "QW104", "did you mean severity"),
        ("severity: medium\n", "", "id: ascent", "QW105", "'severity' is missing"),
        ("severity: medium", "severity: midium", "midium", "QW106", "did you mean medium"),
        ("version: 1", "version: one", "one", "QW106", "whole number"),
        ("version: 1", "version: true", "true", "QW106", "whole number"),
        ("version: 1", "version: 1\nversion: 2", "version: 2", "QW103", "already given in line 3"),
        ("episode: 1h", "episode: 1 hour", "1 hour", "QW106", "45s, 30m, 1h or 7d"),
        ("title: A climb", "title: !!python/name:os.system A climb", "!!python", "QW107", "tags"),
        ("title: A climb", "title: 12", "12", "QW106", "put it in quotes"),
        ("title: A climb", "title: [A climb", ": stable", "QW101", "not YAML"),
        ("trajectory.queries", "trajectory.querys", "trajectory", "QW201", "did you mean trajectory.queries"),
        ('op: ">=", value: 2', "op: =>, value: 2", "=>", "QW202", "valid: >=, >, <=, <"),
        ("value: 0.9", "value: 9", "9}, severity: critical", "QW203", "runs from 0 to 1"),
        ("value: 2}", "value: two}", "two", "QW106", "finite number"),
        ("value: 2}", "value: .nan}", ".nan", "QW106", "finite number"),
        ("value: 2}", "valeu: 2}", "valeu", "QW104", "did you mean value"),
        ("when:\n  all:\n", "when:\n  alll:\n", "alll", "QW104", "did you mean all"),
        ("when:\n  all:\n", "when:\n  any: []\n  all:\n", "any: []", "QW204", "exactly one of"),
        ("AML.T0024.001", "AML.T0024.01", "AML.T0024.01", "QW301", "did you mean AML.T0024.001"),
        ("AML.T0024.001", "AML.T0045", "AML.T0045", "QW302", "AML.T0048.004 took its place"),
        ("benign: what_if_slider", "attack: what_if_slider", "- {name: climb", "QW402", "near-miss"),
        ("alerts: 1", "alerts: 0", "- {name: climb", "QW401", "positive"),
        ("benign: what_if_slider, ", "", "{queries: 400", "QW106", "either an attack or a benign kind"),
        ("severity: high}", "severity: medium}", "medium}", "QW206", "no step up"),
        ("stage: alert", "stage: alert\nmodels: {inclde: ['*']}", "inclde", "QW104", "did you mean include"),
    ],
)
def test_a_fault_is_told_with_place_code_and_hint(
    tmp_path: Path, old: str, new: str, at: str, code: str, hint: str
) -> None:
    text = edited(old, new)
    before = text[: text.index(at)]
    first, *others = sorted(problems_of(tmp_path, text), key=lambda p: p.code == "QW105")
    assert first[:4] == ("ascent.yml", before.count("\n") + 1, len(before) - before.rfind("\n"), code)
    assert hint in first.message
    assert all(other.code == "QW105" for other in others), "a misspelt key is missing too; nothing else follows"


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    first = edited("severity: medium", "severity: midium", edited('op: ">=", value: 2', 'op: "~", value: 2'))
    second = renamed(2, edited("attack: AML.T0024.001", "attack: AML.T9999"))
    codes = [(p.file, p.code) for p in problems_of(tmp_path, first, second)]
    assert codes == [("ascent-2.yml", "QW301"), ("ascent.yml", "QW202"), ("ascent.yml", "QW106")]


def test_a_message_reads_file_line_column_code_text(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, edited("attack: AML.T0024.001", "attack: AML.T0045"))
    assert str(problem).startswith("ascent.yml:7:9: QW302 AML.T0045 was withdrawn from ATLAS")


def test_an_expired_exception_is_a_fault_against_a_given_day_only(tmp_path: Path) -> None:
    text = RULE + EXCEPTION
    assert problems_of(tmp_path, text) == ()
    assert problems_of(tmp_path, text, today=date(2026, 12, 31)) == ()
    (problem,) = problems_of(tmp_path, text, today=date(2027, 1, 1))
    assert (problem.line, problem.column, problem.code) == (25, 72, "QW501")


def test_an_exception_for_everybody_is_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, RULE + EXCEPTION.replace("key-qa", '"**"'))
    assert problem.code == "QW502"


def test_an_exception_needs_an_owner_a_reason_and_an_expiry(tmp_path: Path) -> None:
    found = problems_of(tmp_path, RULE + "exceptions:\n  - {id: qa, client: [key-qa]}\n")
    assert sorted(p.message for p in found) == [f"key {key!r} is missing" for key in ("expires", "owner", "reason")]


def test_tests_may_name_known_traffic_only(tmp_path: Path) -> None:
    found = problems_of(tmp_path, RULE, attacks=("hill_climbing",), benign=("what_if_slider",))
    assert [(p.line, p.code) for p in found] == [(22, "QW403")]
    assert "did you mean hill_climbing" in found[0].message


def test_a_rule_that_asks_two_families_names_its_own(tmp_path: Path) -> None:
    text = edited("signal: trajectory.queries", "signal: extraction.evidence")
    assert [p.code for p in problems_of(tmp_path, text)] == ["QW205"]
    (rule,) = ruleset_of(tmp_path, "family: extraction\n" + text).rules
    assert rule.family == "extraction"


def test_containment_keys_go_with_their_action(tmp_path: Path) -> None:
    contain = "respond:\n  containment: {{action: {}, ttl: 1h, mitigation: {}}}\n"
    assert problems_of(tmp_path, edited("respond:\n", contain.format("block", "AML.M0004"))) == ()
    assert (
        "decimals"
        in problems_of(tmp_path, edited("respond:\n", contain.format("round_scores", "AML.M0002")))[0].message
    )
    assert [p.code for p in problems_of(tmp_path, edited("respond:\n", contain.format("block", "AML.M9")))] == ["QW303"]


def test_ids_and_uuids_are_unique_and_name_the_file(tmp_path: Path) -> None:
    folder_of(tmp_path, RULE)
    (tmp_path / "another.yml").write_text(RULE)
    found = [(p.file, p.code, p.message.split()[0]) for p in problems_of(tmp_path)]
    assert found == [("another.yml", "QW601", "rule"), ("ascent.yml", "QW601", "id"), ("ascent.yml", "QW601", "uuid")]


def test_only_a_stable_rule_may_page(tmp_path: Path) -> None:
    text = edited("stage: alert", "stage: page")
    assert problems_of(tmp_path, text) == ()
    assert [p.code for p in problems_of(tmp_path, edited("status: stable", "status: test", text))] == ["QW207"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 60_000,
        "a: " * 3,
        "&a [*a]",
        "{" * 20_000,
        "a: &x [" + "1," * 90 + "]\nb: &y [" + "*x," * 90 + "]\nc: [" + "*y," * 90 + "]\n",
        "? [a, b]\n: c\n",
        "<<: {a: 1}\n",
        "a: " + "1" * 6000,
        "%YAML 9.9\n---\n...\n---\n",
        "x" * (MAX_BYTES + 1),
        "a: \x07",
        "just text",
    ],
)
def test_hostile_yaml_is_a_problem_and_never_a_traceback(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yml").write_text(text)
    found = problems_of(tmp_path)
    assert found
    assert all(p.file == "bad.yml" and p.code.startswith("QW1") for p in found)


def test_bytes_that_are_no_text_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_bytes(b"id: \xff")
    (tmp_path / "dir.yml").mkdir()
    assert [(p.file, p.code) for p in problems_of(tmp_path)] == [("bad.yml", "QW101"), ("dir.yml", "QW101")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mangled_rule_never_gives_a_traceback(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(RULE)))
    cut = data.draw(st.integers(0, 30))
    put = data.draw(st.text(alphabet="{}[]:,-&*!|>'\"#%@ \n\tab01.é", max_size=12))
    source = Source("x.yml", RULE[:at] + put + RULE[at + cut :])
    rule = read_rule(source, Checks(CATALOGUE, ATLAS, date(2026, 1, 1), ("hill_climb",), ("what_if_slider",)))
    assert (rule is None) == bool(source.problems)
    assert all(1 <= p.line <= RULE.count("\n") + 14 and p.column >= 1 for p in source.problems)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="QW101 no readable folder"):
        load_rules(tmp_path / "none", CATALOGUE)


def test_not_is_pushed_down_to_the_thresholds(tmp_path: Path) -> None:
    condition = "when:\n  not:\n    all:\n      - not: {signal: inversion.evidence, op: '>=', value: 3}\n"
    text = RULE[: RULE.index("when:")] + condition + RULE[RULE.index("episode:") :]
    (rule,) = ruleset_of(tmp_path, text).rules
    assert rule.when == Some((Threshold("inversion.evidence", ">=", 3.0),))


def test_the_shipped_rules_are_right_and_locked() -> None:
    ruleset = load_rules(shipped(), None)
    assert {rule.id for rule in ruleset.rules} >= {
        "inversion-ascent",
        "adversarial-search",
        "membership-probing",
        "attribute-sweep",
        "extraction-synthetic",
        "volume-burst",
    }
    assert (shipped() / "rules.lock").is_file()


def test_volume_alone_is_never_more_than_low() -> None:
    for rule in load_rules(shipped(), None).rules:
        if rule.family == "volume":
            assert (rule.severity, rule.escalate) == ("low", ())
