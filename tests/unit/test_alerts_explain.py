"""`querywatch alerts explain`: why, how much each test gave, and what would have kept it quiet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detector.commands.alerts_rules import logic
from detector.conditions import thresholds
from detector.rules import default_folder, load_rules
from detector.rules_lock import logic_hash
from detector.stores import AlertQuery
from detector.stores.sqlite import SqliteStore
from tests.alert_samples import EVIDENCE, escalated, make_document
from tests.commandline import Querywatch

RULE = load_rules(default_folder(), None).rules[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with an alert that escalates, of which one condition was not met and one could not be judged."""
    more = (
        *EVIDENCE,
        EVIDENCE[0]._replace(threshold=12.0, met=False),
        EVIDENCE[1]._replace(signal="trajectory.rise", observed=float("nan"), met=False),
    )
    rule = {"id": RULE.id, "uuid": RULE.uuid, "version": RULE.version, "hash": logic_hash(RULE)}
    first = make_document("default", evidence=more, rule=rule)
    later = (*more[:2], EVIDENCE[0]._replace(observed=13.0, threshold=12.0))
    store = SqliteStore(tmp_path / "var" / "alerts.sqlite", "default")
    store.write([first, escalated("default", evidence=later, rule=rule)])
    store.write([make_document("default", client_id="\x1b[2J", start_s=60, rule={"hash": "of another logic"})])
    store.close()
    return tmp_path


def alert(folder: Path, client: str) -> str:
    store = SqliteStore(folder / "var" / "alerts.sqlite", "default")
    (state,) = store.list(AlertQuery(client=client))
    store.close()
    return str(state["querywatch"]["alert_id"])


def test_explain_gives_each_condition_its_contribution_and_what_would_have_turned_it(
    querywatch: Querywatch, folder: Path
) -> None:
    identity = alert(folder, "key-7")
    found = json.loads(querywatch("alerts", "explain", "--json", identity, folder=folder).stdout)
    by_threshold = {(c["signal"], c["threshold"]): c for c in found["conditions"]}
    assert by_threshold["inversion.evidence", 6.0]["turned"] == "not met with a threshold above 8.4"
    assert by_threshold["inversion.evidence", 6.0]["beyond_benign"]
    assert found["quiet"].startswith("The rule would have stayed quiet with")
    shares = {item["test"]: item["share"] for item in found["contributions"]}
    ratio = 10.0 ** (5.1 - 3.3)  # of the sample's two tests
    assert shares == pytest.approx({"ascent": ratio / (1 + ratio), "steps": 1 / (1 + ratio)}, abs=1e-4)
    assert [(s["severity"], s["newly_met"]) for s in found["steps"]] == [
        ("medium", ["inversion.evidence 8.4 >= 6", "trajectory.queries 212 >= 24"]),
        ("critical", ["inversion.evidence 13 >= 12"]),
    ]
    assert found["rule"]["file"] == "unchanged since"
    assert any("all of" in line or "any of" in line for line in found["logic"])


def test_a_condition_that_was_not_met_says_what_was_missing(querywatch: Querywatch, tmp_path: Path) -> None:
    document = make_document(
        "default",
        evidence=(
            EVIDENCE[0]._replace(threshold=12.0, met=False),
            EVIDENCE[0]._replace(op="<", threshold=2.0, met=False),
            EVIDENCE[1]._replace(observed=float("nan"), met=False),
        ),
        contributions={},
    )
    store = SqliteStore(tmp_path / "var" / "alerts.sqlite", "default")
    store.write([document])
    store.close()
    done = querywatch("alerts", "explain", document["querywatch"]["alert_id"], "--json", folder=tmp_path)
    found = json.loads(done.stdout)
    assert [c["turned"] for c in found["conditions"]] == [
        "met with 3.6 more",
        "met with 6.4 less",
        "the log held too little for this signal",
    ]
    assert found["contributions"] == []
    assert querywatch("alerts", "explain", document["querywatch"]["alert_id"], folder=tmp_path).returncode == 0


def test_explain_prints_one_screen_without_strangers_control_signs(querywatch: Querywatch, folder: Path) -> None:
    for client in ("key-7", "\x1b[2J"):
        done = querywatch("alerts", "explain", alert(folder, client), folder=folder)
        assert done.returncode == 0, done.stderr
        assert "what would have turned it" in done.stdout
        assert "share of the e-value" in done.stdout
        assert "\x1b" not in done.stdout
    assert "changed since" in done.stdout or "not in the rules folder" in done.stdout
    assert querywatch("alerts", "explain", "0123456", folder=folder).returncode == 1


def test_a_rule_is_drawn_as_a_tree_with_a_sign_for_what_was_met() -> None:
    nothing = logic(RULE, {})
    assert nothing
    assert all("✓" not in line for line in nothing)
    all_met = {(t.signal, t.op, t.value): True for c in RULE.conditions for t in thresholds(c)}
    assert all("–" not in line for line in logic(RULE, all_met))


def test_a_rules_folder_that_cannot_be_read_costs_the_tree_only(querywatch: Querywatch, folder: Path) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "x.yml").write_text("id: [")
    done = querywatch("alerts", "explain", alert(folder, "key-7"), folder=folder, QUERYWATCH_RULES="broken")
    assert done.returncode == 0, done.stderr
    assert "cannot be read now" in done.stdout
