"""`querywatch alerts ack | assign | note | close | reopen` on a real store."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from detector.stores import AlertQuery
from detector.stores.sqlite import SqliteStore
from tests.alert_samples import make_document
from tests.commandline import Querywatch

HOSTILE = "late \x1b[31m\u202e night"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose store holds three live alerts and one of a replay."""
    store = SqliteStore(tmp_path / "var" / "alerts.sqlite", "default")
    store.write(
        [
            make_document("default"),
            make_document("default", client_id="key-8", model="face", start_s=900),
            make_document("default", client_id="key-9", severity="low", start_s=1800),
            make_document("default", "replay", client_id="from-a-capture"),
        ]
    )
    store.close()
    return tmp_path


def own(folder: Path, client: str) -> dict[str, object]:
    store = SqliteStore(folder / "var" / "alerts.sqlite", "default")
    (state,) = store.list(AlertQuery(client=client))
    store.close()
    return dict(state["querywatch"])


def id_of(folder: Path, client: str) -> str:
    return str(own(folder, client)["alert_id"])[:8]


def test_an_analysts_day(querywatch: Querywatch, folder: Path) -> None:
    alert = id_of(folder, "key-7")
    steps = (
        (("ack", alert, "--by", "anna"), f"{alert} acknowledged, anna\n"),
        (("assign", "bob", alert, "--by", "anna", "--note", "my shift ends"), f"{alert} acknowledged, bob\n"),
        (("note", HOSTILE, alert, "--by", "bob", "--move-to", "investigating"), f"{alert} investigating, bob\n"),
        (("close", alert, "--as", "true_positive", "--by", "bob"), f"{alert} closed as true_positive, bob\n"),
        (("reopen", alert, "--by", "cleo", "--note", "it goes on"), f"{alert} acknowledged, cleo\n"),
    )
    for arguments, said in steps:
        done = querywatch("alerts", *arguments, folder=folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    shown = querywatch("alerts", "show", alert, folder=folder).stdout
    for part in (
        "acknowledged, cleo",
        "anna acknowledged, new → acknowledged",
        "anna assigned to bob: my shift ends",
        r"late \x1b[31m\u202e night",
        "bob closed as true_positive, investigating → closed",
        "cleo reopened, closed → acknowledged: it goes on",
    ):
        assert part in shown, part
    assert not {"\x1b", "\u202e"} & set(shown)
    log = json.loads(querywatch("alerts", "show", "--json", alert, folder=folder).stdout)["log"]
    assert [entry["user"]["id"] for entry in log] == ["anna", "anna", "bob", "bob", "cleo"]


def test_the_loser_of_an_alert_is_told_who_has_it(querywatch: Querywatch, folder: Path) -> None:
    alert = id_of(folder, "key-7")
    assert querywatch("alerts", "ack", alert, "--by", "anna", folder=folder).returncode == 0
    lost = querywatch("alerts", "ack", alert, "--by", "bob", folder=folder)
    assert lost.returncode == 1
    assert lost.stdout == ""
    assert f"{alert} not changed: anna has it (acknowledged since 20" in lost.stderr
    as_json = json.loads(querywatch("alerts", "ack", alert, "--by", "bob", "--json", folder=folder).stdout)
    assert as_json["refused"].startswith("anna has it")


def test_all_that_match_are_changed_after_their_number_was_confirmed(
    querywatch: Querywatch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("alerts", "ack", "--model", "credit", "--by", "anna")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    asked = querywatch(*arguments, folder=folder)
    assert asked.returncode == 1
    assert "2 alerts match: ack all of them?" in asked.stderr
    assert own(folder, "key-7")["status"] == "new"
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert len(querywatch(*arguments, folder=folder).stdout.splitlines()) == 2
    assert {own(folder, c)["status"] for c in ("key-7", "key-9")} == {"acknowledged"}
    assert own(folder, "key-8")["status"] == "new"
    closed = querywatch(
        "alerts", "close", "--owner", "anna", "--as", "duplicate", "--yes", "--json", "--by", "anna", folder=folder
    )
    assert [json.loads(line)["disposition"] for line in closed.stdout.splitlines()] == ["duplicate"] * 2


def test_what_cannot_be_changed_is_said_and_the_rest_is_changed(querywatch: Querywatch, folder: Path) -> None:
    first, second = id_of(folder, "key-7"), id_of(folder, "key-8")
    querywatch("alerts", "ack", first, folder=folder, QUERYWATCH_ANALYST="anna")
    done = querywatch("alerts", "ack", first, second, "0123456", folder=folder, QUERYWATCH_ANALYST="bob")
    assert done.returncode == 1
    assert done.stdout == f"{second} acknowledged, bob\n"
    assert "anna has it" in done.stderr
    assert "starts with 0123456" in done.stderr
    early = querywatch("alerts", "close", id_of(folder, "key-9"), "--as", "duplicate", folder=folder)
    assert early.returncode == 1
    assert "it is new and cannot become closed" in early.stderr
    none = querywatch("alerts", "ack", "--rule", "nothing", folder=folder)
    assert (none.returncode, none.stderr) == (1, "querywatch: no alerts match\n")


def test_results_of_replays_cannot_be_triaged(querywatch: Querywatch, folder: Path) -> None:
    found = querywatch("alerts", "list", "--replay", "--json", folder=folder).stdout
    alert = json.loads(found)["querywatch"]["alert_id"]
    assert querywatch("alerts", "ack", alert, folder=folder).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ack",), "choose them with filters"),
        (("ack", "zzzz"), "4 to 32"),
        (("ack", "0123", "--rule", "x"), "either ids or filters"),
        (("ack", "0123", "--by", "a\x1bb"), "printable"),
        (("ack", "0123", "--by", " "), "printable"),
        (("ack", "0123", "--note", "x" * 10_001), "at most 10000"),
        (("close", "0123"), "--as"),
        (("close", "0123", "--as", "fine"), "there are true_positive"),
        (("note", "text", "0123", "--move-to", "closed"), "there are investigating, contained"),
        (("note", " ", "0123"), "a note has text"),
        (("assign", "\x07", "0123"), "printable"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_clear_message(
    querywatch: Querywatch, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = querywatch("alerts", *arguments, folder=folder, COLUMNS="200")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
