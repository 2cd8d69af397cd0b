"""models.yml: which entry holds, and every fault told with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detector.cli import app
from detector.events import ModelRef
from detector.registry import SEVERITY, UNKNOWN, load_registry
from detector.settings import SettingsError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "models.yml"


def write(folder: Path, text: str) -> Path:
    path = folder / "models.yml"
    path.write_text(text)
    return path


def test_the_first_entry_that_fits_name_and_version_holds(tmp_path: Path) -> None:
    text = """\
models:
  - {name: credit, version: "4*", sensitivity: high, owner: a}
  - {name: "c*", sensitivity: low, owner: b}
  - {name: "*", version: "1", owner: c}
"""
    registry = load_registry(write(tmp_path, text))
    asked = {("credit", "4.2"): "a", ("credit", "5"): "b", ("cats", ""): "b", ("dogs", "1"): "c", ("dogs", "2"): ""}
    assert {pair: registry.entry(ModelRef(*pair)).owner for pair in asked} == asked


def test_a_model_that_stands_nowhere_is_of_medium_sensitivity() -> None:
    assert load_registry(None).entry(ModelRef("any", "1")) is UNKNOWN
    assert UNKNOWN.sensitivity == "medium"
    assert SEVERITY[:, UNKNOWN.rank].tolist() == [1, 2, 3, 4]


def test_the_example_is_right() -> None:
    entries = load_registry(EXAMPLE).entries
    assert {entry.sensitivity for entry in entries} >= {"low", "high", "critical"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "models.yml:1:1: QW101 the file is empty"),
        ("- a", "models.yml:1:1: QW106 a mapping with the key 'models' was expected"),
        ("model: []", "models.yml:1:1: QW104 unknown key 'model'; did you mean models?"),
        ("models: all", "models.yml:1:9: QW106 models: a list was expected here"),
        ("models:\n  - {name: a, sensitivty: low}", "models.yml:2:15: QW104 unknown key 'sensitivty'; did you mean s"),
        ("models:\n  - {sensitivity: low}", "models.yml:2:5: QW105 key 'name' is missing"),
        ("models:\n  - {name: a, sensitivity: hgh}", "models.yml:2:28: QW106 'hgh' is not valid here; did you mean h"),
        ("models:\n  - {name: a, version: 4}", "models.yml:2:24: QW106 version: text was expected here; put it in quo"),
        ("models:\n  - {name: a}\n  - {name: a}", "models.yml:3:12: QW801 never asked: entry 1 fits these models"),
        ("models:\n  - {name: '*'}\n  - {name: 'b*', version: '2'}", "models.yml:3:12: QW801 never asked: entry 1"),
        ("models: [", "models.yml:1:10: QW101 not YAML"),
        ("models: !!python/object:os.system []", "models.yml:1:9: QW107 tags"),
    ],
)
def test_a_fault_is_told_with_its_place_and_the_nearest_valid_name(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_registry(write(tmp_path, text))
    assert fault in str(caught.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_registry(write(tmp_path, "models:\n  - {name: a, output: all}\n  - {name: 7}\n  - {nam: b}\n"))
    assert len(str(caught.value).splitlines()) == 4


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_registry(tmp_path / "gone.yml")


def test_the_command_shows_the_entry_that_holds_and_tells_faults(tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["models", "patient-risk", "1", "--file", str(EXAMPLE), "--json"])
    assert [entry["sensitivity"] for entry in json.loads(shown.stdout)] == ["critical"]
    assert "patient-*" in runner.invoke(app, ["models", "--file", str(EXAMPLE)]).stdout
    wrong = runner.invoke(app, ["models", "--file", str(write(tmp_path, "models: 7"))])
    assert (wrong.exit_code, "models.yml:1:9" in wrong.stderr) == (1, True)
