"""`querywatch run` itself: the real pipeline on a real broker finds what a replay of the same records finds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detector.stores import AlertQuery
from detector.stores.sqlite import SqliteStore
from tests.integration.live import ROOT, committed, make_topic, produce, until
from tests.toy import Message

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def querywatch(*arguments: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "detector", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def done(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.decode()
    return out, err


def identity(document: dict[str, Any]) -> tuple[str, str, str]:
    own = document["querywatch"]
    return own["alert_id"], document["event"]["action"], own["severity"]


def found(path: Path, namespace: str) -> list[tuple[str, str, str]]:
    store = SqliteStore(path, namespace)
    try:
        ids = [doc["querywatch"]["alert_id"] for doc in store.list(AlertQuery(limit=100_000))]
        return sorted(identity(doc) for i in ids for doc in store.events(i))
    finally:
        store.close()


def messages_of(capture: Path) -> list[Message]:
    return [Message(0, "any", 0, line) for line in capture.read_bytes().splitlines()]


def settings(bootstrap: str, topic: str) -> dict[str, str]:
    return {
        "QUERYWATCH_NAMESPACE": topic,
        "QUERYWATCH_KAFKA__BOOTSTRAP": bootstrap,
        "QUERYWATCH_KAFKA__TOPIC": topic,
        "QUERYWATCH_KAFKA__GROUP": f"{topic}-group",
        "QUERYWATCH_KAFKA__INSTANCE_ID": "one",
        "QUERYWATCH_KAFKA__MAX_POLL_RECORDS": "500",
        "QUERYWATCH_STATE__SNAPSHOT_EVERY_S": "1",
    }


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world with attackers in it."""
    folder = tmp_path_factory.mktemp("capture")
    options = ["--out", "cap.jsonl", "--preset", "small", "--models", "digits-mlp", "--seed", "3"]
    options += ["--clients", "12", "--campaigns", "6"]
    done(querywatch("simulate", *options, folder=folder, environment={}))
    return folder / "cap.jsonl"


def replayed(capture: Path, namespace: str, folder: Path) -> list[tuple[str, str, str]]:
    options = ["--alerts-out", str(folder / "replay.jsonl"), "--json"]
    done(querywatch("replay", str(capture), *options, folder=folder, environment={"QUERYWATCH_NAMESPACE": namespace}))
    return sorted(identity(json.loads(line)) for line in (folder / "replay.jsonl").read_bytes().splitlines())


def test_live_and_replay_raise_the_same_alerts_even_when_live_is_killed_on_the_way(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path, capture: Path
) -> None:
    expected = replayed(capture, fresh_name, tmp_path)
    assert expected, "the simulation raised no alert: the comparison would say nothing"
    make_topic(kafka_bootstrap, fresh_name, 1)
    lines = messages_of(capture)
    environment = settings(kafka_bootstrap, fresh_name)
    half = len(lines) // 2
    produce(kafka_bootstrap, fresh_name, lines[:half])
    worker = querywatch("run", folder=tmp_path, environment=environment)
    until(lambda: (_committed(kafka_bootstrap, fresh_name) or 0) > 0, within_s=90)
    produce(kafka_bootstrap, fresh_name, lines[half:])
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    _, log = done(querywatch("run", "--until-end", "--json", folder=tmp_path, environment=environment))
    assert b"watching" in log
    assert _committed(kafka_bootstrap, fresh_name) == len(lines)
    assert found(tmp_path / "var" / "alerts.sqlite", fresh_name) == expected


def test_sigterm_ends_the_service_with_code_0_and_everything_committed(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path, capture: Path
) -> None:
    make_topic(kafka_bootstrap, fresh_name, 1)
    lines = messages_of(capture)[:800]
    produce(kafka_bootstrap, fresh_name, lines)
    worker = querywatch("run", folder=tmp_path, environment=settings(kafka_bootstrap, fresh_name))
    until(lambda: _committed(kafka_bootstrap, fresh_name) == len(lines), within_s=90)
    worker.send_signal(signal.SIGTERM)
    done(worker)


def test_wrong_settings_end_with_code_2_and_one_line(tmp_path: Path) -> None:
    worker = querywatch("run", folder=tmp_path, environment={"QUERYWATCH_KAFKA__IDLE_S": "soon"})
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 2
    assert b"kafka.idle_s" in err
    assert len(err.splitlines()) == 1


def _committed(bootstrap: str, topic: str) -> int | None:
    return committed(bootstrap, topic, 1)[0]
