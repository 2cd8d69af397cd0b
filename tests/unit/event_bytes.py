"""Strategies that make records: plain ones, odd ones, broken ones."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, -(2**63), -(2**70)]),
    st.floats(),
    st.floats(width=32),
    st.text(max_size=6),
    st.sampled_from(
        ["", "\ud800", "é" * 200, "x" * 300, "vector", '"vector":[1]', "scores", "\n", "\\", "unknown", "1e39"]
    ),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
numbers = st.one_of(st.floats(-2, 2, width=32), st.floats(0, 1), st.integers(-5, 255), st.floats(allow_nan=False))
rows = st.lists(numbers, min_size=1, max_size=5)
times = st.one_of(
    st.datetimes().map(lambda t: t.isoformat() + "Z"),
    st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds") + "Z"),
    st.sampled_from(
        [
            "2026-11-21T10:00:00Z",
            "2026-11-21t10:00:00.1234567z",
            "2026-11-21 10:00:00+05:30",
            "2024-02-29T23:59:60Z",
            "2023-02-29T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:00:00",
            "2026-11-21T10:00:00.Z",
            "1969-12-31T23:59:59Z",
            "2199-12-31T23:59:59.999999Z",
            "2200-01-01T00:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "２026-11-21T10:00:00Z",
        ]
    ),
    st.integers(0, 2_000_000_000),
    st.floats(0, 8e9),
)
labels = st.one_of(st.integers(0, 9), st.sampled_from(["cat", "dog", -1, 2**40]))


def maybe(good: st.SearchStrategy[Any], odd: bool) -> st.SearchStrategy[Any]:
    """Mostly what belongs there."""
    return st.one_of(good, good, good, anything) if odd else good


def events(odd: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """Prediction events, with odd values in any place when `odd`."""
    one_output = st.fixed_dictionaries(
        {},
        optional={
            "label": maybe(labels, odd),
            "scores": maybe(rows, odd),
            "confidence": maybe(st.floats(0, 1), odd),
            "topk": maybe(st.lists(st.tuples(labels, st.floats(0, 1)), min_size=1, max_size=3), odd),
        },
    )
    many_output = st.fixed_dictionaries(
        {},
        optional={
            "label": st.lists(maybe(labels, odd), min_size=2, max_size=3),
            "scores": st.lists(maybe(rows, odd), min_size=2, max_size=3),
            "confidence": st.lists(maybe(st.floats(0, 1), odd), min_size=2, max_size=2),
            "topk": st.lists(
                st.lists(st.tuples(labels, st.floats(0, 1)), min_size=1, max_size=2), min_size=2, max_size=2
            ),
        },
    )
    sketches = st.fixed_dictionaries(
        {
            "seed_id": maybe(st.sampled_from(["k1", "k2"]), odd),
            "values": maybe(st.lists(st.integers(-128, 127), min_size=1), odd),
        }
    )
    given = st.one_of(
        st.fixed_dictionaries({"vector": maybe(rows, odd)}),
        st.fixed_dictionaries({"vector": st.lists(maybe(rows, odd), min_size=2, max_size=3)}),
        st.fixed_dictionaries({"sketch": maybe(sketches, odd)}),
        st.fixed_dictionaries({"digest": maybe(st.sampled_from(["ab12", "u64:00000000000000ff"]), odd)}),
    )
    client = st.fixed_dictionaries(
        {},
        optional={
            "id": maybe(st.sampled_from(["a", "b", "vector"]), odd),
            "kind": maybe(st.sampled_from(["api_key", "user", "unknown", "robot"]), odd),
            "ip": maybe(st.just("203.0.113.9"), odd),
        },
    )
    model = st.fixed_dictionaries(
        {"name": maybe(st.sampled_from(["m", "n"]), odd)}, optional={"version": maybe(st.just("3"), odd)}
    )
    return st.fixed_dictionaries(
        {
            "event_time": maybe(times if odd else st.just("2026-11-21T10:00:00.123456Z"), odd),
            "model": maybe(model, odd),
        },
        optional={
            "schema": maybe(st.just("prediction_event/1"), odd),
            "request_id": maybe(st.just("r"), odd),
            "client": maybe(client, odd),
            "status": maybe(st.integers(0, 999), odd),
            "latency_ms": maybe(st.floats(0, 1e4), odd),
            "input": maybe(given, odd),
            "output": maybe(st.one_of(one_output, many_output), odd),
            **({"flags": st.integers(-1, 9), "extra": anything} if odd else {}),
        },
    )


_TOKENS = st.one_of(
    st.sampled_from(["0", "1", "-1", "0.31", "1e-3", "12", "0.00012345678901234567", "3.25E+2", "-0.0"]),
    st.floats(-1, 1).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-100, 100, allow_nan=False).map("{:f}".format),
)
_ODD_TOKENS = st.sampled_from(
    [
        "NaN",
        "1e39",
        "3.4028236e38",
        "01",
        "1.",
        "-",
        "1e",
        "[1]",
        '"1"',
        "null",
        "1 2",
        "",
        "1" * 25,
        "1e-500",
        "true",
        "1e5]",
        "[",
        "]",
    ]
)
_FIELDS = {
    "schema": ['"prediction_event/1"', '"prediction_event/2"', "null", "1"],
    "request_id": ['"r"', "7", "null", "[]", '"a\\u00e9"', '"\\ud800"'],
    "status": ["200", "0", "999", "1000", "-1", "200.0", "null", "true", '"200"'],
    "latency_ms": ["3.1", "5", "1e39", "1e400", "null", '"1"', "-2"],
    "client": [
        '{"id":"a","kind":"api_key","ip":"1.2.3.4"}', '{"id":"b"}', "{}", "null", '{"id":""}', '{"id":[1]}', '{"id":7}',
        '{"id":"unknown","kind":"robot"}', '{"id":null,"ip":null}', '{"id":"\\"vector\\":[1]"}', '{"id":"vector"}',
        '{"id":"scores","kind":"vector"}', '{"id":"é","kind":"unknown"}', '{"id":"{"}', '{"id":1,"id":"b"}',
        '{"id":"' + "x" * 256 + '"}', '{"id":"' + "x" * 257 + '"}', '{"id":"a","vector":[1]}',
    ],
    "flags": ["0", "1"],
    "extra": ["1", '{"vector":[1]}', '"\xff"'],
}  # fmt: skip
_INPUTS = [
    "{}", "null", '{"vector":0}', '{"digest":"ab"}', '{"vector" : [1] }', '{"values":[1]}', '{"sketch":{"values":[1]}}',
    '{"vector":0,"sketch":{"seed_id":"k1","values":[1]}}', '{"vector":[1],"sketch":{"seed_id":"k1","values":0}}',
    '{"sketch":{"seed_id":"k1","values":0}}', '{"vector":[1],"sketch":null}', '{"vector":[1],"sketch":{}}',
    '{"sketch":{"seed_id":"k1","values":[1],"values":[2]}}', '{"sketch":{"seed_id":"k1","vector":[1]}}',
]  # fmt: skip
_MODELS = st.sampled_from(
    [
        *('{"name":"m","version":"3"}', '{"name":"m"}', '{"name":"n","version":""}', '{"name":"m","version":3}'),
        *('{"name":""}', "{}", "null", '{"name":"m","name":"n"}'),
    ]
)


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """A record for the short way, or one odd step beside it."""

    def numbers() -> str:
        tokens = draw(st.lists(_TOKENS, min_size=1, max_size=6))
        if not draw(st.integers(0, 15)):
            tokens[draw(st.integers(0, len(tokens) - 1))] = draw(_ODD_TOKENS)
        return "[" + draw(st.sampled_from([",", ",", ", ", " , ", ",\n"])).join(tokens) + "]"

    def often(good: str, others: list[str]) -> str:
        return good if draw(st.integers(0, 7)) else draw(st.sampled_from(others))

    time = json.dumps(draw(times)) if not draw(st.integers(0, 3)) else '"2026-11-21T10:00:00.123456Z"'
    parts = {"event_time": time, "model": '{"name":"m","version":"3"}' if draw(st.integers(0, 7)) else draw(_MODELS)}
    if draw(st.booleans()):
        seed = often('"k1"', ['"k2"', '""', "7", "null", '"' + "k" * 257 + '"'])
        sketch = '{"sketch":{"seed_id":' + seed + ',"values":' + numbers() + "}}"
        parts["input"] = often(draw(st.sampled_from(['{"vector":' + numbers() + "}", sketch])), _INPUTS)
    if draw(st.booleans()):
        label = often(
            "",
            [
                '"label":3,',
                '"label":"cat",',
                '"label":-1,',
                '"label":4294967296,',
                '"label":1.0,',
                '"label":"",',
                '"label":null,',
            ],
        )
        confidence = often(
            '"confidence":0.5', ['"confidence":1e39', '"confidence":null', '"confidence":1', '"topk":[["a",1]]']
        )
        parts["output"] = "{" + label + draw(st.sampled_from(['"scores":' + numbers(), confidence])) + "}"
    for name in draw(st.lists(st.sampled_from(sorted(_FIELDS)), max_size=3, unique=True)):
        parts[name] = often(_FIELDS[name][0], _FIELDS[name])
    items = [f'"{name}":{value}' for name, value in parts.items()]
    if not draw(st.integers(0, 9)):
        items.append(draw(records_of_keys()).decode())
    if not draw(st.integers(0, 3)):
        items.reverse()
    return ("{" + draw(st.sampled_from([",", ", "])).join(items) + "}").encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes | None:
    """A record with some of its bytes cut, changed or added."""
    value = draw(nearly_plain())
    at = draw(st.integers(0, len(value) - 1))
    byte = draw(st.sampled_from([b"\xff", b'"', b"\\", b"[", b"]", b"{", b"}", b",", b"0", b"\n", b"e5", b" ", b""]))
    choices = [
        value[:at],
        value[:at] + byte + value[at + 1 :],
        value[:at] + byte + value[at:],
        value + byte,
        value + value,
    ]
    return draw(st.sampled_from([*choices, None]))


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """An event with odd values anywhere."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\t")]))
    text = json.dumps(draw(events()), separators=separators, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


def records() -> st.SearchStrategy[bytes | None]:
    """Records of every kind."""
    return st.one_of(nearly_plain(), nearly_plain(), damaged(), odd())


def records_of_keys() -> st.SearchStrategy[bytes]:
    """Keys that stand in the record already, or look like it."""
    return st.sampled_from(
        [
            b'"input":{}',
            b'"input":{"vector":0}',
            b'"input":{"vector":[1],"vector":[2]}',
            b'"input":{"sketch":{"seed_id":"k1","values":[1]}}',
            b'"input":{"sketch":{"seed_id":"k1","values":0}}',
            b'"values":[1,2]',
            b'"output":{"label":1}',
            b'"output":{"scores":0}',
            b'"vector":[1,2]',
            b'"client":{"vector":[1,2]}',
            b'"in\\u0070ut":{"vector":[7]}',
            b'"event_time":5',
        ]
    )
