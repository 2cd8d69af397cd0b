"""The embedded alert store: one SQLite file, nothing to run.

Write-ahead log, one transaction a write, durable before `write` returns; several processes may share the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from detector.alerts import Document, rfc3339
from detector.lifecycle import Change, RefusedError
from detector.stores import AlertQuery, Documents, Rejected, StoreUnavailableError, Triaged, Written, episodes

_FIRST = """
CREATE TABLE alert_event (
    namespace TEXT NOT NULL, event_id TEXT NOT NULL, alert_id TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (namespace, event_id)
) WITHOUT ROWID;
CREATE INDEX alert_event_by_alert ON alert_event (namespace, alert_id);
CREATE TABLE alert_state (
    namespace TEXT NOT NULL, alert_id TEXT NOT NULL, last_seen TEXT NOT NULL, severity TEXT NOT NULL,
    rule TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL, clients TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (namespace, alert_id)
) WITHOUT ROWID;
CREATE INDEX alert_state_by_time ON alert_state (namespace, last_seen);
CREATE TABLE replay_event (
    namespace TEXT NOT NULL, replay_id TEXT NOT NULL, alert_id TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (namespace, replay_id)
) WITHOUT ROWID;
CREATE INDEX replay_event_by_alert ON replay_event (namespace, alert_id);
"""
_TRIAGE = """
ALTER TABLE alert_state ADD COLUMN assignee TEXT NOT NULL DEFAULT '';
DROP INDEX alert_state_by_time;
CREATE INDEX alert_state_lookup ON alert_state
    (namespace, last_seen DESC, alert_id, severity, rule, model, status, assignee, clients);
