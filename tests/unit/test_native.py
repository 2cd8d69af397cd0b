"""decode and encode of prediction_event/1 against plain json, on good and bad bytes."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.events import Decoded, EventBatch, Flag, InputLevel, ModelRef, OutputLevel, Ragged, Reason, Records
from detector.formats import bulk
from detector.formats.columns import ClientKeys
from detector.formats.native import decode, encode
from detector.settings import LimitSettings
from tests import naive
from tests.unit import event_bytes

LIMITS = LimitSettings()
PLAIN = {
    "event_time": "2026-11-21T10:00:00.123456Z",
    "client": {"id": "key-1", "kind": "api_key", "ip": "203.0.113.9"},
    "model": {"name": "digits", "version": "3"},
    "input": {"vector": [0.0, 0.31, 0.94]},
    "output": {"label": 3, "scores": [0.01, 0.02, 0.93]},
}


def read(values: list[bytes | None], limits: LimitSettings = LIMITS, secret: bytes = b"s") -> Decoded:
    return decode(Records("t", [0] * len(values), range(len(values)), values), limits=limits, secret=secret)


def read_one(**changes: Any) -> Decoded:
    return read([json.dumps({**PLAIN, **changes}).encode()])


def as_dicts(batch: EventBatch) -> list[dict[str, Any]]:
    names = ("time_us", "offset", "instance", "status", "input_level", "output_level", "label_key", "flags")
    texts = ("client_id", "client_kind", "client_ip", "label")
    return [
        {
            **{name: int(getattr(batch, name)[i]) for name in names},
            **{name: getattr(batch, name)[i] for name in texts},
            "model": tuple(batch.models[batch.model[i]]),
            "latency_ms": float(batch.latency_ms[i]),
            "confidence": float(batch.confidence[i]),
            "input": batch.input.row(i).tolist(),
            "scores": batch.scores.row(i).tolist(),
            "given_digest": int(batch.input_digest[i]) if batch.input_level[i] == InputLevel.DIGEST else 0,
        }
        for i in range(len(batch))
    ]


def same(a: EventBatch, b: EventBatch, *, but: tuple[str, ...] = ()) -> None:
    for f in fields(EventBatch):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if f.name in but:
            continue
        if isinstance(x, Ragged):
            assert [r.tolist() for r in map(x.row, range(len(a)))] == [r.tolist() for r in map(y.row, range(len(b)))], (
                f.name
            )
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, f.name
            np.testing.assert_array_equal(x, y, f.name)
        else:
            assert x == y, f.name


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(event_bytes.records(), max_size=6))
def test_decoding_agrees_with_plain_json_on_good_and_bad_bytes(values: list[bytes | None]) -> None:
    decoded, truth = read(values), naive.decode(values)
    assert [repr(event) for event in map(sort, as_dicts(decoded.batch))] == [repr(sort(e)) for e in truth.events]
    assert [(r.offset, r.reason.value, r.instances) for r in decoded.refused] == truth.refused
    assert decoded.skipped == truth.skipped
    assert all(len(letter.error) <= 256 for letter in decoded.refused)


def sort(event: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(event.items()))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.floats(), st.floats(0, 1), st.floats(width=32), st.decimals(-10, 10, places=5)), min_size=1)
)
def test_numbers_are_rounded_as_float64_and_then_as_float32(numbers: list[Any]) -> None:
    text = ",".join(map(str, numbers)).replace("nan", "NaN").replace("inf", "Infinity")
    value = json.dumps({**PLAIN, "input": {"vector": "@"}}).replace('"@"', f"[{text}]").encode()
    assert [sort(e)["input"] for e in as_dicts(read([value]).batch)] == [
        e["input"] for e in naive.decode([value]).events
    ]


@pytest.mark.parametrize(
    "text",
    [
        "0.1e1", "1E5", "-0", "-0.0", "1e-45", "7e-46", "1e-400", "3.4028235e38", "3.4028236e38", "1e39", "1e400",
        "16777217", "0.100000001490116119384765625", "1.00000005960464477539062500001", "9007199254740993",
        "0.000000000000000000000000000012345678901234567", "123456789012345678901234567890", "1" * 400,
        "1.17549435e-38", "5e-324", "8.589973e9", "2e-44", "0e99999", "1e-99999", "0.0000000000000000000000",
    ],
)  # fmt: skip
def test_awkward_numbers_are_read_as_plain_json_reads_them(text: str) -> None:
    value = json.dumps({**PLAIN, "input": {"vector": "@"}}).replace('"@"', f"[{text}, 1]").encode()
    assert as_dicts(read([value]).batch)[0]["input"] == naive.decode([value]).events[0]["input"]


@pytest.mark.parametrize(
    "text", ["01", "1.", ".5", "+1", "-", "1e", "1e+", "0x10", "1,,2", "1 2", ",1", "1,", "--1", "1.e5", "tru"]
)
def test_what_is_no_json_number_is_no_json(text: str) -> None:
    value = json.dumps({**PLAIN, "input": {"vector": "@"}}).replace('"@"', f"[{text}]").encode()
    decoded = read([value])
    assert [letter.reason for letter in decoded.refused] == [Reason.INVALID_JSON]
    assert len(decoded.batch) == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(event_bytes.records(), max_size=8), st.lists(st.integers(0, 8), max_size=3))
def test_events_do_not_depend_on_how_records_are_batched(values: list[bytes | None], cuts: list[int]) -> None:
    whole = read(values)
    edges = sorted({0, len(values), *(cut for cut in cuts if cut <= len(values))})
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = Records("t", [0] * (stop - start), range(start, stop), values[start:stop])
        parts.append(decode(part, limits=LIMITS, secret=b"s").batch)
    if parts:
        same(whole.batch, EventBatch.concat(parts))


@settings(max_examples=150, deadline=None)
@given(st.lists(event_bytes.events(odd=False), min_size=1, max_size=5))
def test_encoding_and_decoding_again_gives_the_same_events(events: list[dict[str, Any]]) -> None:
    first = read([json.dumps(event).encode() for event in events]).batch
    lines = encode(first)
    again = read(list(lines))
    assert not again.refused
    same(first, again.batch, but=("offset", "instance"))
    assert encode(again.batch) == lines


def test_flags_survive_encoding() -> None:
    first = read_one(input={"vector": [1, float("nan")]}, client={}).batch
    assert first.flags.tolist() == [Flag.NOT_FINITE | Flag.UNKNOWN_CLIENT]
    same(first, read(list(encode(first))).batch)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_time": None}, "event_time"),
        ({"event_time": "yesterday"}, "event_time"),
        ({"event_time": -1}, "event_time"),
        ({"event_time": 1_795_255_200_000}, "event_time"),  # milliseconds
        ({"model": {"version": "3"}}, "model.name"),
        ({"model": "digits"}, "model"),
        ({"client": {"id": ["a"]}}, "client.id"),
        ({"client": {"id": "\ud800"}}, "client.id"),
        ({"status": "200"}, "status"),
        ({"latency_ms": "fast"}, "latency_ms"),
    ],
)
def test_a_refused_event_names_the_field(changes: dict[str, Any], field: str) -> None:
    decoded = read_one(**changes)
    assert [letter.reason for letter in decoded.refused] == [Reason.INVALID_EVENT]
    assert decoded.refused[0].error.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("vector", "flag"),
    [
        ([1, float("nan")], Flag.NOT_FINITE),
        ([1e39], Flag.NOT_FINITE),
        ([1, "2"], Flag.SHAPE_MISMATCH),
        ([1, [2]], Flag.SHAPE_MISMATCH),
        ([[1, 2], [3, 4]], Flag.SHAPE_MISMATCH),  # nested: the output is that of one instance
        ([], Flag.SHAPE_MISMATCH),
        ([True], Flag.SHAPE_MISMATCH),
        ([0] * 11, Flag.TOO_LARGE),
    ],
)
def test_a_bad_input_is_dropped_and_the_event_stays(vector: list[Any], flag: Flag) -> None:
    value = json.dumps({**PLAIN, "input": {"vector": vector}}).encode()
    decoded = read([value], LimitSettings(max_numbers=10))
    assert decoded.batch.flags.tolist() == [flag]
    assert decoded.batch.input_level.tolist() == [InputLevel.NONE]
    assert decoded.batch.input_digest.tolist() == [0]
    assert decoded.batch.output_level.tolist() == [OutputLevel.SCORES]
    assert not decoded.refused


def test_of_many_instances_a_bad_one_goes_to_the_dead_letters_and_the_others_go_on() -> None:
    decoded = read_one(input={"vector": [[1, 2], None, [3, 4], [5], "x"]}, output={"label": [1, 2, 3, 4, 5]})
    assert decoded.batch.instance.tolist() == [0, 2, 3]
    assert decoded.batch.label == ["1", "3", "4"]
    assert decoded.batch.flags.tolist() == [0, 0, Flag.SHAPE_MISMATCH]  # a row of another width
    assert [letter.instances for letter in decoded.refused] == [(1, 4)]


def test_too_many_instances_are_one_event_without_input() -> None:
    decoded = read(
        [json.dumps({**PLAIN, "input": {"vector": [[1]] * 5}, "output": {}}).encode()], LimitSettings(max_instances=4)
    )
    assert decoded.batch.flags.tolist() == [Flag.TOO_LARGE]
    assert len(decoded.batch.input.values) == 0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[" * 100_000, Reason.TOO_LARGE),
        (b'{"a":' * 40 + b"1" + b"}" * 40, Reason.TOO_LARGE),
        (b" " * 2000, Reason.TOO_LARGE),
        (b"\xff\xfe{}", Reason.INVALID_JSON),
        (b"\x00\x00\x00\x00\x01{}", Reason.INVALID_JSON),
        (b'{"a":' + b"1" * 1000, Reason.INVALID_JSON),
        (b"[]", Reason.INVALID_EVENT),
        (b'{"schema":"prediction_event/2"}', Reason.UNKNOWN_SCHEMA),
    ],
)
def test_hostile_bytes_become_dead_letters(value: bytes, reason: Reason) -> None:
    decoded = read([value], LimitSettings(max_record_bytes=200_000 if len(value) != 2000 else 1024))
    assert [letter.reason for letter in decoded.refused] == [reason]
    assert decoded.refused[0].value == value


def test_a_dead_letter_carries_key_headers_and_time() -> None:
    records = Records("t", [4], [17], [b"{"], [1234], [b"key"], [[("h", b"v")]])
    letter = decode(records, limits=LIMITS, secret=b"s").refused[0]
    assert (letter.partition, letter.offset, letter.key, letter.headers, letter.timestamp_ms) == (
        4,
        17,
        b"key",
        [("h", b"v")],
        1234,
    )


def test_client_keys_depend_on_client_model_version_and_secret() -> None:
    variants = [
        PLAIN,
        {**PLAIN, "client": {"id": "key-2"}},
        {**PLAIN, "model": {"name": "digits", "version": "4"}},
        {**PLAIN, "model": {"name": "digits3"}},
        {**PLAIN, "input": {"sketch": {"seed_id": "a", "values": [1]}}},
        {**PLAIN, "input": {"sketch": {"seed_id": "b", "values": [1]}}},
    ]
    values: list[bytes | None] = [json.dumps(event).encode() for event in variants]
    keys = [*read(values).batch.client_key.tolist(), *read(values, secret=b"other").batch.client_key.tolist()]
    assert len(set(keys)) == 12
    assert keys[:6] == read(values).batch.client_key.tolist()


def test_client_keys_are_the_same_after_the_cache_was_full() -> None:
    keys, fresh = ClientKeys(b"s", capacity=8), ClientKeys(b"s")
    model = ModelRef("m", "1")
    clients = [f"c{i}" for i in range(30)]
    for start in range(0, 30, 5):
        part = clients[start : start + 5]
        assert keys.of(part, [0] * 5, [model]).tolist() == fresh.of(part, [0] * 5, [model]).tolist()
        assert len(keys) <= 8


def test_input_digests_tell_order_number_and_value_apart() -> None:
    vectors = [[1, 2], [2, 1], [1, 2, 0], [1], [0], [0, 0], [-0.0], [1, 2]]
    values: list[bytes | None] = [json.dumps({**PLAIN, "input": {"vector": v}}).encode() for v in vectors]
    digests = read(values).batch.input_digest.tolist()
    assert len(set(digests)) == 6
    assert digests[0] == digests[7]
    assert digests[4] == digests[6]
    assert 0 not in digests


def test_plain_and_odd_records_keep_their_order() -> None:
    odd = {**PLAIN, "extra": 1, "model": {"name": "other"}}
    values: list[bytes | None] = [json.dumps(odd if i % 3 == 0 else PLAIN).encode() for i in range(10)]
    batch = read(values).batch
    assert batch.offset.tolist() == list(range(10))
    assert batch.models == [ModelRef("other", ""), ModelRef("digits", "3")]
    assert batch.model.tolist() == [0 if i % 3 == 0 else 1 for i in range(10)]


def test_plain_sketches_take_the_short_way_and_say_the_same_as_the_long_one() -> None:
    sketches = [{**PLAIN, "input": {"sketch": {"seed_id": seed, "values": [1, -2, 127]}}} for seed in ("a", "b", "a")]
    values: list[bytes | None] = [json.dumps(event).encode() for event in sketches]
    batch, done = bulk.read(Records("t", [0] * 3, range(3), values), LIMITS, ClientKeys(b"s"))
    assert done.tolist() == [0, 1, 2]
    careful = read([json.dumps({**event, "flags": 0}).encode() for event in sketches]).batch
    assert batch.models == careful.models == [ModelRef("digits", "3 sketch:a"), ModelRef("digits", "3 sketch:b")]
    for column in ("model", "client_key", "input_level", "input_digest"):
        assert getattr(batch, column).tolist() == getattr(careful, column).tolist()
    assert batch.input.values.tolist() == careful.input.values.tolist()


def test_long_ids_are_replaced_by_their_hash() -> None:
    batch = read_one(client={"id": "é" * 129}).batch
    assert batch.client_id[0].startswith("blake2b:")
    assert read_one(client={"id": "é" * 128}).batch.client_id == ["é" * 128]
