"""`querywatch alerts stats` against counts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.alerts import Document
from detector.commands.alerts_stats import counted
from detector.lifecycle import DISPOSITIONS, Change
from detector.stores.sqlite import SqliteStore
from tests.alert_samples import START_US, make_document
from tests.commandline import Querywatch

RAISED_US = START_US + 900_000_000  # when the sample's documents are created


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five alerts: acknowledged after 1, 2, 3 and 4 minutes, three of them closed an hour later; one untouched."""
    store = SqliteStore(tmp_path / "var" / "alerts.sqlite", "default")
    documents = [
        make_document("default", client_id="noisy", start_s=60 * i, suppressed=3, rule={"id": f"rule-{i % 2}"})
        for i in range(4)
    ]
    store.write([*documents, make_document("default", client_id="\x1b[31m", model="face")])
    for i, document in enumerate(documents):
        identity = [document["querywatch"]["alert_id"]]
        store.triage(identity, Change("ack", "anna", RAISED_US + (i + 1) * 60_000_000))
        was = ("true_positive", "false_positive.logic", "benign_positive", "")[i]
        if was:
            store.triage(identity, Change("close", "anna", RAISED_US + 3_600_000_000, disposition=was))
    store.close()
    return tmp_path


def test_stats_counts_dispositions_times_noise_and_techniques(querywatch: Querywatch, folder: Path) -> None:
    found = json.loads(querywatch("alerts", "stats", "--json", folder=folder).stdout)
    assert found["alerts"] == 5
    assert found["status"] == {"new": 1, "acknowledged": 1, "investigating": 0, "contained": 0, "closed": 3}
    assert found["suppressed"] == 12
    assert found["to_acknowledge_s"] == {"alerts": 4, "median": 150.0, "p90": 240.0}
    assert found["to_close_s"] == {"alerts": 3, "median": 3600.0, "p90": 3600.0}
    rules = {row["rule"]: row for row in found["rules"]}
    assert (rules["rule-0"]["true"], rules["rule-0"]["benign"], rules["rule-0"]["precision"]) == (1, 1, 0.5)
    assert (rules["rule-1"]["false"], rules["rule-1"]["precision"]) == (1, 0.0)
    assert rules["inversion-ascent"]["precision"] is None
    assert found["clients"][0] == {"name": "noisy", "alerts": 4, "harmless": 2}
    assert [row["name"] for row in found["models"]] == ["credit", "face"]
    atlas = {row["id"]: row for row in found["atlas"]}
    assert atlas["AML.T0024.001"]["alerts"] == 5
    assert "inversion-ascent" in atlas["AML.T0024.001"]["rules"]
    assert any(not row["rules"] and not row["alerts"] for row in found["atlas"])


def test_stats_takes_the_filters_of_list_and_escapes_what_strangers_wrote(querywatch: Querywatch, folder: Path) -> None:
    one = json.loads(querywatch("alerts", "stats", "--json", "--model", "face", folder=folder).stdout)
    assert one["alerts"] == 1
    shown = querywatch("alerts", "stats", folder=folder)
    assert shown.returncode == 0, shown.stderr
    for part in (r"\x1b[31m", "50%", "median 2.5 min", "median 1.0 h", "no rule names"):
        assert part in shown.stdout, part
    assert "\x1b" not in shown.stdout


def test_stats_of_nothing_is_nothing(querywatch: Querywatch, tmp_path: Path) -> None:
    done = querywatch("alerts", "stats", folder=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "0 alerts")


@given(st.lists(st.sampled_from(["", *DISPOSITIONS]), max_size=30))
def test_every_alert_is_counted_once_and_precision_is_a_share_of_the_decided(dispositions: list[str]) -> None:
    states: list[Document] = []
    for i, disposition in enumerate(dispositions):
        state = make_document("default", client_id=f"key-{i}")
        state["querywatch"] |= {"status": "closed", "disposition": disposition} if disposition else {"status": "new"}
        states.append(state)
    found = counted(states)
    assert sum(found["status"].values()) == len(states)
    for row in found["rules"]:
        decided = row["true"] + row["benign"] + row["false"]
        assert decided + row["undecided"] == row["closed"] == sum(map(bool, dispositions))
        assert (row["precision"] is None) == (decided == 0)
        assert row["precision"] is None or row["precision"] == pytest.approx(row["true"] / decided, abs=1e-4)
