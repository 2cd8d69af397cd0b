"""One live worker as a process of its own, around the toy pipeline. Crashes on order: only here, never in the service.

`python -m tests.integration.worker '<json>'` with the fields of `Order`; the last line it prints is its counters.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from detector.alerts import Document
from detector.service import Service, ServiceConfig
from detector.settings import ElasticsearchSettings, KafkaSettings
from detector.snapshot import Checkpoints, Snapshot
from detector.sources import Change
from detector.sources.kafka import KafkaDeadLetters, KafkaSource
from detector.stores import AlertStore, Written
from detector.stores.elastic import ElasticStore
from detector.stores.sqlite import SqliteStore
from tests.toy import ToyPipeline, decode


@dataclass
class Order:
    """What the worker is to do. `die_at` names a point, `die_after` how often it is passed alive."""

    bootstrap: str
    topic: str
    state: str
    sqlite: str = ""
    elasticsearch: str = ""
    instance_id: str = ""
    until_end: bool = True
    session_timeout_s: float = 6.0
    max_poll_records: int = 300
    snapshot_every_s: float = 0.3
    die_at: str = ""
    die_after: int = 0


class Doom:
    """Kills this very process with SIGKILL at the named point."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.left = order.die_after
        self.revoking = False

    def passing(self, point: str) -> None:
        """Die here, if it is the point and the time."""
        if point == self.order.die_at:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)


class DoomedSink:
    """A store whose answer may never arrive, though it wrote."""

    def __init__(self, store: AlertStore, doom: Doom) -> None:
        self.store = store
        self.doom = doom

    def write(self, documents: Sequence[Document]) -> Written:
        """Write, then perhaps die before answering."""
        written = self.store.write(documents)
        self.doom.passing("applied")
        return written


class DoomedCheckpoints(Checkpoints):
    """Checkpoints that may end half-written, or written and never committed."""

    doom: Doom

    def write(self, snapshot: Snapshot) -> None:
        """Write, with a point of death before the rename and one after it."""
        rename = Path.replace

        def doomed_rename(path: Path, target: Path) -> Path:
            self.doom.passing("before-rename")
            return rename(path, target)

        Path.replace = doomed_rename  # type: ignore[method-assign,assignment]
        try:
            super().write(snapshot)
        finally:
            Path.replace = rename  # type: ignore[method-assign]
        self.doom.passing("revoke" if self.doom.revoking else "before-commit")


class DoomedSource(KafkaSource):
    """A source that may die right after a commit, and tells when partitions are being given up."""

    doom: Doom

    def changes(self) -> list[Change]:
        """Note whether partitions are being given up."""
        changes = super().changes()
        self.doom.revoking = any(change.kind == "revoked" for change in changes)
        return changes

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit, with a point of death after it."""
        super().commit(offsets)
        self.doom.passing("committed")


def main(order: Order) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    doom = Doom(order)
    settings = KafkaSettings(
        bootstrap=order.bootstrap,
        topic=order.topic,
        group=f"{order.topic}-group",
        instance_id=order.instance_id,
        session_timeout_s=order.session_timeout_s,
        idle_s=0.3,
    )
    source = DoomedSource(settings, until_end=order.until_end)
    checkpoints = DoomedCheckpoints(order.state, settings.group)
    source.doom = checkpoints.doom = doom
    store = open_store(order)
    service = Service(
        source,
        decode,
        ToyPipeline(),
        DoomedSink(store, doom),
        KafkaDeadLetters(settings, 1 << 20),
        checkpoints=checkpoints,
        config=ServiceConfig(
            order.topic,
            "live",
            max_poll_records=order.max_poll_records,
            commit_every_s=0.1,
            snapshot_every_s=order.snapshot_every_s,
        ),
    )
    stop = threading.Event()
    ask: Callable[..., None] = lambda *_: stop.set()  # noqa: E731
    signal.signal(signal.SIGTERM, ask)
    counters = service.run(stop)
    store.close()
    print(json.dumps(counters.summary()))


def open_store(order: Order) -> AlertStore:
    """Return the store that the order names."""
    if order.sqlite:
        return SqliteStore(Path(order.sqlite), order.topic)
    return ElasticStore(ElasticsearchSettings(url=order.elasticsearch), order.topic, patience_s=2.0)


if __name__ == "__main__":
    main(Order(**json.loads(sys.argv[1])))
