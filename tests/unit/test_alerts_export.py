"""`querywatch alerts export`: a bundle that stands on its own, checked by what its reader has."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from detector.lifecycle import Change
from detector.rules import default_folder, load_rules
from detector.rules_lock import logic_hash
from detector.stores.sqlite import SqliteStore
from tests.alert_samples import START_US, escalated, make_document
from tests.commandline import Querywatch

RULE = load_rules(default_folder(), None).rules[0]
SAME = {"id": RULE.id, "uuid": RULE.uuid, "hash": logic_hash(RULE)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three alerts: of a rule as it is, of a rule that is gone, and of a rule whose name is a path."""
    store = SqliteStore(tmp_path / "var" / "alerts.sqlite", "default")
    first = make_document("default", rule=SAME)
    store.write(
        [
            first,
            escalated("default", rule=SAME),
            make_document("default", client_id="key-8", rule={"id": "gone", "uuid": "u-2"}),
            make_document("default", client_id="\x1b[2J", rule={"id": "../../etc/passwd", "uuid": "u-3"}),
        ]
    )
    store.triage([first["querywatch"]["alert_id"]], Change("ack", "anna", START_US))
    store.close()
    return tmp_path


def first_id() -> str:
    return str(make_document("default", rule=SAME)["querywatch"]["alert_id"])


def test_a_bundle_holds_documents_positions_rule_hashes_and_how_to_replay(querywatch: Querywatch, folder: Path) -> None:
    done = querywatch("alerts", "export", first_id()[:8], "--by", "anna", "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    path = folder / said["file"]
    assert path.name == f"querywatch-{first_id()[:8]}.zip"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said["sha256"]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    root = folder / "querywatch-evidence"
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=root, check=True)
    alert = root / "alerts" / first_id()
    assert json.loads((alert / "alert.json").read_text())["querywatch"]["assignee"] == "anna"
    assert len((alert / "events.jsonl").read_text().splitlines()) == 2
    assert json.loads((alert / "triage.jsonl").read_text())["event"]["action"] == "alert-acknowledged"
    assert json.loads((alert / "explain.json").read_text())["conditions"]
    positions = json.loads((alert / "positions.json").read_text())
    assert [(p["topic"], p["first_offset"], p["last_offset"]) for p in positions] == [
        ("prediction-events", 1000, 1300)
    ] * 2
    assert [rule.id for rule in load_rules(root / "rules", None).rules] == [RULE.id], (
        "--rules takes the bundle's folder"
    )
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["made"]["by"] == "anna"
    assert manifest["alerts"][0]["rule"]["file"] == "unchanged since"
    command = "QUERYWATCH_NAMESPACE=default querywatch replay CAPTURE --rules rules --alerts-out -"
    assert manifest["alerts"][0]["replay"] == command
    assert command in (root / "README.txt").read_text()


def test_a_bundle_of_all_that_match_stays_in_its_folder(querywatch: Querywatch, folder: Path) -> None:
    done = querywatch("alerts", "export", "--model", "credit", "--out", "all.zip", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "all.zip: 3 alerts" in done.stdout
    with zipfile.ZipFile(folder / "all.zip") as archive:
        names = archive.namelist()
        readme = archive.read("querywatch-evidence/README.txt").decode()
        manifest = json.loads(archive.read("querywatch-evidence/manifest.json"))
    assert all(name.startswith("querywatch-evidence/") and ".." not in name for name in names)
    assert [name for name in names if "/rules/" in name] == [f"querywatch-evidence/rules/{RULE.id}.yml"]
    assert sum("not in the rules folder" in entry["rule"]["file"] for entry in manifest["alerts"]) == 2
    assert "\x1b" not in readme


def test_a_bundle_never_replaces_a_file_and_faults_are_one_clear_message(querywatch: Querywatch, folder: Path) -> None:
    (folder / "there.zip").write_text("precious")
    for arguments, message in (
        ((first_id(), "--out", "there.zip"), "exists already"),
        ((first_id(), "--out", "nowhere/x.zip"), "cannot be written"),
        (("--rule", "nothing"), "no alerts match"),
        (("0123456",), "starts with 0123456"),
    ):
        done = querywatch("alerts", "export", *arguments, folder=folder)
        assert done.returncode == 1
        assert message in done.stderr
    assert (folder / "there.zip").read_text() == "precious"
    assert querywatch("alerts", "export", folder=folder).returncode == 2
    assert querywatch("alerts", "export", first_id(), "--rule", "x", folder=folder).returncode == 2
