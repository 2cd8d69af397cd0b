"""Producing to a real broker, running workers as processes, and reading what they found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from detector.stores import AlertQuery
from tests.integration.worker import Order, open_store
from tests.toy import Message

ROOT = Path(__file__).parents[2]


def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        admin.close()


def produce(bootstrap: str, topic: str, messages: Sequence[Message]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    try:
        futures = [
            producer.send(topic, message.value, key=message.client.encode(), partition=message.partition)
            for message in messages
        ]
        for future in futures:
            future.get(timeout=30)
    finally:
        producer.close()


def committed(bootstrap: str, topic: str, partitions: int) -> dict[int, int | None]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=f"{topic}-group")
    try:
        return {p: consumer.committed(TopicPartition(topic, p), timeout_ms=10_000) for p in range(partitions)}
    finally:
        consumer.close()


@dataclass
class Live:
    """A topic with everything that outlives its workers."""

    order: Order
    folder: Path

    @classmethod
    def make(cls, bootstrap: str, topic: str, folder: Path, partitions: int, elasticsearch: str = "") -> Live:
        make_topic(bootstrap, topic, partitions)
        sqlite = "" if elasticsearch else str(folder / "alerts.sqlite")
        return cls(Order(bootstrap, topic, str(folder / "state"), sqlite, elasticsearch), folder)

    def produce(self, messages: Sequence[Message]) -> None:
        produce(self.order.bootstrap, self.order.topic, messages)

    def committed(self, partitions: int) -> dict[int, int | None]:
        return committed(self.order.bootstrap, self.order.topic, partitions)

    @contextmanager
    def worker(self, **changes: Any) -> Iterator[Worker]:
        """Run a worker; it is ended with the block, however that ends."""
        worker = Worker(replace(self.order, **changes), self.folder)
        try:
            yield worker
        finally:
            worker.close()

    def run(self, **changes: Any) -> dict[str, Any]:
        """Run a worker to the end of the topic and return its counters."""
        with self.worker(**changes) as worker:
            return worker.finish()

    def ids(self) -> list[str]:
        """Return the ids of all alert events, with repeats if there are any."""
        store = open_store(self.order)
        try:
            states = [doc["querywatch"]["alert_id"] for doc in store.list(AlertQuery(limit=100_000))]
            return [doc["querywatch"]["alert_id"] for i in states for doc in store.events(i)]
        finally:
            store.close()


class Worker:
    """A worker process. Its log goes to a file of its own."""

    def __init__(self, order: Order, folder: Path) -> None:
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.worker", json.dumps(asdict(order))],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self, within_s: float = 60) -> dict[str, Any]:
        """Wait until it ends by itself; its counters, and 0 as its exit code, are demanded."""
        out, _ = self.process.communicate(timeout=within_s)
        assert self.process.returncode == 0, self.text()
        summary: dict[str, Any] = json.loads(out.splitlines()[-1])
        return summary

    def died(self, within_s: float = 60) -> bool:
        """Wait until it ends; say whether SIGKILL was the cause."""
        self.process.communicate(timeout=within_s)
        return self.process.returncode == -signal.SIGKILL

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, within_s: float = 30) -> None:
        """Wait until the worker's log says something."""
        until(lambda: text in self.text() or self.process.poll() is not None, within_s)
        assert text in self.text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.communicate()


def until(true: Callable[[], bool], within_s: float = 30) -> None:
    """Wait for something that has to come true."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)
