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

# --- written after the servers' documentation, not captured -----------------------------------------------------------

KONG = {
    "request": {
        "method": "POST", "uri": "/v1/models/iris:predict", "size": 210,
        "headers": {"host": "api.example", "content-type": "application/json", "x-consumer-id": "spoofed"},
        "body": '{"instances": [[6.8, 2.8, 4.8, 1.4]]}',
    },
    "response": {"status": 200, "size": 120, "headers": {"content-type": "application/json"},
                 "body": '{"predictions": [[0.1, 0.7, 0.2]]}'},
    "latencies": {"request": 12, "kong": 2, "proxy": 10},
    "client_ip": "203.0.113.9",
    "started_at": 1795329591762,
    "consumer": {"id": "5f1c", "username": "acme", "custom_id": "c-1"},
    "authenticated_entity": {"id": "9a2b"},
    "service": {"name": "iris-service"},
    "route": {"name": "iris-route"},
}  # fmt: skip
APISIX = {
    "route_id": "1", "service_id": "iris", "start_time": 1795329591762, "client_ip": "203.0.113.9", "latency": 11.5,
    "request": {"method": "POST", "uri": "/predict", "headers": {"content-type": "application/json"},
                "body": '{"data": {"ndarray": [[6.8, 2.8, 4.8, 1.4]]}}'},
    "response": {"status": 200, "headers": {}, "body": '{"data": {"ndarray": [[0.1, 0.7, 0.2]]}}'},
    "consumer": {"username": "acme"},
}  # fmt: skip
FILEBEAT = {
    "@timestamp": "2026-11-22T06:40:29Z", "ecs": {"version": "8.0.0"}, "log": {"offset": 0},
    "message": json.dumps(NATIVE),
}  # fmt: skip
ECS = {
    "@timestamp": "2026-11-22T06:40:29Z", "ecs": {"version": "8.0.0"}, "message": "POST /v2/models/iris/infer",
    "url": {"path": "/v2/models/iris/versions/2/infer"}, "source": {"ip": "203.0.113.9"}, "user": {"name": "acme"},
    "event": {"duration": 3100000},
    "http": {"request": {"body": {"content": '[[6.8, 2.8, 4.8, 1.4]]'}}, "response": {"status_code": 200}},
}  # fmt: skip
SAGEMAKER = {
    "captureData": {
        "endpointInput": {"observedContentType": "text/csv", "mode": "INPUT", "data": "6.8,2.8,4.8,1.4",
                          "encoding": "CSV"},
        "endpointOutput": {"observedContentType": "text/csv; charset=utf-8", "mode": "OUTPUT", "data": "0.25",
                           "encoding": "CSV"},
    },
    "eventMetadata": {"eventId": "4a7b", "inferenceTime": "2026-11-22T06:40:28Z"},
    "eventVersion": "0",
}  # fmt: skip
SAGEMAKER_BASE64 = {
    **SAGEMAKER,
    "captureData": {"endpointInput": {"observedContentType": "application/json", "data": "W1s2LjgsMi44LDQuOCwxLjRdXQ==",
                                      "encoding": "BASE64"}},
}  # fmt: skip
DATABRICKS_LEGACY = {
    "client_request_id": None, "databricks_request_id": "d-1", "date": "2026-11-22", "timestamp_ms": 1795329591762,
    "status_code": 200, "execution_time_ms": 9, "sampling_fraction": 1.0,
    "request": '{"dataframe_records": [{"b": 2.8, "a": 6.8}]}', "response": '{"predictions": [1]}',
    "request_metadata": {"model_name": "iris", "model_version": "4", "endpoint_name": "iris-endpoint"},
}  # fmt: skip
DATABRICKS = {
    "request_date": "2026-11-22", "databricks_request_id": "d-2", "request_time": "2026-11-22T06:40:28.538Z",
    "status_code": 200, "execution_duration_ms": 9, "served_entity_id": "e-1", "requester": "ann@example.com",
    "request": '{"dataframe_split": {"columns": ["b", "a"], "data": [[2.8, 6.8]]}}', "response": '{"predictions": [1]}',
}  # fmt: skip

SAMPLES: dict[str, list[bytes]] = {
    "native": dumped(NATIVE, {**NATIVE, "input": {"vector": [[1, 2], [3, 4]]}, "output": {"label": [1, 2]}}),
    "mapped_json": dumped(NATIVE, {**NATIVE, "event_time": 1795329591762, "client": None}),
    "cloudevents": captured("kserve_cloudevents_kafka"),
    "mlserver": captured("mlserver_kafka_captured"),
    "kong": dumped(KONG, {**KONG, "consumer": None, "authenticated_entity": None}),
    "apisix": dumped(APISIX, [APISIX, {**APISIX, "consumer": None}]),
    "filebeat_ecs": dumped(FILEBEAT, ECS),
    "sagemaker": dumped(SAGEMAKER, SAGEMAKER_BASE64),
    "databricks": dumped(DATABRICKS_LEGACY, DATABRICKS),
}
