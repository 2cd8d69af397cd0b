"""`querywatch rules …`, as a user meets it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detector.commands.rules import app
from detector.rules_lock import LOCK
from tests.unit.rules_support import shipped

run = CliRunner().invoke


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped rules, to be spoilt."""
    return Path(shutil.copytree(shipped(), tmp_path / "rules"))


def spoil(folder: Path, old: str, new: str) -> None:
    path = folder / "inversion-ascent.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_list_names_every_rule_with_its_technique() -> None:
    result = run(app, ["list"])
    assert result.exit_code == 0
    assert any("inversion-ascent" in line and "AML.T0024.001" in line for line in result.stdout.splitlines())
    rows = json.loads(run(app, ["list", "--json"]).stdout)
    assert {row["id"] for row in rows} == {path.stem for path in shipped().glob("*.yml")}


def test_list_needs_no_numba() -> None:
    code = "import sys; from detector.commands.rules import list_rules; list_rules(); sys.exit('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_show_prints_condition_ladder_and_playbook() -> None:
    text = run(app, ["show", "inversion-ascent"]).stdout
    for part in ("steering.chosen >= 3", "critical", "Playbook:", "Misses:", "Invert AI Model"):
        assert part in text
    data = json.loads(run(app, ["show", "inversion-ascent", "--json"]).stdout)
    assert (data["id"], data["episode_s"], data["technique"]["name"]) == ("inversion-ascent", 3600, "Invert AI Model")


def test_show_of_an_unknown_rule_names_the_nearest() -> None:
    result = run(app, ["show", "inversion-assent"])
    assert (result.exit_code, "did you mean inversion-ascent" in result.stderr) == (2, True)


def test_check_is_quiet_on_the_shipped_rules() -> None:
    result = run(app, ["check", "--today", "2026-01-01"])
    assert (result.exit_code, result.stderr) == (0, ""), result.stdout


def test_check_lists_every_fault_and_exits_with_1(copy: Path) -> None:
    spoil(copy, "severity: medium", "severity: midium")
    spoil(copy, "inversion.evidence", "inversion.evidense")
    result = run(app, ["check", "--rules", str(copy)])
    assert result.exit_code == 1
    codes = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("inversion-ascent.yml:")]
    assert codes == ["QW201", "QW106"]
    report = json.loads(run(app, ["check", "--rules", str(copy), "--json"]).stdout)
    assert [problem["code"] for problem in report["problems"]] == codes


@pytest.mark.parametrize("arguments", [["check", "--rules", "/none"], ["check", "--today", "soon"], ["nonsense"]])
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    assert run(app, arguments).exit_code == 2


def test_lock_is_refused_while_logic_changed_behind_its_version(copy: Path) -> None:
    before = (copy / LOCK).read_text()
    spoil(copy, "value: 24", "value: 32")
    refused = run(app, ["lock", "--rules", str(copy)])
    assert (refused.exit_code, "QW701" in refused.stderr, (copy / LOCK).read_text() == before) == (1, True, True)
    spoil(copy, "version: 1", "version: 2")
    assert run(app, ["lock", "--rules", str(copy)]).exit_code == 0
    assert run(app, ["check", "--rules", str(copy)]).exit_code == 0


def test_signals_prints_the_catalogue_that_the_shipped_rules_use() -> None:
    names = {row["name"] for row in json.loads(run(app, ["signals", "--json"]).stdout)}
    assert {"inversion.evidence", "inversion.progress", "volume.rate"} <= names
