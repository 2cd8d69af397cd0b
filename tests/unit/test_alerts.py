"""`querywatch alerts`, `querywatch setup` and the command line around them, on a real store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector.commands.text import printable
from detector.stores import AlertQuery
from detector.stores.sqlite import SqliteStore
from tests.alert_samples import escalated, make_document
from tests.commandline import Querywatch, Result

ROOT = Path(__file__).parents[2]
HOSTILE = "evil[bold red]\x1b[31m\r\n--limit\u202e"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose store holds three live alerts and one of a replay."""
    store = SqliteStore(tmp_path / "var" / "alerts.sqlite", "default")
    store.write(
        [
            make_document("default"),
            escalated("default"),
            make_document("default", client_id="key-8", model="face", start_s=900, members=("key-8", "key-9")),
            make_document("default", client_id=HOSTILE, severity="low", start_s=1800, rule={"id": "other"}),
            make_document("default", "replay", client_id="from-a-capture"),
        ]
    )
    store.close()
    return tmp_path


def _clients(done: Result) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["user"]["id"] for line in done.stdout.splitlines()]


def _id(folder: Path, **filters: str) -> str:
    store = SqliteStore(folder / "var" / "alerts.sqlite", "default")
    (state,) = store.list(AlertQuery(**filters))  # type: ignore[arg-type]
    store.close()
    return str(state["querywatch"]["alert_id"])


