"""`querywatch training-index …`, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from detector.cli import app

X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUERYWATCH_CONFIG", raising=False)
    monkeypatch.setenv("QUERYWATCH_SECRET", "of our own")
    np.save("train.npy", X)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["training-index", *words])


def data(*words: str) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_build_show_and_check_agree() -> None:
    made = data("build", "train.npy", "--model", "credit", "--version", "7")
    assert (made["file"], made["records"], made["width"]) == ("credit-7.qwi", 60, 5)
    assert data("show", "credit-7.qwi") == made
    text = run("show", "credit-7.qwi").stdout
    assert "model credit version 7" in text
    assert "60, 60 of them distinct, of 5 numbers" in text
    asked = np.concatenate([X[:40], X[:10] + 1e-3 * X.std(), X[::2] + 9.0])
    np.save("asked.npy", asked)
    counts = data("check", "credit-7.qwi", "asked.npy")
    assert counts == {"records": 80, "exact": 40, "near": 10, "absent": 30, "canaries": 0}
    assert "40 are in the index, 10 are near one" in run("check", "credit-7.qwi", "asked.npy").stdout


def test_the_default_place_is_the_folder_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("indexes").mkdir()
    monkeypatch.setenv("QUERYWATCH_TRAINING__FOLDER", "indexes")
    assert data("build", "train.npy", "--model", "team/credit v2")["file"] == "indexes/team_credit_v2.qwi"


def test_an_index_that_another_secret_made_is_shown_as_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    run("build", "train.npy", "--model", "credit")
    monkeypatch.setenv("QUERYWATCH_SECRET", "another")
    result = run("show", "credit.qwi")
    assert result.exit_code == 1
    assert "made with another secret" in result.stdout
    assert run("check", "credit.qwi", "train.npy").exit_code == 2


def test_the_default_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUERYWATCH_SECRET")
    result = run("build", "train.npy", "--model", "credit")
    assert (result.exit_code, "default secret" in result.stderr) == (2, True)
    assert not list(Path().glob("*.qwi"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("build", "none.npy", "--model", "m"), "none.npy: no such file"),
        (("build", "train.npy", "--model", "m", "--out", "none/m.qwi"), "folder none does not exist"),
        (("build", "train.npy", "--model", "m", "--drop", "label"), "from .csv only"),
        (("build", "few.npy", "--model", "m"), "3 distinct records; at least 16"),
        (("show", "train.npy"), "not a training index"),
        (("show", "none.qwi"), "no such file"),
        (("check", "train.npy", "train.npy"), "not a training index"),
        (("check", "m.qwi", "narrow.npy"), "records of 4 numbers"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(words: tuple[str, ...], message: str) -> None:
    np.save("few.npy", X[:3])
    np.save("narrow.npy", X[:, :4])
    run("build", "train.npy", "--model", "m")
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_help_shows_examples() -> None:
    for command in ("build", "show", "check"):
        assert "querywatch training-index" in run(command, "--help").stdout


# --- canaries ---------------------------------------------------------------------------------------------------------


def canary(*words: str) -> Result:
    return CliRunner().invoke(app, ["canary", *words])


def test_canaries_are_written_listed_and_known() -> None:
    run("build", "train.npy", "--model", "m")
    result = canary("add", "train.npy", "--model", "m", "--count", "7", "--out", "canaries.csv")
    assert result.exit_code == 0, result.output
    assert "7 canaries added, 7 in all; plant those in canaries.csv" in result.stdout
    assert data("check", "m.qwi", "canaries.csv") == {
        **{"records": 7, "exact": 7, "near": 0, "absent": 0, "canaries": 7}
    }
    assert data("check", "m.qwi", "train.npy")["canaries"] == 0
    assert "7 canaries  model m  m.qwi" in canary("list").stdout
    assert [row["canaries"] for row in json.loads(canary("list", "--json").stdout)] == [7]


def test_planted_canaries_are_told_to_a_new_index_as_they_are() -> None:
    run("build", "train.npy", "--model", "m")
    canary("add", "train.npy", "--model", "m", "--count", "3", "--out", "canaries.npy")
    np.save("planted.npy", np.concatenate([X, np.load("canaries.npy")]))
    run("build", "planted.npy", "--model", "m")
    assert data("check", "m.qwi", "canaries.npy")["canaries"] == 0
    added = json.loads(canary("add", "canaries.npy", "--model", "m", "--as-is", "--json").stdout)
    assert added == {"index": "m.qwi", "added": 3, "canaries": 3}
    assert data("check", "m.qwi", "planted.npy")["canaries"] == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("train.npy", "--model", "m"), 2, "give --out FILE"),
        (("train.npy", "--model", "m", "--as-is", "--out", "c.npy"), 2, "give --out FILE"),
        (("train.npy", "--model", "m", "--out", "train.npy"), 2, "train.npy exists"),
        (("train.npy", "--model", "n", "--out", "c.npy"), 2, "n.qwi: no such file"),
        (("train.npy", "--model", "n", "--index", "m.qwi", "--out", "c.npy"), 2, "the index of model 'm'"),
        (("train.npy", "--model", "m", "--out", "none/c.npy"), 1, "no such file or directory"),
        (("train.npy", "--model", "m", "--out", "c.txt"), 1, "records are written as"),
        (("narrow.npy", "--model", "m", "--out", "c.npy"), 2, "records of 4 numbers"),
        (("coarse.npy", "--model", "coarse", "--out", "c.npy"), 1, "too coarse"),
    ],
)
def test_canaries_that_cannot_be_added_are_one_line(words: tuple[str, ...], code: int, message: str) -> None:
    np.save("narrow.npy", X[:, :4])
    np.save("coarse.npy", np.unique(np.random.default_rng(0).integers(0, 3, (60, 4)), axis=0))
    run("build", "train.npy", "--model", "m")
    run("build", "coarse.npy", "--model", "coarse")
    result = canary("add", *words)
    assert (result.exit_code, message in result.stderr) == (code, True), result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert canary("list").stdout == "no canaries\n"
