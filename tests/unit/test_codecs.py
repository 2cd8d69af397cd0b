"""Bodies of requests and answers, in every encoding."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from detector.events import Flag
from detector.formats import codecs
from detector.formats.calls import Unreadable, body
from detector.formats.codecs import BodyError
from detector.formats.codecs.answers import answers, meaning
from detector.settings import LimitSettings
from tests.format_samples import options

TENSOR = {"name": "x", "shape": [2, 2], "datatype": "FP32"}
REQUESTS: list[tuple[str, Any, list[list[float]]]] = [
    ("v1", {"instances": [[1, 2], [3, 4]]}, [[1, 2], [3, 4]]),
    ("v1", {"instances": [1, 2]}, [[1], [2]]),
    ("v1", {"instances": [{"b": 2, "a": 1}, {"a": 3, "b": [[4]]}]}, [[1, 2], [3, 4]]),
    ("v1", {"instances": [[[1, 2], [3, 4]]]}, [[1, 2, 3, 4]]),
    ("v1", {"instances": [["1", True, " 2.5e1 "]]}, [[1, 1, 25]]),
    ("open_inference", {"inputs": [{**TENSOR, "data": [1, 2, 3, 4]}]}, [[1, 2], [3, 4]]),
    ("open_inference", {"inputs": [{**TENSOR, "data": [[1, 2], [3, 4]]}]}, [[1, 2], [3, 4]]),
    ("open_inference",
     {"inputs": [{"name": "b", "shape": [2], "data": [5, 6]}, {**TENSOR, "name": "a", "data": [1, 2, 3, 4]}]},
     [[1, 2, 5], [3, 4, 6]]),
    ("mlflow", {"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1], [4, 3]]}}, [[1, 2], [3, 4]]),
    ("mlflow", {"dataframe_records": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}, [[1, 2], [3, 4]]),
    ("mlflow", {"inputs": {"b": [2, 4], "a": [1, 3]}}, [[1, 2], [3, 4]]),
    ("mlflow", {"inputs": [[1, 2], [3, 4]]}, [[1, 2], [3, 4]]),
    ("seldon", {"data": {"names": ["a", "b"], "ndarray": [[1, 2], [3, 4]]}}, [[1, 2], [3, 4]]),
    ("seldon", {"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3, 4]}}}, [[1, 2], [3, 4]]),
    ("bare", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    ("bare", [1, 2], [[1, 2]]),
    ("csv_text", "1,2\n3,4\n", [[1, 2], [3, 4]]),
    ("csv_text", "a,b\r\n1,2\r\n", [[1, 2]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "rows"), REQUESTS, ids=lambda x: str(x)[:40])
def test_a_request_has_one_codec_and_its_rows(name: str, given: Any, rows: list[list[float]]) -> None:
    claims = [codec for codec, module in codecs.discover().items() if module.request(given) is not None]
    assert claims == [name]
    assert [codecs.flat(entry) for entry in codecs.request(given)] == rows


def test_every_codec_is_tried_above() -> None:
    assert {name for name, _, _ in REQUESTS} == set(codecs.discover())


@pytest.mark.parametrize(
    "shape", [[2, 3], [2], [], [0], [-2, -2], [2.0, 2], "22", None, [True, 4], [4] * 40, [1 << 40, 1 << 40]], ids=str
)
def test_a_shape_that_does_not_fit_its_data_is_no_tensor(shape: Any) -> None:
    with pytest.raises(BodyError):
        codecs.request({"inputs": [{"name": "x", "shape": shape, "data": [1, 2, 3, 4]}]})


@pytest.mark.parametrize(
    "given",
    [{}, {"instances": 7}, {"inputs": []}, {"inputs": {"a": [1], "b": [1, 2]}}, 7, {"data": {"ndarray": 1}}],
    ids=str,
)
def test_other_bodies_are_no_requests(given: Any) -> None:
    try:
        assert not codecs.request(given)
    except BodyError as error:
        assert error.flag is Flag.SHAPE_MISMATCH  # noqa: PT017 (an empty list of instances is not an error here)


def test_what_is_missing_is_not_a_number_and_words_are_no_numbers() -> None:
    assert [x == x for x in codecs.flat([1, None, ""]) or []] == [True, False, False]  # noqa: PLR0124 (NaN)
    assert codecs.flat([1, "red"]) is None
    assert codecs.flat("1_000") is None


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([[0.2, 0.8]], {"scores": [0.2, 0.8]}),
        ([[0.2, 0.8], 1], {"scores": [0.2, 0.8], "label": 1}),
        ([3], {"label": 3}),
        ([[[3]]], {"label": 3}),
        (["cat"], {"label": "cat"}),
        ([True], {"label": 1}),
        ([0.25], {"scores": [0.75, 0.25]}),
        (["cat", 0.25], {"label": "cat", "confidence": 0.25}),
        ([{"label": "cat", "probabilities": [0.5, 0.5]}], {"label": "cat", "scores": [0.5, 0.5]}),
        ([2.0], {"label": 2}),
        ([217.3], {}),
        ([[3.5, -2.0]], {}),
        ([None], {}),
    ],
    ids=str,
)
def test_values_say_what_an_answer_is(parts: list[Any], found: dict[str, Any]) -> None:
    assert meaning(parts) == found


def test_answers_of_another_number_of_instances_are_unreadable() -> None:
    assert [flag for _, flag in answers([[1, 2, 3]], 2)] == [Flag.BAD_OUTPUT] * 2
    assert answers([[0.25, 0.75]], 1)[0][0].scores.tolist() == [0.25, 0.75]
    assert [answer.label for answer, _ in answers([[1, 2], [9]], 2)] == ["1", "2"]


def test_tensors_after_the_json_are_read() -> None:
    tensor = {**TENSOR, "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [tensor]}).encode()
    whole = head + struct.pack("<4f", 1, 2, 3, 4)
    assert codecs.request(body(whole, options(), json_bytes=str(len(head)))) == [[1, 2], [3, 4]]
    cut_off = body(whole[:-4], options(), json_bytes=str(len(head)))
    assert cut_off == Unreadable(Flag.SHAPE_MISMATCH)
    few = options(limits=LimitSettings(max_numbers=3))
    assert body(whole, few, json_bytes=str(len(head))) == Unreadable(Flag.TOO_LARGE)


def test_declared_encodings_are_undone_twice_at_most() -> None:
    assert body("W1sxLDJdXQ==", options(), encoding="BASE64") == [[1, 2]]
    assert body(json.dumps("[[1,2]]"), options()) == [[1, 2]]
    assert body(json.dumps(json.dumps("[[1,2]]")), options()) == "[[1,2]]"
    assert body("not base64!", options(), encoding="BASE64") == Unreadable(Flag.SHAPE_MISMATCH)
    assert body("[" * 40 + "]" * 40, options()) == Unreadable(Flag.TOO_LARGE)
    assert body("", options()) is None
