"""One consumer as a process of its own: the service as it is wired, or a bare loop with the same client library.

`python -m tests.benchmarks.worker '<json>'` with the fields of `Order`; prints one line of JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import structlog
from kafka import KafkaConsumer, TopicPartition

from detector.alerts import Document
from detector.events import Records
from detector.settings import Settings
from detector.sources import kafka as kafka_source
from detector.stores import AlertStore, Written
from detector.wiring import build_service, open_store, rules_of
from tests.benchmarks.memory import PRIMING, Way
from tests.benchmarks.traffic import Traffic


@dataclass
class Order:
    """What the worker does. `messages`: how many the topic holds, for the bare loop's end."""

    kind: str  # service or bare
    topic: str
    bootstrap: str
    messages: int
    width: int
    until_end: bool = True


class Watch:
    """When the first records came, and when the last ones had been dealt with: wall clock and processor time."""

    def __init__(self) -> None:
        self.messages = self.polls = 0
        self._start: tuple[float, float] | None = None
        self._end: tuple[float, float] = (0.0, 0.0)

    def got(self, count: int) -> None:
        """Note records that have just come."""
        if self._start is None:
            self._start = (time.perf_counter(), time.process_time())
        self.messages += count
        self.polls += 1

    def done(self) -> None:
        """Note that all of them have been dealt with."""
        self._end = (time.perf_counter(), time.process_time())

    def result(self) -> dict[str, float]:
        """Return messages and seconds."""
        start = self._start or self._end
        return {
            "messages": self.messages,
            "polls": self.polls,
            "wall_s": self._end[0] - start[0],
            "cpu_s": self._end[1] - start[1],
        }


class WatchedSource(kafka_source.KafkaSource):
    """The Kafka source, which also notes when each record came into the log."""

    watch = Watch()
    arrived_ms: dict[tuple[int, int], int] = {}  # noqa: RUF012 (one a process)
    timing = False  # noting arrivals costs time too
    _waiting = False

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        """Note the end of the work on the last records, then poll."""
        if self._waiting:
            self.watch.done()
        records = super().poll(max_records, timeout_s)
        self._waiting = records is not None and len(records.offsets) > 0
        if records is not None and self._waiting:
            self.watch.got(len(records.offsets))
        if records is not None and self.timing:
            for partition, offset, ms in zip(
                records.partitions, records.offsets, records.timestamps_ms or (), strict=True
            ):
                self.arrived_ms[partition, offset] = ms
        return records


class WatchedStore:
    """A store, which also notes how long ago the record behind each alert came into the log."""

    def __init__(self, store: AlertStore) -> None:
        self._store = store
        self.timed: list[tuple[int, float]] = []  # when the record came, how much later its alert was stored; ms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, documents: Sequence[Document]) -> Written:
        """Write, then compare clocks; broker and worker share this machine's."""
        written = self._store.write(documents)
        now_ms = time.time() * 1000
        for document in documents if WatchedSource.timing else ():
            at = document["querywatch"]["position"]
            arrived_ms = WatchedSource.arrived_ms[at["partition"], at["last_offset"]]
            self.timed.append((arrived_ms, now_ms - arrived_ms))
        return written


def service(order: Order) -> dict[str, Any]:
    """Run the live service with the settings of the environment."""
    Way().take(Traffic(order.width, seed=2).messages(PRIMING))  # loads the compiled kernels
    settings = Settings()
    WatchedSource.timing = not order.until_end
    kafka_source.KafkaSource = WatchedSource  # type: ignore[misc]
    store = WatchedStore(open_store(settings, patience_s=2.0))
    store.setup()
    running = build_service(settings, rules_of(settings), store, until_end=order.until_end)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    counters = running.run(stop)
    store.close()
    return {**WatchedSource.watch.result(), "alerts": counters.alerts, "timed": store.timed}


def bare(order: Order) -> dict[str, Any]:
    """Poll and parse, nothing else."""
    settings, watch = Settings().kafka, Watch()
    consumer = KafkaConsumer(
        bootstrap_servers=order.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=settings.max_poll_records,
        max_partition_fetch_bytes=8 << 20,
    )
    consumer.assign([TopicPartition(order.topic, 0)])
    while watch.messages < order.messages:
        for records in consumer.poll(timeout_ms=500, max_records=settings.max_poll_records).values():
            watch.got(len(records))
            for record in records:
                orjson.loads(record.value)
            watch.done()
    consumer.close()
    return watch.result()


def main() -> None:
    """Do what the order says."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    order = Order(**json.loads(sys.argv[1]))
    print(json.dumps({**asdict(order), **(service if order.kind == "service" else bare)(order)}))


if __name__ == "__main__":
    main()
