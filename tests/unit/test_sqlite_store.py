"""The embedded store when files, disks and other processes stand in its way."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detector.lifecycle import Change
from detector.stores import AlertQuery, StoreUnavailableError, episodes
from detector.stores.sqlite import SCHEMA_VERSION, SCHEMAS, SqliteStore
from tests.alert_samples import make_document

NS = "default"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "alerts.sqlite"


def test_a_file_locked_for_long_is_unavailable_and_then_takes_the_alert(path: Path) -> None:
    store = SqliteStore(path, NS, busy_s=0.05)
    store.setup()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked: another process holds it"):
        store.write([make_document(NS)])
    assert store.list(AlertQuery()) == [], "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert store.write([make_document(NS)]).stored == 1
    store.close()


def test_a_damaged_file_is_named(path: Path) -> None:
    store = SqliteStore(path, NS)
    store.write([make_document(NS, client_id=f"key-{i}") for i in range(200)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = os.urandom(len(content) // 2 - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreUnavailableError, match="damaged or no alert store"):
        SqliteStore(path, NS).list(AlertQuery(limit=1000))


def test_a_path_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailableError, match="sqlite"):
        SqliteStore(tmp_path / "file" / "alerts.sqlite", NS).write([make_document(NS)])
    (tmp_path / "dir.sqlite").mkdir()
    with pytest.raises(StoreUnavailableError, match="unable to open"):
        SqliteStore(tmp_path / "dir.sqlite", NS).write([make_document(NS)])


def test_a_full_disk_stores_nothing_by_halves(path: Path) -> None:
    store = SqliteStore(path, NS)
    store.setup()
    store._open().execute("PRAGMA max_page_count = 40")  # what SQLite reports is what a full disk gives
    with pytest.raises(StoreUnavailableError, match="full: free some space"):
        store.write([make_document(NS, client_id=f"key-{i}") for i in range(500)])
    assert store.list(AlertQuery()) == []
    assert store.write([make_document(NS)]).stored == 1
    store.close()


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    store = SqliteStore(path, NS)
    store.setup()
    store.close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreUnavailableError, match="newer querywatch"):
        SqliteStore(path, NS).list(AlertQuery())


def test_a_file_of_an_older_version_is_brought_up_with_its_alerts(path: Path) -> None:
    path.parent.mkdir()
    document = make_document(NS)
    state = episodes.mark(episodes.begin([document]), [document["event"]["id"]])
    del state["querywatch"]["raised_at"]
    identity = document["querywatch"]["alert_id"]
    columns = (NS, identity, document["@timestamp"], "medium", "r", "credit", "new", "[]", episodes.serialise(state))
    db = sqlite3.connect(path)
    db.executescript(SCHEMAS[0])
    db.execute("INSERT INTO alert_state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", columns)
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    stores = [SqliteStore(path, NS) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert [len(found) for found in pool.map(lambda s: s.list(AlertQuery()), stores)] == [1] * 4
    (done,) = stores[0].triage([identity], Change("ack", "anna", 1))
    assert done.refused == ""
    assert len(stores[1].list(AlertQuery(owner="anna"))) == len(stores[2].log(identity)) == 1
    for store in stores:
        store.close()


def test_namespaces_share_a_file_and_not_their_alerts(path: Path) -> None:
    one, two = SqliteStore(path, "one"), SqliteStore(path, "two")
    one.write([make_document("one")])
    assert two.list(AlertQuery()) == []
    two.write([make_document("two")])
    assert len(one.list(AlertQuery())) == len(two.list(AlertQuery())) == 1
    one.close()
    two.close()


def test_what_write_returned_is_there_after_kill_minus_nine(path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from detector.stores.sqlite import SqliteStore\n"
        "from tests.alert_samples import make_document\n"
        "store = SqliteStore(pathlib.Path(sys.argv[1]), 'default')\n"
        "for i in range(10_000):\n"
        "    store.write([make_document('default', client_id=f'key-{i}')])\n"
        "    print(i, flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout is not None
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line) + 1
        if acknowledged == 20:
            writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    store = SqliteStore(path, NS)
    found = {s["user"]["id"] for s in store.list(AlertQuery(limit=20_000))}
    store.close()
    assert acknowledged >= 20
    assert found >= {f"key-{i}" for i in range(acknowledged)}
