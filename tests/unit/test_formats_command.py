"""`querywatch formats` and `replay` on logs of other servers, through the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from detector import formats
from detector.cli import app
from detector.formats.sniff import sniff
from detector.settings import LimitSettings
from tests.contracts.format_suite import records
from tests.format_samples import FOLDER, SAMPLES

MLSERVER = str(FOLDER / "mlserver_kafka_captured.jsonl")
BENTOML = str(FOLDER / "bentoml_monitor_data_captured.jsonl")
MAPPING = 'time = "/timestamp"\nmodel = "=iris"\nrequest = "/features"\nscores = "/proba"\n'


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`run` logs to the standard error of its own call, which is gone afterwards."""
    yield
    structlog.reset_defaults()


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def check(*words: str) -> dict[str, Any]:
    result = run("formats", "check", *words, "--json")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.parametrize("name", sorted(set(formats.names()) - {"mapped_json"}))
def test_samples_fit_their_own_format_alone(name: str) -> None:
    fit = sniff(records(SAMPLES[name]), LimitSettings())
    assert (fit.best, fit.sure) == (name, True)


def test_damaged_records_fit_nothing() -> None:
    fit = sniff(records([b"{", b"[]", b"7", b"", b'{"headers": 7, "topic": 1, "value": []}']), LimitSettings())
    assert (fit.records, fit.best, fit.sure) == (4, "", False)


def test_check_says_what_fits_and_what_is_missing() -> None:
    report = check(MLSERVER)
    assert (report["format"], report["fits"], report["records"]) == ("mlserver", {"mlserver": 7}, 7)
    assert (report["events"], report["refused"]) == (8, 0)
    assert report["event"]["client.id"] == "acme"
    assert report["event"]["input"] == "vector [6.8, 2.8, 4.8, 1.4] (4 numbers)"
    assert report["missing"] == {
        "client": 0.25, "input": 0.25, "label": 0.5, "scores": 0.5, "not_finite": 0.125, "shape_mismatch": 0.125,
        "no_response": 0.5,
    }  # fmt: skip
    assert {"steering", "choices"} <= {entry["detector"] for entry in report["blind"] if entry["model"] == "unknown"}


def test_check_reads_by_a_mapping_file(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    report = check(BENTOML, "--mapping", str(tmp_path / "mapping.toml"))
    assert report["format"] == "mapped_json"
    assert report["missing"] == {"client": 1.0, "input": 0.0, "label": 0.0, "scores": 0.0}
    assert report["blind"] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "time is missing"),
        ("time = 7", "JSON pointer"),
        ("tyme = '/t'", "no such field"),
        ("time = ", "mapping.toml"),
    ],
    ids=str,
)
def test_faults_of_a_mapping_file_are_told(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "mapping.toml").write_text(text)
    result = run("formats", "check", BENTOML, "--mapping", str(tmp_path / "mapping.toml"))
    assert fault in str(result.exception)


def test_check_prints_for_people() -> None:
    result = run("formats", "check", MLSERVER)
    assert result.exit_code == 0
    assert "format: mlserver" in result.stdout
    assert "detectors that cannot see" in result.stdout


def test_check_of_what_nothing_fits_says_what_to_do(tmp_path: Path) -> None:
    result = run("formats", "check", BENTOML)
    assert result.exit_code == 1
    assert "mapping file" in result.stderr
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert run("formats", "check", str(tmp_path / "empty.jsonl")).exit_code == 2
    assert run("formats", "check", str(tmp_path / "absent.jsonl")).exit_code == 2


def test_list_names_every_format() -> None:
    assert set(json.loads(run("formats", "list", "--json").stdout)) == set(formats.names())


def test_replay_reads_a_foreign_log_and_what_still_waited_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("replay", MLSERVER, "--alerts-out", "alerts.jsonl", "--json")
    assert result.exit_code == 0, result.output
    assert "is read as mlserver" in result.stderr
    counted = json.loads(result.stdout)
    assert (counted["records"], counted["events"], counted["refused"]) == (7, 8, {})
    other = run("replay", MLSERVER, "--format", "kong", "--alerts-out", "alerts.jsonl", "--json")
    assert other.exit_code == 1


def test_the_live_service_refuses_logs_of_halves() -> None:
    result = run("run", "--format", "mlserver")
    assert "lose what waits" in str(result.exception)
    assert "there are: apisix" in str(run("run", "--format", "morse").exception)