CREATE TABLE triage_log (
    namespace TEXT NOT NULL, alert_id TEXT NOT NULL, entry_id TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (namespace, alert_id, entry_id)
) WITHOUT ROWID;
"""
SCHEMAS = (_FIRST, _TRIAGE)  # each makes of the tables of one version those of the next
SCHEMA_VERSION = len(SCHEMAS)
_NOT_TRIAGED = "results of replays are not triaged"


Rows = list[Any]  # the store has a method `list`, which hides the type below it


class SqliteStore:
    """Alerts of one namespace in the file `path`; with `replay` the reading side shows what replays found.

    `busy_s` is how long to wait while another process writes.
    """

    def __init__(self, path: Path, namespace: str, *, replay: bool = False, busy_s: float = 10.0) -> None:
        self.path = path
        self.namespace = namespace
        self.replay = replay
        self._busy_s = busy_s
        self._connection: sqlite3.Connection | None = None

    def setup(self, *, dry_run: bool = False) -> list[str]:
        """Make the file and its tables."""
        if dry_run:
            return [f"{self.path}: {'exists' if self.path.exists() else 'would be made'}"]
        existed = self.path.exists()
        with self._errors():
            self._open()
        return [f"{self.path}: {'ready' if existed else 'made'}, tables of version {SCHEMA_VERSION}"]

    def write(self, documents: Sequence[Document]) -> Written:
        """Store alert events and the states of their episodes in one transaction."""
        written = Written()
        if not documents:
            return written
        with self._errors(), self._transaction() as db:
            for document in documents:
                self._write_one(db, document, written)
        return written

    def _write_one(self, db: sqlite3.Connection, document: Document, written: Written) -> None:
        try:
            body = episodes.serialise(episodes.received(document))
        except TypeError as error:
            written.rejected.append(Rejected(document, f"not valid JSON: {error}"))
            return
        if episodes.is_replay(document):
            table, identity = "replay_event (namespace, replay_id, alert_id, document)", episodes.replay_id(document)
        else:
            table, identity = "alert_event (namespace, event_id, alert_id, document)", episodes.event_id(document)
        alert = episodes.alert_id(document)
        insert = f"INSERT INTO {table} VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608  table: a constant of two
        if db.execute(insert, (self.namespace, identity, alert, body)).rowcount == 0:
            written.duplicates += 1
            return
        written.stored += 1
        if not episodes.is_replay(document):
            self._write_state(db, alert, document)

    def _write_state(self, db: sqlite3.Connection, alert: str, document: Document) -> None:
        select = "SELECT document FROM alert_state WHERE namespace = ? AND alert_id = ?"
        row = db.execute(select, (self.namespace, alert)).fetchone()
        state = episodes.merge(orjson.loads(row[0]), [document]) if row else episodes.begin([document])
        state = episodes.mark(state, [episodes.event_id(document)])  # the same transaction holds both
        self._save(db, state)

    def _save(self, db: sqlite3.Connection, state: Document) -> None:
        own = state["querywatch"]
        columns = (
            self.namespace,
            own["alert_id"],
            state["@timestamp"],
            own["severity"],
            state["rule"]["id"],
            own["model"]["name"],
            own["status"],
            orjson.dumps(state["related"]["user"]).decode(),
            episodes.serialise(state),
            own.get("assignee", ""),
        )
        db.execute("INSERT OR REPLACE INTO alert_state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", columns)

    def triage(self, alert_ids: Sequence[str], change: Change) -> Sequence[Triaged]:
        """Apply an analyst's change and its log entries in one transaction."""
        if self.replay:
            return [Triaged(alert, None, _NOT_TRIAGED) for alert in alert_ids]
        if not alert_ids:
            return []
        with self._errors(), self._transaction() as db:
            return [self._triage_one(db, alert, change) for alert in dict.fromkeys(alert_ids)]

    def _triage_one(self, db: sqlite3.Connection, alert: str, change: Change) -> Triaged:
        select = "SELECT document FROM alert_state WHERE namespace = ? AND alert_id = ?"
        row = db.execute(select, (self.namespace, alert)).fetchone()
        if row is None:
            return Triaged(alert, None, "there is no such alert")
        try:
            state = episodes.triaged(orjson.loads(row[0]), change)
        except RefusedError as error:
            return Triaged(alert, None, str(error))
        entries = [
            (self.namespace, alert, episodes.event_id(entry), episodes.serialise(entry))
            for entry in state["querywatch"]["unlogged"]
        ]
        db.executemany("INSERT OR REPLACE INTO triage_log VALUES (?, ?, ?, ?)", entries)
        state = episodes.logged(state, [entry_id for _, _, entry_id, _ in entries])
        self._save(db, state)
        return Triaged(alert, episodes.public(state))

    def log(self, alert_id: str = "") -> Documents:
        """Return the triage log of one alert, or of all."""
        if self.replay:
            return []
        select, values = "SELECT document FROM triage_log WHERE namespace = ?", [self.namespace]
        if alert_id:
            select, values = f"{select} AND alert_id = ?", [*values, alert_id]
        return episodes.log_order(self._read(select, values))

    def list(self, query: AlertQuery) -> Documents:
        """Return alert states, newest first."""
        since = "" if query.since_us is None else rfc3339(query.since_us)
        until = "" if query.until_us is None else rfc3339(query.until_us)
        if self.replay:
            rows = self._read("SELECT document FROM replay_event WHERE namespace = ?", [self.namespace])
            states = [s for s in episodes.replayed_states(rows) if episodes.matches(s, query, since, until)]
            return [episodes.project(s, query.fields) for s in episodes.newest_first(states)[: query.limit]]
        conditions, values = ["namespace = ?"], [self.namespace]
        for condition, value in (
            ("last_seen >= ?", since),
            ("last_seen < ?", until),
            ("rule = ?", query.rule),
            ("model = ?", query.model),
            ("EXISTS (SELECT 1 FROM json_each(clients) WHERE value = ?)", query.client),
            ("status = ?", query.status),
            ("assignee = ?", query.owner),
        ):
            if value:
                conditions.append(condition)
                values.append(value)
        if query.severities:
            conditions.append(f"severity IN ({', '.join('?' * len(query.severities))})")
            values.extend(query.severities)
        order = "ORDER BY last_seen DESC, alert_id"
        # what is looked for stands in an index of its own, and + keeps SQLite from walking that index for the order:
        # documents are read of alerts that match only
        chosen = f"SELECT alert_id FROM alert_state WHERE {' AND '.join(conditions)} {order} LIMIT ?"  # noqa: S608
        where = f"FROM alert_state WHERE namespace = ? AND alert_id IN ({chosen}) ORDER BY +last_seen DESC, alert_id"
        asked = [self.namespace, *values, query.limit]
        if not query.fields:
            return [episodes.public(state) for state in self._read(f"SELECT document {where}", asked)]
        paths = [f"$.{name}" for name in ("ecs.version", *query.fields)]  # two at least make an array
        select = f"SELECT json_extract(CAST(document AS TEXT), {', '.join('?' * len(paths))}) {where}"
        return [episodes.nested(query.fields, row[1:]) for row in self._read(select, [*paths, *asked])]

    def get(self, alert_id: str) -> Document | None:
        """Return one alert state by its id or an unambiguous start of it."""
        if not episodes.is_id_start(alert_id):
            return None
        span = [self.namespace, alert_id, alert_id + "\U0010ffff"]
        table = "replay_event" if self.replay else "alert_state"
        select = f"SELECT document FROM {table} WHERE namespace = ? AND alert_id >= ? AND alert_id < ?"  # noqa: S608
        if self.replay:
            found = episodes.replayed_states(self._read(select, span))
        else:
            found = [episodes.public(state) for state in self._read(f"{select} LIMIT 2", span)]
        return found[0] if len(found) == 1 else None

    def events(self, alert_id: str) -> Documents:
        """Return the alert events of one episode, oldest first."""
        table = "replay_event" if self.replay else "alert_event"
        select = f"SELECT document FROM {table} WHERE namespace = ? AND alert_id = ?"  # noqa: S608  a constant of two
        found = self._read(select, [self.namespace, alert_id])
        return episodes.newest_replay(found) if self.replay and found else episodes.in_order(found)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, select: str, values: Sequence[Any]) -> Rows:
        if self._connection is None and not self.path.exists():
            return []  # reading makes no file
        with self._errors():
            return [orjson.loads(row[0]) for row in self._open().execute(select, values)]

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, db: sqlite3.Connection) -> None:
        version = self._version(db)
        if version == 0:
            db.execute("PRAGMA journal_mode = WAL")
        if version < SCHEMA_VERSION:
            db.execute("BEGIN IMMEDIATE")
            version = self._version(db)  # another process may have been faster
            for schema in SCHEMAS[version:]:
                for statement in schema.split(";\n"):
                    db.execute(statement)
            version = max(version, SCHEMA_VERSION)
            db.execute(f"PRAGMA user_version = {version}")
            db.execute("COMMIT")
        if version > SCHEMA_VERSION:
            raise StoreUnavailableError(
                f"{self.path} was made by a newer querywatch (tables of version {version}, this one knows"
                f" {SCHEMA_VERSION}): upgrade, or set [sqlite] path to another file"
            )
        db.execute(
            "PRAGMA synchronous = FULL"
        )  # with the write-ahead log, NORMAL may lose the last commits in a power cut

    @staticmethod
    def _version(db: sqlite3.Connection) -> int:
        return int(db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into one clear error."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreUnavailableError(f"{self.path}: {error}{_advice(str(error))}") from error
        except sqlite3.DatabaseError as error:
            self.close()
            raise StoreUnavailableError(
                f"{self.path} is damaged or no alert store ({error}): move it away, or restore it from a backup"
            ) from error
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: {error.strerror or error}: check [sqlite] path") from error


def _advice(text: str) -> str:
    for sign, advice in (
        ("locked", "another process holds it for long"),
        ("readonly", "it or its folder cannot be written: check the owner and the mount"),
        ("unable to open", "check that the folder exists and can be read and written"),
        ("full", "free some space"),
    ):
        if sign in text:
            return f": {advice}"
    return ""