def test_list_shows_the_newest_first_and_text_of_strangers_cannot_reach_the_terminal(
    querywatch: Querywatch, folder: Path
) -> None:
    done = querywatch("alerts", "list", folder=folder)
    assert done.returncode == 0
    header, *rows = done.stdout.splitlines()
    assert header.split()[:2] == ["id", "severity"]
    assert [row.split()[1] for row in rows] == ["low", "medium", "critical"]
    assert r"evil[bold red]\x1b[31m\x0d\x0a" in rows[0]
    assert "key-8 + 1 more" in rows[1]
    assert not {"\x1b", "\r", "\u202e"} & set(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [HOSTILE, "key-8", "key-7"]),
        (("--limit", "1"), [HOSTILE]),
        (("--severity", "critical", "--severity", "low"), [HOSTILE, "key-7"]),
        (("--rule", "other"), [HOSTILE]),
        (("--model", "face"), ["key-8"]),
        (("--client", "key-9"), ["key-8"]),
        (("--status", "new", "--model", "credit"), [HOSTILE, "key-7"]),
        (("--status", "closed"), []),
        (("--since", "24h"), []),
        (("--replay",), ["from-a-capture"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_list_as_json_gives_one_document_a_line(
    querywatch: Querywatch, folder: Path, arguments: tuple[str, ...], expected: list[str]
) -> None:
    assert _clients(querywatch("alerts", "list", "--json", *arguments, folder=folder)) == expected


def test_since_counts_back_from_now(querywatch: Querywatch, folder: Path) -> None:
    now_us = int(time.time() * 1e6)
    store = SqliteStore(folder / "var" / "alerts.sqlite", "default")
    store.write([make_document("default", client_id="today", time_us=now_us - 3_600_000_000)])
    store.close()
    assert _clients(querywatch("alerts", "list", "--json", "--since", "2h", folder=folder)) == ["today"]
    assert _clients(querywatch("alerts", "list", "--json", "--since", "30m", folder=folder)) == []


def test_list_says_when_there_are_more_and_when_there_are_none(
    querywatch: Querywatch, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert "newest 2 are shown" in querywatch("alerts", "list", "--limit", "2", folder=folder).stdout
    assert querywatch("alerts", "list", "--rule", "nothing", folder=folder).stdout == "no alerts match\n"
    empty = tmp_path_factory.mktemp("empty")
    assert querywatch("alerts", "list", folder=empty).stdout == "no alerts\n"
    assert list(empty.iterdir()) == [], "reading makes no file"


def test_show_holds_everything_an_analyst_needs_on_one_screen(querywatch: Querywatch, folder: Path) -> None:
    done = querywatch("alerts", "show", _id(folder, client="key-7")[:6].upper(), folder=folder)
    assert done.returncode == 0, done.stderr
    for part in (
        "CRITICAL  Query trajectory climbs towards one class",
        "evidence 8.4 against a threshold of 6",
        "key-7 (api_key) from 192.0.2.7",
        "inversion, aimed at approved",
        "AML.T0024.001 Invert AI Model (Exfiltration)",
        "0.1 / 1.2 / 2.3",
        "log10 e",
        "ascent",
        "prediction-events[2] offsets 1000 to 1300",
        "10:01:00 medium → 10:05:00 critical",
        "Whom does the model protect?",
        "round_scores",
        "querywatch alerts list --client key-7",
    ):
        assert part in done.stdout, part
    assert len(done.stdout.splitlines()) < 45


def test_show_never_proposes_a_command_with_a_strangers_text_in_it(querywatch: Querywatch, folder: Path) -> None:
    done = querywatch("alerts", "show", _id(folder, rule="other"), folder=folder)
    assert done.returncode == 0
    assert "--client" not in done.stdout
    assert not {"\x1b", "\r", "\u202e"} & set(done.stdout)


def test_show_as_json_gives_the_state_and_its_events(querywatch: Querywatch, folder: Path) -> None:
    done = querywatch("alerts", "show", "--json", _id(folder, client="key-7"), folder=folder)
    shown = json.loads(done.stdout)
    assert shown["alert"]["querywatch"]["severity"] == "critical"
    assert [e["event"]["action"] for e in shown["events"]] == ["alert-raised", "alert-escalated"]


def test_show_of_an_unknown_alert_says_how_to_find_one(querywatch: Querywatch, folder: Path) -> None:
    done = querywatch("alerts", "show", "0123456789", folder=folder)
    assert done.returncode == 1
    assert "starts with 0123456789" in done.stderr
    assert "querywatch alerts list" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("alerts", "list", "--since", "yesterday"), "such as 24h"),
        (("alerts", "list", "--severity", "huge"), "there are low, medium, high, critical"),
        (("alerts", "list", "--status", "open"), "there are new, acknowledged"),
        (("alerts", "show", "abc"), "4 to 32"),
        (("alerts", "show", "a7f…"), "4 to 32"),
        (("alerts", "list", "--limit", "0"), "--limit"),
        (("--config", "nowhere.toml", "alerts", "list"), "no such configuration file"),
        (("alertz",), "Did you mean 'alerts'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_clear_message(
    querywatch: Querywatch, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = querywatch(*arguments, folder=folder, COLUMNS="200")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_config_and_environment_reach_the_commands(querywatch: Querywatch, folder: Path) -> None:
    (folder / "other.toml").write_text('namespace = "elsewhere"\n')
    assert querywatch("--config", "other.toml", "alerts", "list", folder=folder).stdout == "no alerts\n"
    assert querywatch("alerts", "list", folder=folder, QUERYWATCH_NAMESPACE="elsewhere").stdout == "no alerts\n"
    wrong = querywatch("alerts", "list", folder=folder, QUERYWATCH_STORE="oracle")
    assert wrong.returncode == 2
    assert "store" in wrong.stderr


def test_a_file_that_is_no_store_is_a_clear_error(querywatch: Querywatch, folder: Path) -> None:
    (folder / "var" / "alerts.sqlite").unlink()
    (folder / "var" / "alerts.sqlite").write_bytes(b"certainly not a database, but long enough to look at" * 40)
    done = querywatch("alerts", "list", folder=folder)
    assert done.returncode == 1
    assert "damaged or no alert store" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_cluster_is_a_clear_error(querywatch: Querywatch, folder: Path) -> None:
    url = "http://127.0.0.1:9"  # the discard port: nobody listens
    done = querywatch(
        "alerts", "list", folder=folder, QUERYWATCH_STORE="elasticsearch", QUERYWATCH_ELASTICSEARCH__URL=url
    )
    assert done.returncode == 1
    assert url in done.stderr
    assert "Traceback" not in done.stderr


def test_setup_says_what_it_would_do_and_what_it_did(querywatch: Querywatch, tmp_path: Path) -> None:
    assert "would be made" in querywatch("setup", "--dry-run", folder=tmp_path).stdout
    assert not (tmp_path / "var").exists()
    made = json.loads(querywatch("setup", "--json", folder=tmp_path).stdout)
    assert made["store"] == "sqlite"
    assert "made" in made["steps"][0]
    assert "ready" in querywatch("setup", folder=tmp_path).stdout


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        (("list",), {"numba", "numpy", "river", "sklearn", "elasticsearch", "kafka"}),
        (("show", "ID"), {"numba", "numpy", "river", "sklearn", "elasticsearch", "kafka"}),
        (("ack", "ID"), {"numba", "numpy", "river", "sklearn", "elasticsearch", "kafka"}),
        (("explain", "ID"), {"numba", "river", "sklearn", "elasticsearch", "kafka"}),
        (("export", "ID"), {"numba", "river", "sklearn", "elasticsearch", "kafka"}),
        (("stats",), {"numba", "river", "sklearn", "elasticsearch", "kafka"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands_for_alerts_import_neither_kernels_nor_the_pipeline(
    folder: Path, command: tuple[str, ...], unwanted: set[str]
) -> None:
    arguments = [_id(folder, client="key-7") if word == "ID" else word for word in command]
    program = (
        f"import sys; sys.argv = ['querywatch', 'alerts', *{arguments}]\n"
        "from detector.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        f"heavy = {unwanted} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_version_and_help_are_there(querywatch: Querywatch, tmp_path: Path) -> None:
    assert querywatch("--version", folder=tmp_path).stdout.startswith("querywatch ")
    for arguments in (("--help",), ("-h",), ("alerts", "-h"), ("alerts", "list", "--help"), ("setup", "--help")):
        done = querywatch(*arguments, folder=tmp_path)
        assert done.returncode == 0
        assert "--help" in done.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ключ 💥", "plain ключ 💥"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\u202eb", r"a\u202eb"),
        ("\x9b31m", r"\x9b31m"),
        ("line\nbreak\u2028", r"line\x0abreak\u2028"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_control_and_format_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_with_a_sign() -> None:
    assert printable("x" * 100, 10) == "x" * 9 + "…"
    assert printable("x" * 10, 10) == "x" * 10
