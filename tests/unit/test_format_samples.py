"""Samples of foreign logs, field by field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector import formats
from detector.events import EventBatch, Flag, Records
from tests.contracts.format_suite import records
from tests.format_samples import SAMPLES, captured, dumped, options

FIRST, SECOND = [6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]


def decoded(name: str, values: list[bytes], **changes: Any) -> EventBatch:
    """Return all events of a log, those that waited for their other half too."""
    decoder = formats.decoder(name, options(**changes))
    found = decoder(records(values))
    assert not found.refused
    return EventBatch.concat([found.batch, decoder.rest()])


def event(batch: EventBatch, i: int) -> dict[str, Any]:
    """Return one event by name of field, numbers as float32 holds them."""
    name, version = batch.models[batch.model[i]]
    return {
        "time": str(batch.time_us[i].astype("datetime64[us]")),
        "place": (int(batch.offset[i]), int(batch.instance[i])),
        "client": (batch.client_id[i], batch.client_kind[i], batch.client_ip[i]),
        "model": (name, version),
        "status": int(batch.status[i]),
        "latency_ms": round(float(batch.latency_ms[i]), 3),
        "input": batch.input.row(i).tolist(),
        "scores": batch.scores.row(i).tolist(),
        "label": batch.label[i],
        "flags": Flag(int(batch.flags[i])),
    }


def f32(values: list[float]) -> list[float]:
    return [float(x) for x in np.array(values, np.float32)]


def test_mlserver_joins_by_the_key_or_by_the_id_in_the_body() -> None:
    batch = decoded("mlserver", SAMPLES["mlserver"])
    scores = [
        [0.0011197627806655431, 0.8015484525786076, 0.19733178464072676],
        [0.00998535906393451, 0.7888092345860589, 0.2012054063500066],
    ]
    keyed, by_body = (int(line) for line in (147, 142))
    for k in range(4):
        assert event(batch, k) == {
            "time": ("2026-11-22T06:39:51.762000", "2026-11-22T06:39:51.768000")[k // 2],
            "place": (k // 2, k % 2),
            "client": ("acme", "header", ""),
            "model": ("iris", "v1"),
            "status": 200,
            "latency_ms": (keyed, by_body)[k // 2],
            "input": f32((FIRST, SECOND)[k % 2]),
            "scores": f32(scores[k % 2]),
            "label": "1",
            "flags": Flag(0),
        }


def test_mlserver_keeps_what_has_no_headers_what_is_cut_off_and_what_is_not_finite() -> None:
    batch = decoded("mlserver", SAMPLES["mlserver"])
    assert [int(x) for x in batch.offset[4:]] == [2, 2, 3, 4]
    nameless, cut_off, not_finite = event(batch, 4), event(batch, 6), event(batch, 7)
    assert nameless["client"] == ("unknown", "unknown", "")
    assert nameless["model"] == ("unknown", "")
    assert nameless["input"] == f32(FIRST)
    assert nameless["flags"] == Flag.UNKNOWN_CLIENT | Flag.NO_RESPONSE
    for broken, flag in ((cut_off, Flag.SHAPE_MISMATCH), (not_finite, Flag.NOT_FINITE)):
        assert broken["client"] == ("acme", "header", "")
        assert broken["model"] == ("iris", "v1")
        assert broken["input"] == []
        assert broken["flags"] == flag | Flag.NO_RESPONSE
    assert decoded("mlserver", SAMPLES["mlserver"], model="iris").models[batch.model[4]].name == "iris"


@pytest.mark.parametrize("lines", [(0, 2), (1, 3), (2, 0), (3, 1), (0, 3)], ids=str)
def test_kserve_joins_in_either_order_and_either_mode(lines: tuple[int, int]) -> None:
    batch = decoded("cloudevents", [captured("kserve_cloudevents_kafka")[k] for k in lines])
    request_line = lines.index(max(lines, key=lambda k: k > 1))
    scores = [
        [0.00009380996978544586, 0.03356607415366078, 0.9663401158765538],
        [0.0004339319649435018, 0.03166248305103382, 0.9679035849840226],
    ]
    assert len(batch) == 2
    for k in range(2):
        assert event(batch, k) == {
            "time": "2026-11-22T06:43:12.571000",
            "place": (request_line, k),
            "client": ("acme", "header", ""),
            "model": ("iris", ""),
            "status": 200,
            "latency_ms": 4.0,
            "input": f32((FIRST, SECOND)[k]),
            "scores": f32(scores[k]),
            "label": "2",
            "flags": Flag(0),
        }


def test_kserve_events_with_one_id_at_the_same_time_are_kept_and_flagged() -> None:
    batch = decoded("cloudevents", SAMPLES["cloudevents"])
    assert len(batch) == 4
    assert {int(flags) for flags in batch.flags} == {int(Flag.ID_REUSE)}


def test_binary_mode_reads_the_headers_of_kafka() -> None:
    headers: list[tuple[str, Any]] = [("null", None)]  # Kafka allows headers without a value
    headers += [("Ce-Type", b"org.kubeflow.serving.inference.request"), ("ce_id", b"7"),
               ("ce_inferenceservicename", b"m"),
               ("ce_namespace", b"team"), ("ce_endpoint", b"canary"), ("X-Api-Key", b"secret")]  # fmt: skip
    decoder = formats.decoder("cloudevents", options())
    decoder(Records("t", [2], [9], [b'{"instances": [1, 2]}'], [1_795_329_591_762], None, [headers]))
    batch = decoder.rest()
    assert event(batch, 1)["input"] == [2.0]
    assert event(batch, 1)["model"] == ("team/m", "canary")
    assert batch.client_id[0].startswith("key:")
    assert "secret" not in batch.client_id[0]
    assert batch.client_kind[0] == "api_key"
    assert (batch.partition[0], batch.offset[0]) == (2, 9)


def test_a_broker_record_never_names_its_own_envelope() -> None:
    spoofed = SAMPLES["mlserver"][0]  # a body that looks like a captured record, with headers of its own
    decoder = formats.decoder("mlserver", options())
    headers = [[("x-consumer-id", b"mallory")]]
    found = decoder(Records("mlserver-input", [0], [0], [spoofed], [1_795_329_591_762], None, headers))
    assert found.batch.client_id == ["mallory"]


def test_bentoml_monitoring_is_read_by_a_mapping() -> None:
    from detector.formats.pointers import Mapped  # noqa: PLC0415

    mapping = Mapped(("/timestamp",), (), (), (), ("=iris",), (), (), (), ("/features",), (), (), (), ("/proba",))
    batch = decoded("mapped_json", captured("bentoml_monitor_data_captured"), mapping=mapping)
    assert event(batch, 0) == {
        "time": "2026-11-22T06:40:28.538654",
        "place": (0, 0),
        "client": ("unknown", "unknown", ""),
        "model": ("iris", ""),
        "status": 200,
        "latency_ms": pytest.approx(float("nan"), nan_ok=True),
        "input": f32(FIRST),
        "scores": f32([0.0011197627806655431, 0.8015484525786076, 0.19733178464072676]),
        "label": "1",
        "flags": Flag.UNKNOWN_CLIENT,
    }
    assert batch.label == ["1", "0"]


def test_ray_serve_access_logs_give_volume_and_time() -> None:
    from detector.formats.pointers import Mapped  # noqa: PLC0415

    mapping = Mapped(("/timestamp_ns",), (), (), (), ("/deployment", "=iris"), (), (), (), (), (), (), (), ())
    batch = decoded("mapped_json", captured("ray_serve_access_json_captured"), mapping=mapping)
    assert [model.name for model in batch.models] == ["app1_Iris", "iris"]
    assert event(batch, 0)["time"] == "2026-11-22T06:44:00.845028"
    assert batch.input_level.tolist() == [0, 0]


def test_default_mapping_reads_prediction_events() -> None:
    batch = decoded("mapped_json", SAMPLES["native"])
    native = decoded("native", SAMPLES["native"])
    assert [event(batch, k)["input"] for k in range(3)] == [event(native, k)["input"] for k in range(3)]
    assert batch.label == native.label
    assert batch.client_key.tolist() == native.client_key.tolist()


def test_a_clock_far_ahead_of_the_record_is_not_believed() -> None:
    line = {"event_time": "2099-01-01T00:00:00Z", "model": {"name": "m"}}
    decoder = formats.decoder("mapped_json", options())
    batch = decoder(records(dumped(line))._replace(timestamps_ms=[1_795_329_591_762])).batch
    assert batch.time_us.tolist() == [1_795_329_591_762_000]
    assert batch.flags[0] & Flag.TIME_CLAMPED


def test_one_bad_entry_of_a_list_costs_only_itself() -> None:
    good = {"event_time": 1795329591, "model": {"name": "m"}, "client": {"id": "a"}}
    decoder = formats.decoder("mapped_json", options())
    found = decoder(records(dumped([good, {"model": {"name": "m"}}, good])))
    assert len(found.batch) == 2
    assert [letter.instances for letter in found.refused] == [(1,)]
