"""The one loop: poll → decode → merge → detect → deliver → snapshot → commit. Live and replay are the same loop.

What it promises: an offset is committed only when every alert and dead letter of the records below it is acknowledged
by its store. After a crash the newest checkpoint at or below the committed offset is restored and the stream is read
again from there; the same queries give the same alert ids, which the store counts as duplicates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import structlog

from detector.alerts import Alert, Document, Engine, document
from detector.deadletters import DeadLetters
from detector.events import Decoded, EventBatch, Records
from detector.merge import NO_PROGRESS, Merge
from detector.outbox import Counters, Outbox, Sink
from detector.shortage import Shortage
from detector.snapshot import Checkpoints, Position, Snapshot, SnapshotError
from detector.sources import PartitionedSource, SourceUnavailableError, Start

log = structlog.get_logger()
SHOWN = 20  # starved detectors in one line of the log
Array = np.ndarray[Any, np.dtype[Any]]


class Pipeline(Protocol):
    """All of detection: a fold over the stream, whatever the batches."""

    fingerprint: str  # of the detectors' versions, the rules and the layout of the state

    def process(self, batch: EventBatch) -> list[Alert]:
        """Take the next events and return the alerts that they raise."""

    def close(self) -> list[Alert]:
        """Judge what is still waiting, at the end of a finite stream."""

    def export_partition(self, partition: int) -> dict[str, Array]:
        """Return a copy of all state of one partition, as plain arrays."""

    def import_partition(self, partition: int, arrays: Mapping[str, Array]) -> None:
        """Take over what `export_partition` returned."""

    def drop_partition(self, partition: int) -> None:
        """Forget all state of one partition."""

    def shortages(self) -> list[Shortage]:
        """Return which detectors see too little of which models, since the start."""


class Stop(Protocol):
    """Says when to stop: a `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the service has been asked to stop."""

    def wait(self, timeout: float) -> bool:
        """Wait until it is asked, or for the time given."""


@dataclass(slots=True, frozen=True)
class ServiceConfig:
    """How the loop behaves; times in seconds of the wall clock."""

    namespace: str
    mode: Literal["live", "replay"]  # written into documents; the loop does not look at it
    max_poll_records: int = 4000
    poll_s: float = 0.5
    idle_s: float = 0.3
    commit_every_s: float = 1.0
    snapshot_every_s: float = 30.0
    warm_up_records: int = 100_000  # read again, a partition, when no checkpoint is usable
    report_every_s: float = 60.0
    deadline_s: float = 20.0  # for everything that a stop has to finish


class UndeliveredError(Exception):
    """The service ended before all was delivered and committed; nothing is lost: the next start reads it again."""


class Service:
    """Runs the loop over one source. `checkpoints` is None where the stream ends for good (a replay)."""

    def __init__(
        self,
        source: PartitionedSource,
        decode: Callable[[Records], Decoded],
        pipeline: Pipeline,
        sink: Sink,
        dead_letters: DeadLetters,
        *,
        checkpoints: Checkpoints | None,
        config: ServiceConfig,
        rest: Callable[[], EventBatch] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.counters = Counters()
        self._source = source
        self._decode = decode
        self._rest = rest  # of a finite stream: the events that waited in the decoder
        self._pipeline = pipeline
        self._dead_letters = dead_letters
        self._checkpoints = checkpoints
        self._config = config
        self._clock = clock
        self._now_us = now_us
        self._outbox = Outbox(sink, dead_letters, self.counters, clock)
        self._merge = Merge()
        self._next: dict[int, int] = {}  # partition → offset after the last record read
        self._committed: dict[int, int] = {}
        self._gaps: dict[int, str] = {}  # partition → what is missing from its state
        self._ended_since: dict[int, float] = {}
        self._commit_at = clock()
        self._snapshot_at = clock() + config.snapshot_every_s
        self._report_at = clock() + config.report_every_s
        self._ended = False
        self._unready: list[int] = []
        self._restore_failed = False

    def run(self, stop: Stop) -> Counters:
        """Run until the source ends or `stop` is set; UndeliveredError when the end could not be finished in time."""
        try:
            while not stop.is_set() and self.step():
                pass
            self._finish(stop)
        finally:
            self._source.close()
            self._dead_letters.close()
        return self.counters

    def step(self) -> bool:
        """Turn the loop once; False at the end of the source."""
        records = self._source.poll(self._config.max_poll_records, self._patience_s())
        for kind, partitions in self._source.changes():
            turn = {"assigned": self._assign, "revoked": self._revoke, "lost": self._lose}[kind]
            for partition in partitions:
                turn(partition)
        self._restore_waiting()
        if records is None:
            self._ended = True
            if self._rest is not None:
                self._hold(self._rest())
            return False
        self._take(records)
        if self._outbox.flush():
            self._merge.declare_idle(self._idle())
            self._release()
            self._checkpoint_if_due()
        self._report_if_due()
        self._source.pause(self._merge.partitions if len(self._outbox) else self._merge.ahead())
        return True

    def _report_if_due(self) -> None:
        """Write one line on how it goes, and on what the detectors cannot see."""
        now = self._clock()
        if now < self._report_at:
            return
        self._report_at = now + self._config.report_every_s
        counted, shortages = self.counters, self._pipeline.shortages()
        starved = [str(shortage) for shortage in shortages[:SHOWN]] + ["…"] * (len(shortages) > SHOWN)
        log.info(
            "progress", records=counted.records, events=counted.events, refused=sum(counted.refused.values()),
            alerts=counted.alerts, lag=counted.lag, starved=starved,
        )  # fmt: skip

    def _patience_s(self) -> float:
        """Wait for records only as long as nothing else is due."""
        if len(self._outbox):
            return min(self._config.poll_s, self._outbox.wait_s())
        return min(self._config.poll_s, max(self._config.idle_s, 0.01)) if self._merge.rows() else self._config.poll_s

    def _take(self, records: Records) -> None:
        if not len(records.offsets):
            return
        decoded = self._decode(records)
        self._next.update(zip(records.partitions, (offset + 1 for offset in records.offsets), strict=True))
        for partition in set(records.partitions):
            self._ended_since.pop(partition, None)
        self._hold(decoded.batch)
        self._outbox.add(letters=decoded.refused)
        self.counters.records += len(records.offsets)
        self.counters.skipped += decoded.skipped
        self.counters.refused.update(letter.reason.value for letter in decoded.refused)

    def _hold(self, batch: EventBatch) -> None:
        self._merge.add(batch)
        self.counters.events += len(batch)

    def _idle(self) -> list[int]:
        """Name the partitions that have been at their end for `idle_s`: a restart of the clock at every new record."""
        now, ended = self._clock(), self._source.ended()
        self._ended_since = {p: self._ended_since.get(p, now) for p in ended}
        return [p for p, since in self._ended_since.items() if now - since >= self._config.idle_s]

    def _release(self, *, everything: bool = False) -> None:
        batch = self._merge.release(everything=everything)
        if batch is not None:
            self._raise(self._pipeline.process(batch))

    def _raise(self, alerts: list[Alert]) -> None:
        """Hand alerts over for delivery, and try at once."""
        if alerts:
            self.counters.alerts += len(alerts)
            self._outbox.add([self._document(alert) for alert in alerts])
        self._outbox.flush()

    def _document(self, alert: Alert) -> Document:
        doc = document(alert, Engine(self._config.namespace, self._config.mode, self._now_us()))
        gap = self._gaps.get(alert.span.partition)
        if gap is not None:
            doc["querywatch"]["state_gap"] = gap
        return doc

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        now = self._clock()
        if self._checkpoints is None or now < self._commit_at:
            return
        snapshot = now >= self._snapshot_at
        self._checkpoint(self._merge.partitions, snapshot=snapshot)
        now = self._clock()
        self._commit_at = now + self._config.commit_every_s
        if snapshot:
            self._snapshot_at = now + self._config.snapshot_every_s

    def _checkpoint(self, partitions: Collection[int], *, snapshot: bool) -> bool:
        """Snapshot, then commit, then forget old snapshots; nothing of that while an alert waits for its store."""
        if self._checkpoints is None or not self._outbox.flush():
            return False
        cut = {p: self._cut(p) for p in partitions if p in self._next}
        self.counters.lag = self._source.lag(cut)
        written = [p for p in cut if snapshot and self._write_snapshot(self._checkpoints, p, cut[p])]
        if not self._commit({p: offset for p, offset in cut.items() if offset > self._committed.get(p, -1)}):
            return False
        for p in written:
            self._prune(self._checkpoints, p, self._committed[p])
        return True

    def _cut(self, partition: int) -> int:
        """Return the offset below which every record is in the state: what waits in the merge is not."""
        waiting = self._merge.first_waiting(partition)
        return self._next[partition] if waiting is None else waiting

    def _write_snapshot(self, checkpoints: Checkpoints, partition: int, offset: int) -> bool:
        position = Position(self._source.name, partition, offset, self._merge.progress(partition))
        arrays = self._pipeline.export_partition(partition)
        try:
            checkpoints.write(Snapshot(position, self._pipeline.fingerprint, self._source.generation, arrays))
        except SnapshotError as error:
            self.counters.checkpoint_failures += 1
            log.error("checkpoint not written: an older one serves, a restart reads more again", error=str(error))
            return False
        self.counters.checkpoints += 1
        return True

    def _commit(self, offsets: dict[int, int]) -> bool:
        if not offsets:
            return True
        try:
            self._source.commit(offsets)
        except SourceUnavailableError as error:
            self.counters.commit_failures += 1
            log.warning("offsets not committed: a restart reads more again", error=str(error))
            return False
        self._committed.update(offsets)
        self.counters.commits += 1
        return True

    def _prune(self, checkpoints: Checkpoints, partition: int, committed: int) -> None:
        try:
            checkpoints.prune(self._source.name, partition, committed)
        except SnapshotError as error:
            log.warning("old checkpoints not removed", error=str(error))

    # --- partitions come and go ----------------------------------------------------------------------------------

    def _assign(self, partition: int) -> None:
        """Hold the others back until the partition is ready: its events may be the older ones."""
        self.counters.assigned += 1
        if partition in self._next:  # the source lost its place in the log: start again from what is known for sure
            self._let_go(partition)
        self._merge.assign(partition)
        self._unready.append(partition)

    def _restore_waiting(self) -> None:
        """Make assigned partitions ready; what cannot be reached now is tried again at the next turn."""
        while self._unready:
            try:
                self._restore(self._unready[0])
            except (SourceUnavailableError, SnapshotError) as error:
                if not self._restore_failed:
                    log.warning("partition not ready, trying again", partition=self._unready[0], error=str(error))
                self._restore_failed = True
                return
            self._restore_failed = False
            self._unready.pop(0)

    def _restore(self, partition: int) -> None:
        """Restore, seek, then ready."""
        committed = self._source.committed(partition)
        snapshot = self._search(partition, committed)
        if snapshot is not None:
            wanted: int | None = snapshot.position.offset
        else:
            wanted = self._rewound(partition, committed)
        start = self._source.start(partition, wanted)
        if start.missing:
            self._note_gap(partition, wanted, start)
        if start.missing < 0:  # the log is another one than the committed offset and the snapshot speak of
            committed = snapshot = None
        if snapshot is not None:
            self._pipeline.import_partition(partition, snapshot.arrays)
            self.counters.restored += 1
        self._merge.assign(partition, NO_PROGRESS if snapshot is None else snapshot.position.progress_us)
        self._next[partition] = start.offset
        if committed is not None:
            self._committed[partition] = committed
            self.counters.replayed += max(0, committed - start.offset)
        elif self._checkpoints is not None:
            self._commit({partition: start.offset})  # the first start happens once: a crash now must not move it
        restored = snapshot is not None
        log.info("partition ready", partition=partition, offset=start.offset, committed=committed, restored=restored)

    def _search(self, partition: int, committed: int | None) -> Snapshot | None:
        if self._checkpoints is None:
            return None
        found = self._checkpoints.newest(self._source.name, partition, self._pipeline.fingerprint, committed=committed)
        for reason in found.refused:
            log.warning("checkpoint refused, trying an older one", reason=reason)
        if found.snapshot is not None and committed is None:
            log.error("the committed offset is gone: going on from the newest checkpoint", partition=partition)
        return found.snapshot

    def _rewound(self, partition: int, committed: int | None) -> int | None:
        """Return where to read from without a checkpoint: a warm-up before the committed offset, alerts on."""
        if not committed or self._checkpoints is None:
            return committed
        offset = max(0, committed - self._config.warm_up_records)
        self.counters.warmed_up += 1
        log.warning(
            "no usable checkpoint: rewinding to warm up, alerts on",
            partition=partition,
            committed=committed,
            offset=offset,
        )
        return offset

    def _note_gap(self, partition: int, wanted: int | None, start: Start) -> None:
        self.counters.missing += max(0, start.missing)
        self._gaps[partition] = f"offset {wanted} was not in the log any more, read on from {start.offset}"
        log.error(
            "records are missing from the log: alerts of this partition are flagged",
            partition=partition, wanted=wanted, offset=start.offset,
        )  # fmt: skip

    def _revoke(self, partition: int) -> None:
        """Deliver, snapshot, commit, let go; without a commit when the store is away: the next owner repeats."""
        self.counters.revoked += 1
        if partition in self._next and not self._checkpoint([partition], snapshot=True):
            log.warning("partition given up without a commit: its next owner reads more again", partition=partition)
        self._let_go(partition)

    def _lose(self, partition: int) -> None:
        """Drop without a commit: another worker has it already."""
        self.counters.lost += 1
        log.warning("partition lost to another worker: its state is dropped without a commit", partition=partition)
        self._let_go(partition)

    def _let_go(self, partition: int) -> None:
        self._unready = [p for p in self._unready if p != partition]
        self._merge.drop(partition)
        self._pipeline.drop_partition(partition)
        for known in (self._next, self._committed, self._gaps, self._ended_since):
            known.pop(partition, None)

    # --- the end -------------------------------------------------------------------------------------------------

    def _finish(self, stop: Stop) -> None:
        """Deliver everything and take the last checkpoint, within the deadline once `stop` is set."""
        deadline = self._clock() + self._config.deadline_s
        self._drain(stop, deadline)
        if self._ended:
            self._release(everything=True)
            self._drain(stop, deadline)
            if self._checkpoints is None:  # a stream with checkpoints goes on another time; this one never does
                self._raise(self._pipeline.close())
                self._drain(stop, deadline)
        if self._checkpoints is not None and not self._checkpoint(self._merge.partitions, snapshot=True):
            raise UndeliveredError("all alerts are delivered, but the last offsets could not be committed")

    def _drain(self, stop: Stop, deadline: float) -> None:
        while not self._outbox.flush():
            if stop.is_set() and self._clock() >= deadline:
                waiting = len(self._outbox)
                raise UndeliveredError(f"stopped with {waiting} alerts or dead letters undelivered and uncommitted")
            stop.wait(self._outbox.wait_s())
            if stop.is_set():
                time.sleep(min(0.05, self._outbox.wait_s()))  # a set event no longer waits
