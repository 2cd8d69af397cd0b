"""Alerts and dead letters on their way: what no store has acknowledged yet is kept here and tried again.

While anything waits, nothing new is read and nothing is committed, so the outbox stays as small as one batch's alerts.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import structlog

from detector.alerts import Document
from detector.deadletters import DeadLetters, rejected_alert
from detector.events import DeadLetter
from detector.stores import StoreUnavailableError, Written

log = structlog.get_logger()


class Sink(Protocol):
    """Takes alert documents: an alert store, or a file of a replay."""

    def write(self, documents: Sequence[Document]) -> Written:
        """Store alert events durably; StoreUnavailableError means that none is promised."""


@dataclass(slots=True)
class Counters:
    """What the service did, for metrics and for the summary at the end."""

    records: int = 0
    events: int = 0
    skipped: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # records, by reason
    alerts: int = 0
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    store_outages: int = 0
    checkpoints: int = 0
    checkpoint_failures: int = 0
    commits: int = 0
    commit_failures: int = 0
    assigned: int = 0
    revoked: int = 0
    lost: int = 0
    restored: int = 0  # partitions that went on from a checkpoint
    warmed_up: int = 0  # partitions that had to rewind, because no checkpoint was usable
    replayed: int = 0  # records read again below the committed offset
    missing: int = 0  # records that were gone from the log before they were read
    lag: int = 0  # records known to wait, at the last look

    def summary(self) -> dict[str, Any]:
        """Return plain values, for a log line or JSON."""
        return asdict(self) | {"refused": dict(self.refused)}


class Backoff:
    """Growing waits with jitter, so that many workers do not come back at the same instant."""

    def __init__(self, first_s: float = 0.2, longest_s: float = 15.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._random = random.Random()  # noqa: S311 (spreads load; nothing secret and nothing detected depends on it)
        self.failures = 0

    def next_s(self) -> float:
        """Count one more failure and return how long to wait."""
        wait_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return wait_s * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again after a success."""
        self.failures = 0


class Outbox:
    """Delivers documents to the sink and letters to the dead-letter store, retrying for as long as it takes."""

    def __init__(
        self, sink: Sink, dead_letters: DeadLetters, counters: Counters, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink = sink
        self._dead_letters = dead_letters
        self._counters = counters
        self._clock = clock
        self._documents: list[Document] = []
        self._letters: list[DeadLetter] = []
        self._backoff = Backoff()
        self._next_try_s = 0.0

    def add(self, documents: Sequence[Document] = (), letters: Sequence[DeadLetter] = ()) -> None:
        """Take what has to be delivered before anything more is committed."""
        self._documents += documents
        self._letters += letters

    def __len__(self) -> int:
        return len(self._documents) + len(self._letters)

    def wait_s(self) -> float:
        """Return how long until the next try makes sense."""
        return max(0.0, self._next_try_s - self._clock()) if len(self) else 0.0

    def flush(self) -> bool:
        """Deliver what waits, unless it is too soon for the next try; True when nothing waits any more."""
        if not len(self):
            return True
        if self._clock() < self._next_try_s:
            return False
        try:
            self._deliver()
        except StoreUnavailableError as error:
            self._failed(str(error))
            return False
        if self._backoff.failures:
            log.info("store is back", retries=self._backoff.failures)
            self._backoff.reset()
        return True

    def _deliver(self) -> None:
        if self._documents:
            written = self._sink.write(self._documents)
            self._documents = []
            self._counters.stored += written.stored
            self._counters.duplicates += written.duplicates
            self._letters += [rejected_alert(rejected) for rejected in written.rejected]
            self._counters.refused.update(
                rejected.reason.value for rejected in self._letters[len(self._letters) - len(written.rejected) :]
            )
        if self._letters:
            self._dead_letters.write(self._letters)
            self._counters.dead_letters += len(self._letters)
            self._letters = []

    def _failed(self, error: str) -> None:
        if not self._backoff.failures:
            self._counters.store_outages += 1
            log.warning(
                "store unavailable: reading is paused, nothing is committed, trying again",
                error=error,
                waiting=len(self),
            )
        self._next_try_s = self._clock() + self._backoff.next_s()
