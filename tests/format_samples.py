"""Records of every log format: captured from real servers, or written after the servers' documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detector.formats.calls import Options
from detector.settings import LimitSettings

FOLDER = Path(__file__).parent / "samples"


def options(**changes: Any) -> Options:
    """Return how the samples are read: the gateway names the client in `x-consumer-id`."""
    return Options(**{"limits": LimitSettings(), "secret": b"s", "client_headers": ("x-consumer-id",), **changes})


def captured(name: str) -> list[bytes]:
    """Return the lines of a file of tests/samples."""
    return (FOLDER / f"{name}.jsonl").read_bytes().splitlines()


def dumped(*records: Any) -> list[bytes]:
    """Return records as lines."""
    return [json.dumps(record).encode() for record in records]


NATIVE = {
    "schema": "prediction_event/1",
    "event_time": "2026-11-21T10:00:00.123456Z",
    "client": {"id": "key-9f3a21", "kind": "api_key", "ip": "203.0.113.9"},
    "model": {"name": "digits", "version": "3"},
    "status": 200,
    "latency_ms": 3.1,
    "input": {"vector": [0.0, 0.31, 0.94]},
    "output": {"label": 3, "scores": [0.01, 0.02, 0.01, 0.93, 0.03]},
}

SAMPLES: dict[str, list[bytes]] = {
    "native": dumped(NATIVE, {**NATIVE, "input": {"vector": [[1, 2], [3, 4]]}, "output": {"label": [1, 2]}}),
    "mapped_json": dumped(NATIVE, {**NATIVE, "event_time": 1795329591762, "client": None}),
    "cloudevents": captured("kserve_cloudevents_kafka"),
    "mlserver": captured("mlserver_kafka_captured"),
}
