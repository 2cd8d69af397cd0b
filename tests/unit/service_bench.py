"""What tests of the loop share: a store and dead letters that can fail, and all that outlives a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from detector.alerts import Document
from detector.events import DeadLetter
from detector.outbox import Counters
from detector.service import Service, ServiceConfig
from detector.snapshot import Checkpoints
from detector.sources import PartitionedSource
from detector.stores import AlertQuery, Rejected, StoreUnavailableError, Written
from detector.stores.sqlite import SqliteStore
from tests.memory import MemoryLog, MemorySource
from tests.toy import ToyPipeline, decode

NAMESPACE = "toy"
EAGER = ServiceConfig(NAMESPACE, "live", commit_every_s=0, snapshot_every_s=0, idle_s=0, deadline_s=0.3)


class Crash(BaseException):
    """The process ends here: nothing may catch it."""


class Store:
    """A real SQLite store that can be made to fail: before it writes, or after it wrote and before it answers."""

    def __init__(self, folder: Path) -> None:
        self.sqlite = SqliteStore(folder / "alerts.sqlite", NAMESPACE)
        self.sqlite.setup()
        self.failures = 0  # how many writes to refuse
        self.crash_after: int | None = None  # writes until the process dies between the write and its answer
        self.refuse: Callable[[Document], str | None] = lambda _: None
        self.writes = 0

    def write(self, documents: Sequence[Document]) -> Written:
        self.writes += 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("down for the test")
        refused = [Rejected(doc, reason) for doc in documents if (reason := self.refuse(doc)) is not None]
        kept = [doc for doc in documents if doc not in [r.document for r in refused]]
        written = self.sqlite.write(kept)
        if self.crash_after is not None and self.writes > self.crash_after:
            raise Crash
        written.rejected += refused
        return written

    def ids(self) -> list[str]:
        return [doc["querywatch"]["alert_id"] for doc in self.sqlite.list(AlertQuery(limit=100_000))]


class Letters:
    """Dead letters kept in memory."""

    def __init__(self) -> None:
        self.kept: list[DeadLetter] = []
        self.failures = 0

    def write(self, letters: Sequence[DeadLetter]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("dead letters down for the test")
        self.kept += letters

    def close(self) -> None:
        pass


class Bench:
    """Everything that outlives one run of the service."""

    def __init__(self, folder: Path, log: MemoryLog) -> None:
        self.folder = folder
        self.log = log
        self.store = Store(folder)
        self.letters = Letters()
        self.pipeline = ToyPipeline()
        self.checkpoints: Checkpoints | None = Checkpoints(str(folder / "state"), "g")

    def service(self, source: PartitionedSource | None = None, config: ServiceConfig = EAGER) -> Service:
        self.pipeline = ToyPipeline()
        return Service(
            source or MemorySource(self.log), decode, self.pipeline, self.store, self.letters,
            checkpoints=self.checkpoints, config=config,
        )  # fmt: skip

    def run(self, source: PartitionedSource | None = None, config: ServiceConfig = EAGER) -> Counters:
        return self.service(source, config).run(threading.Event())
