"""deploy/querywatch.toml says what the settings module says, and wrong settings end in one clear error."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from detector.settings import Settings, SettingsError, load_settings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "querywatch.toml"
UNSET = {"rules", "models"}  # no default that a file could hold: shown as a comment


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("QUERYWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def plain(value: Any) -> Any:
    """Return a setting as a file holds it."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def write(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text)
    return path


def test_the_example_names_every_setting_with_its_default() -> None:
    defaults = {name: value for name, value in plain(Settings()).items() if name not in UNSET}
    assert tomllib.loads(EXAMPLE.read_text()) == defaults


def test_settings_without_a_default_stand_in_the_example_as_comments() -> None:
    assert all(re.search(rf"^# {name} = ", EXAMPLE.read_text(), re.MULTILINE) for name in UNSET)


def test_the_example_loads_and_changes_nothing() -> None:
    assert plain(load_settings(EXAMPLE)) == plain(load_settings())


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, '[kafka]\ntopic = "from-the-file"\ngroup = "from-the-file"\n')
    monkeypatch.setenv("QUERYWATCH_KAFKA__TOPIC", "from-the-environment")
    kafka = load_settings(path).kafka
    assert (kafka.topic, kafka.group) == ("from-the-environment", "from-the-file")


def test_a_file_in_the_folder_is_read_unasked_and_one_named_by_the_environment_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "querywatch.toml").write_text('namespace = "folder"\n')
    assert load_settings().namespace == "folder"
    monkeypatch.setenv("QUERYWATCH_CONFIG", str(write(tmp_path, 'namespace = "named"\n')))
    assert load_settings().namespace == "named"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("namspace = 'x'", "namspace"),
        ("namespace = 'Not Allowed'", "namespace"),
        ("store = 'postgres'", "store"),
        ("log_level = 3", "log_level"),
        ("[kafka]\nidle_s = 'soon'", "kafka.idle_s"),
        ("[kafka]\ntopics = 'a'", "kafka.topics"),
        ("[kafka]\nstart = 'middle'", "kafka.start"),
        ("[elasticsearch]\ntimeout_s = 0", "elasticsearch.timeout_s"),
        ("[sqlite]\npath = 7", "sqlite.path"),
        ("[state]\nkeep = 0", "state.keep"),
        ("[limits]\nclients = 3.5", "limits.clients"),
        ("kafka = 'localhost'", "kafka"),
        ("[nonsense]\na = 1", "nonsense"),
        ("namespace = \nstore = 1", "line 1"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it_and_the_file(tmp_path: Path, text: str, named: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert named in message
    assert str(path) in message
    assert "\n" not in message


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, "store = 'postgres'\n[state]\nkeep = 0\n[limits]\nmodels = 'many'\n"))
    assert all(name in str(caught.value) for name in ("store", "state.keep", "limits.models"))


def test_a_wrong_variable_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYWATCH_LIMITS__CLIENTS", "1")
    with pytest.raises(SettingsError, match=r"limits\.clients"):
        load_settings()


def test_a_section_in_one_variable_is_told_how_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYWATCH_KAFKA", "localhost:9092")
    with pytest.raises(SettingsError, match=r'environment: .*"kafka".*QUERYWATCH_SECTION__NAME'):
        load_settings()


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such configuration file"):
        load_settings(tmp_path / "missing.toml")


def test_secrets_do_not_show_in_the_settings_as_text(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "secret = 'hidden'\n[kafka]\nsasl_password = 'hidden'\n"))
    assert "hidden" not in repr(settings)
