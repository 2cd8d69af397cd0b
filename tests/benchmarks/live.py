"""On real servers: the service beside a bare loop, and the time from a record's arrival to its alert in the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import orjson
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from tests.benchmarks.traffic import Traffic

ROOT = Path(__file__).parents[2]
RATE_HZ = 1000  # messages a second while latencies are measured
CLIMB_QUERIES = 100


class Throughput(NamedTuple):
    """Messages a second of the bare loop and of the service; ratios are medians over rounds."""

    bare: float
    service: float
    ratio_wall: float
    ratio_cpu: float
    alerts: int


class Latency(NamedTuple):
    """Milliseconds from a record's arrival in Kafka to its alert being acknowledged by the store."""

    p50: float
    p95: float
    p99: float
    alerts: int


def throughput(bootstrap: str, width: int, messages: int, rounds: int) -> Throughput:
    """Read one topic with both, in turn; every run of the service starts from nothing, with a store in SQLite."""
    topic = _topic(bootstrap, 1)
    with _producer(bootstrap) as producer:
        for value in Traffic(width).messages(messages):
            producer.send(topic, value, partition=0)
    order = {"topic": topic, "bootstrap": bootstrap, "messages": messages, "width": width}
    pairs = []
    with _folder() as folder:
        for turn in range(rounds):
            kinds = ("bare", "service") if turn % 2 == 0 else ("service", "bare")
            pairs.append({kind: _finish(_worker({"kind": kind, **order}, folder)) for kind in kinds})
    return Throughput(
        bare=messages / median(pair["bare"]["wall_s"] for pair in pairs),
        service=messages / median(pair["service"]["wall_s"] for pair in pairs),
        ratio_wall=median(pair["bare"]["wall_s"] / pair["service"]["wall_s"] for pair in pairs),
        ratio_cpu=median(pair["bare"]["cpu_s"] / pair["service"]["cpu_s"] for pair in pairs),
        alerts=pairs[-1]["service"]["alerts"],
    )


def latency(bootstrap: str, seconds: float, elasticsearch: str = "") -> Latency:
    """Produce at a steady rate, a part of it by one climber after the other, and time every alert."""
    topic = _topic(bootstrap, 2)
    traffic = Traffic(30, climb=0.4, climb_queries=CLIMB_QUERIES)
    environment = {"QUERYWATCH_STORE": "elasticsearch", "QUERYWATCH_ELASTICSEARCH__URL": elasticsearch}
    order = {"kind": "service", "topic": topic, "bootstrap": bootstrap, "messages": 0, "width": 30, "until_end": False}
    with _folder() as folder, _producer(bootstrap) as producer:
        _send(producer, topic, traffic.messages(1200))
        worker = _worker(order, folder, environment if elasticsearch else {})
        _until_said(worker, "partition ready")
        time.sleep(3)  # what waited is dealt with, and the store has its first alerts
        began, began_ms = time.perf_counter(), time.time() * 1000
        for tick in range(int(seconds * 20)):
            _send(producer, topic, traffic.messages(RATE_HZ // 20))
            time.sleep(max(0.0, began + (tick + 1) / 20 - time.perf_counter()))
        time.sleep(2)
        worker.send_signal(signal.SIGTERM)
        timed = _finish(worker)["timed"]
    found = np.array([late_ms for arrived_ms, late_ms in timed if arrived_ms >= began_ms])
    if len(found) == 0:
        raise RuntimeError("no alert was raised: there is nothing to time")
    p50, p95, p99 = np.quantile(found, [0.5, 0.95, 0.99]).tolist()
    return Latency(p50, p95, p99, len(found))


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="querywatch-bench-")


def _send(producer: Any, topic: str, values: Sequence[bytes]) -> None:
    for value in values:
        producer.send(topic, value, key=orjson.loads(value)["client"]["id"].encode())
    producer.flush()


def _topic(bootstrap: str, partitions: int) -> str:
    name = f"bench-{uuid.uuid4().hex[:12]}"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        configs = {"message.timestamp.type": "LogAppendTime"}
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    finally:
        admin.close()
    return name


@contextmanager
def _producer(bootstrap: str) -> Iterator[Any]:
    producer = KafkaProducer(bootstrap_servers=bootstrap, batch_size=1 << 18, linger_ms=5)
    try:
        yield producer
        producer.flush()
    finally:
        producer.close()


def _worker(order: dict[str, Any], folder: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a worker with a group, a namespace, a store and state of its own."""
    name = uuid.uuid4().hex[:12]
    settings = {
        "QUERYWATCH_NAMESPACE": f"bench{name}",
        "QUERYWATCH_KAFKA__BOOTSTRAP": order["bootstrap"],
        "QUERYWATCH_KAFKA__TOPIC": order["topic"],
        "QUERYWATCH_KAFKA__GROUP": name,
        "QUERYWATCH_SQLITE__PATH": f"{folder}/{name}.sqlite",
        "QUERYWATCH_STATE__URL": f"{folder}/{name}",
        **(environment or {}),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.worker", json.dumps(order)],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _until_said(worker: subprocess.Popen[bytes], text: str) -> None:
    assert worker.stderr is not None
    said = []
    for line in worker.stderr:
        said.append(line.decode())
        if text in said[-1]:
            return
    raise RuntimeError(f"the worker ended: {''.join(said)}")


def _finish(worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = worker.communicate(timeout=180)
    if worker.returncode:
        raise RuntimeError(f"the worker failed: {err.decode()}")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result
