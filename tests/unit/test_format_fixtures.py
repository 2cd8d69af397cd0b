"""Logs of gateways and platforms, field by field; the records are written after their documentation."""

from __future__ import annotations

from typing import Any

import pytest

from detector.events import Flag
from tests.format_samples import KONG, SAMPLES, dumped
from tests.unit.test_format_samples import decoded, event, f32

ROW, SCORES = f32([6.8, 2.8, 4.8, 1.4]), f32([0.1, 0.7, 0.2])
COMMON: dict[str, Any] = {"status": 200, "input": ROW, "scores": SCORES, "label": "1", "flags": Flag(0)}
NAN = pytest.approx(float("nan"), nan_ok=True)


def test_kong_names_the_consumer_before_any_header() -> None:
    batch = decoded("kong", SAMPLES["kong"])
    assert event(batch, 0) == COMMON | {
        "time": "2026-11-22T06:39:51.762000",
        "place": (0, 0),
        "client": ("acme", "consumer", "203.0.113.9"),
        "model": ("iris", ""),
        "latency_ms": 12.0,
    }
    assert event(batch, 1)["client"] == ("spoofed", "header", "203.0.113.9")
    unnamed = decoded("kong", SAMPLES["kong"], client_headers=())
    assert event(unnamed, 1)["client"] == ("203.0.113.9", "ip", "203.0.113.9")


def test_kong_without_bodies_keeps_client_time_and_status() -> None:
    bare = {**KONG, "request": {"uri": "/score"}, "response": {"status": 429}}
    (found,) = [event(decoded("kong", dumped(bare)), 0)]
    assert found["model"] == ("iris-service", "")
    assert (found["status"], found["input"], found["flags"]) == (429, [], Flag(0))


def test_apisix_reads_lists_and_numbers_their_calls() -> None:
    batch = decoded("apisix", SAMPLES["apisix"])
    assert event(batch, 0) == COMMON | {
        "time": "2026-11-22T06:39:51.762000",
        "place": (0, 0),
        "client": ("acme", "consumer", "203.0.113.9"),
        "model": ("iris", ""),
        "latency_ms": 11.5,
    }
    assert [event(batch, k)["client"][1] for k in (1, 2)] == ["consumer", "ip"]
    assert len({event(batch, k)["place"] for k in range(3)}) == 3


def test_filebeat_unwraps_the_line_and_reads_ecs_without_one() -> None:
    batch = decoded("filebeat_ecs", SAMPLES["filebeat_ecs"])
    assert event(batch, 0)["client"] == ("key-9f3a21", "api_key", "203.0.113.9")
    assert event(batch, 0)["time"] == "2026-11-21T10:00:00.123456"
    assert event(batch, 0)["input"] == f32([0.0, 0.31, 0.94])
    assert event(batch, 1) == COMMON | {
        "time": "2026-11-22T06:40:29.000000",
        "place": (1, 0),
        "client": ("acme", "user", "203.0.113.9"),
        "model": ("iris", "2"),
        "latency_ms": 3.1,
        "scores": [],
        "label": "",
    }


def test_sagemaker_reads_csv_and_base64_and_takes_the_model_of_the_settings() -> None:
    batch = decoded("sagemaker", SAMPLES["sagemaker"], model="churn")
    assert event(batch, 0) == COMMON | {
        "time": "2026-11-22T06:40:28.000000",
        "place": (0, 0),
        "client": ("unknown", "unknown", ""),
        "model": ("churn", ""),
        "latency_ms": NAN,
        "scores": [0.75, 0.25],
        "label": "0",
        "flags": Flag.UNKNOWN_CLIENT,
    }
    assert event(batch, 1)["input"] == ROW
    assert event(batch, 1)["scores"] == []


def test_databricks_reads_both_generations_with_names_in_one_order() -> None:
    batch = decoded("databricks", SAMPLES["databricks"])
    both = {"status": 200, "input": f32([6.8, 2.8]), "scores": [], "label": "1", "latency_ms": 9.0}
    assert event(batch, 0) == both | {
        "time": "2026-11-22T06:39:51.762000",
        "place": (0, 0),
        "client": ("unknown", "unknown", ""),
        "model": ("iris", "4"),
        "flags": Flag.UNKNOWN_CLIENT,
    }
    assert event(batch, 1) == both | {
        "time": "2026-11-22T06:40:28.538000",
        "place": (1, 0),
        "client": ("ann@example.com", "user", ""),
        "model": ("e-1", ""),
        "flags": Flag(0),
    }
