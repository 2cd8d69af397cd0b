"""Prediction events from Kafka, in a consumer group; and the dead-letter topic. The only importer of `kafka`.

The library calls back on its own I/O thread, where nothing may block and nothing can be committed. So the callbacks
only note what happened and hold new partitions still; the loop does the work after `poll` has returned. In cooperative
mode a revoked partition goes to its next owner only when this member joins again, which the next `poll` does: until
then there is time to deliver, snapshot and commit. To get control back before that, the revoke callback raises, which
the library passes on to the caller of `poll`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.net.compat import KafkaNetClient

from detector.deadletters import dlq_headers, now_text
from detector.events import DeadLetter, Records
from detector.settings import KafkaSettings
from detector.sources import Change, SourceError, SourceUnavailableError, Start
from detector.sources.kafka_connection import Outage, connection, reachable, text
from detector.stores import StoreUnavailableError

log = structlog.get_logger()
_ANSWER_MS = 10_000  # for one request that the loop waits for
_HEADER_BYTES = 64 << 10  # room for keys, headers and framing beside a value


class _HandOver(Exception):  # noqa: N818 (not an error: a way out of the library's poll)
    """Partitions were revoked: give control back before joining the group again."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on the library's I/O thread while the loop waits inside `poll`: it notes, holds still, and hands over."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        consumer = self._source.consumer
        for tp in assigned:
            consumer.pause(tp)
            consumer.seek(tp, 0)  # any position: or the library would look for one of its own before ours is known
        self._source.note("assigned", assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if self._source.note("revoked", revoked):
            raise _HandOver

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._source.note("lost", lost)


class KafkaSource:
    """One member of a consumer group that reads one topic.

    Nothing connects until the first `poll`; an unreachable broker is said once and tried again with growing waits.
    `until_end`: `poll` returns None once everything that the topic held at the start has been read.
    """

    def __init__(self, settings: KafkaSettings, *, until_end: bool = False) -> None:
        if find_spec("crc32c") is None:
            raise SourceError(
                "the package crc32c is missing: reading would be up to 100 times slower; pip install crc32c"
            )
        self.name = settings.topic
        self._settings = settings
        self._consumer: Any = None
        self._changes: list[Change] = []
        self._position: dict[int, int] = {}  # started partitions only
        self._paused: frozenset[int] = frozenset()
        self._until: dict[int, int] | None = {} if until_end else None
        self._outage = Outage(settings.bootstrap)
        self._closing = False

    @property
    def consumer(self) -> Any:
        """The library's consumer; SourceUnavailableError while there is none."""
        if self._consumer is None:
            raise SourceUnavailableError(f"Kafka at {self._settings.bootstrap} is not connected")
        return self._consumer

    @property
    def generation(self) -> int:
        """Of the group membership."""
        return int(self.consumer.group_metadata().generation_id)

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        """Return the next records; None at the end where there is one. SourceError when the group refuses us."""
        if self._consumer is None and not self._connect(timeout_s):
            return self._records({})
        try:
            found = self.consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except kafka_errors.OffsetOutOfRangeError as error:
            self._fell_off(error.args[0])
            return self._records({})
        except kafka_errors.FencedInstanceIdError:
            raise self._fenced() from None
        except kafka_errors.KafkaError as error:
            if not isinstance(error.__cause__, _HandOver):
                self._outage.begin(str(error) or type(error).__name__)
                time.sleep(min(timeout_s, 0.2))
            return self._records({})
        if found:
            self._outage.end()
        else:
            self._outage.check()
        records = self._records(found)
        return None if not found and self._all_read() else records

    def changes(self) -> list[Change]:
        """Return what came and went during the last poll."""
        changes, self._changes = self._changes, []
        return changes

    def note(self, kind: Any, partitions: Collection[TopicPartition]) -> bool:
        """Keep a rebalance for the loop; False when there is nothing to do any more."""
        numbers = tuple(sorted(tp.partition for tp in partitions))
        if self._closing or not numbers:
            return False
        for partition in numbers:
            self._position.pop(partition, None)
            if self._until is not None and kind != "assigned":
                self._until.pop(partition, None)
        self._changes.append(Change(kind, numbers))
        return True

    def committed(self, partition: int) -> int | None:
        """Ask the group's coordinator."""
        try:
            offset = self.consumer.committed(self._tp(partition), timeout_ms=_ANSWER_MS)
        except kafka_errors.KafkaError as error:
            raise SourceUnavailableError(f"committed offset of partition {partition}: {text(error)}") from error
        return None if offset is None or offset < 0 else int(offset)

    def start(self, partition: int, offset: int | None) -> Start:
        """Seek and begin to read; an offset outside of the log becomes its start, and says how much is missing."""
        tp = self._tp(partition)
        try:
            first = self.consumer.beginning_offsets([tp], timeout_ms=_ANSWER_MS)[tp]
            end = self.consumer.end_offsets([tp], timeout_ms=_ANSWER_MS)[tp]
            if offset is None:
                start = Start(first if self._settings.start == "earliest" else end)
            elif offset > end:
                start = Start(first, -1)
            else:
                start = Start(max(first, offset), max(0, first - offset))
            self.consumer.seek(tp, start.offset)
        except kafka_errors.KafkaError as error:
            raise SourceUnavailableError(f"offsets of partition {partition}: {text(error)}") from error
        except ValueError as error:  # revoked in the meantime
            raise SourceUnavailableError(f"partition {partition}: {error}") from error
        if self._until is not None:
            self._until.setdefault(partition, end)
        self._position[partition] = start.offset
        if partition not in self._paused:
            self.consumer.resume(tp)
        return start

    def pause(self, partitions: Collection[int]) -> None:
        """Read none of these partitions for now, and all others that were started."""
        wanted = frozenset(partitions)
        if self._consumer is None or wanted == self._paused:
            return
        owned = {tp.partition for tp in self.consumer.assignment()}
        self.consumer.pause(*(self._tp(p) for p in wanted & owned))
        self.consumer.resume(*(self._tp(p) for p in (self._position.keys() - wanted) & owned))
        self._paused = wanted

    def ended(self) -> Collection[int]:
        """Name the started partitions whose position is at the end that the broker last told."""
        return [p for p, position in self._position.items() if self._at_end(p, position)]

    def lag(self, offsets: Mapping[int, int]) -> int:
        """Count records up to the ends that the broker last told."""
        if self._consumer is None:
            return 0
        owned = {tp.partition for tp in self.consumer.assignment()}
        ends = {p: self.consumer.highwater(self._tp(p)) for p in offsets if p in owned}
        return sum(max(0, end - offsets[p]) for p, end in ends.items() if end is not None)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit; SourceUnavailableError when the broker is away or the group no longer takes our word.

        SourceError when another process has taken this member's place for good.
        """
        wanted = {self._tp(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        try:
            self.consumer.commit(wanted, timeout_ms=_ANSWER_MS)
        except kafka_errors.FencedInstanceIdError:  # the library's heartbeat keeps this to itself
            raise self._fenced() from None
        except kafka_errors.KafkaError as error:
            raise SourceUnavailableError(f"commit: {text(error)}") from error

    def close(self) -> None:
        """Leave the group (a static member keeps its place until its session times out)."""
        self._closing = True
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=3000)
            self._consumer = None

    def _connect(self, timeout_s: float) -> bool:
        if not self._outage.try_now(timeout_s):
            return False
        s = self._settings
        clients: list[Any] = []

        def client(**configs: Any) -> Any:
            clients.append(KafkaNetClient(**configs))
            return clients[-1]

        try:
            self._consumer = KafkaConsumer(
                **connection(s),
                kafka_client=client,
                bootstrap_timeout_ms=5000,
                group_id=s.group,
                group_instance_id=s.instance_id or None,
                session_timeout_ms=int(s.session_timeout_s * 1000),
                heartbeat_interval_ms=max(100, int(s.session_timeout_s * 1000 / 10)),
                partition_assignment_strategy=[
                    CooperativeStickyAssignor()
                ],  # its own: a shared one rebalances for ever
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                metadata_max_age_ms=15_000,
                max_poll_records=s.max_poll_records,
                max_partition_fetch_bytes=8 << 20,
            )
        except kafka_errors.KafkaError as error:
            for failed in clients:
                failed.close()  # the constructor leaves its thread and sockets behind
            if isinstance(error, kafka_errors.KafkaConfigurationError):
                raise SourceError(f"kafka settings: {text(error)}") from error
            self._outage.begin(text(error))
            return False
        except (ValueError, OSError) as error:  # an unreadable certificate, a bad address
            raise SourceError(f"kafka settings: {error}") from error
        self._consumer.subscribe([s.topic], listener=_Listener(self))
        self._outage.end()
        if not self._consumer.partitions_for_topic(s.topic):
            log.warning("topic does not exist yet, waiting for it", topic=s.topic, kafka=s.bootstrap)
        return True

    def _records(self, found: Mapping[TopicPartition, Sequence[Any]]) -> Records:
        got = [r for tp, records in found.items() if tp.partition in self._position for r in records]
        for tp, records in found.items():
            if tp.partition in self._position:
                self._position[tp.partition] = records[-1].offset + 1
        return Records(
            self.name,
            [r.partition for r in got],
            [r.offset for r in got],
            [r.value for r in got],
            [r.timestamp for r in got],
            [r.key for r in got],
            [r.headers for r in got],
        )

    def _at_end(self, partition: int, position: int) -> bool:
        tp = self._tp(partition)
        if partition in self._paused:
            return False
        end = self.consumer.highwater(tp)
        if end is None:
            return False
        if (
            position < end
        ):  # the last records may be ones that are never shown: compacted away, or a transaction's marks
            position = self.consumer.position(tp, timeout_ms=_ANSWER_MS) or position
        return bool(position >= end)

    def _all_read(self) -> bool:
        if not self._until or self._changes or self._paused or len(self.consumer.assignment()) > len(self._position):
            return False
        return all(self._position[p] >= end or self._at_end(p, self._position[p]) for p, end in self._until.items())

    def _fell_off(self, positions: Mapping[TopicPartition, int]) -> None:
        """Let the loop start these partitions again: it restores, notes the gap and flags the alerts."""
        for tp, offset in positions.items():
            log.error("offset is not in the log any more", partition=tp.partition, offset=offset)
            self.consumer.pause(tp)
            self._position.pop(tp.partition, None)
        self._changes.append(Change("assigned", tuple(tp.partition for tp in positions)))

    def _fenced(self) -> SourceError:
        return SourceError(
            f"another process of group {self._settings.group!r} runs with the same kafka.instance_id"
            f" {self._settings.instance_id!r}: give each its own"
        )

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self.name, partition)


class KafkaDeadLetters:
    """Refused records on the topic `<input>.dlq`: value, key, headers and time as they came, and why as headers."""

    def __init__(self, settings: KafkaSettings, max_record_bytes: int) -> None:
        self._settings = settings
        self._topic = settings.dead_letter_topic or f"{settings.topic}.dlq"
        self._max_bytes = max_record_bytes
        self._producer: Any = None

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Send and wait for every acknowledgement; StoreUnavailableError when one is missing."""
        failed_at = now_text()
        try:
            if self._producer is None:
                self._producer = self._connect()
            sent = [(letter, self._send(letter, failed_at, letter.value)) for letter in letters]
            self._producer.flush(timeout=_ANSWER_MS / 1000)
            for letter, future in sent:
                try:
                    future.get(timeout=_ANSWER_MS / 1000)
                except kafka_errors.MessageSizeTooLargeError:  # the topic takes less than its source did
                    self._send(letter, failed_at, None).get(timeout=_ANSWER_MS / 1000)
        except kafka_errors.KafkaError as error:
            raise StoreUnavailableError(f"dead-letter topic {self._topic}: {text(error)}") from error

    def close(self) -> None:
        """Let go of the connection."""
        if self._producer is not None:
            self._producer.close(timeout=3)
            self._producer = None

    def _connect(self) -> Any:
        if not reachable(self._settings.bootstrap):
            raise kafka_errors.KafkaConnectionError(f"{self._settings.bootstrap} does not answer")
        return KafkaProducer(
            **connection(self._settings),
            bootstrap_timeout_ms=5000,
            acks="all",
            max_block_ms=_ANSWER_MS,
            request_timeout_ms=_ANSWER_MS - 1000,
            delivery_timeout_ms=_ANSWER_MS,
            max_request_size=2 * self._max_bytes + _HEADER_BYTES,
        )

    def _send(self, letter: DeadLetter, failed_at: str, value: bytes | None) -> Any:
        headers = [*letter.headers, *((name, text.encode()) for name, text in dlq_headers(letter, failed_at))]
        if value is None and letter.value is not None:
            headers.append(("dlq.dropped_value_bytes", str(len(letter.value)).encode()))
        timestamp = letter.timestamp_ms if letter.timestamp_ms >= 0 else None
        return self._producer.send(self._topic, value=value, key=letter.key, headers=headers, timestamp_ms=timestamp)
