"""A small capture gives the alerts that are committed beside it; `make.py` renews both."""

from __future__ import annotations

import orjson

from detector.alerts import Document
from tests.golden.make import ALERTS, ATTACKS, CAPTURE, capture, replay


def golden() -> list[Document]:
    return [orjson.loads(line) for line in ALERTS.read_bytes().splitlines()]


def rounded(value: object) -> object:
    """Round the numbers: another processor's mathematics library may differ in the last digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items() if key not in ("message", "reason")}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def test_the_committed_capture_gives_the_committed_alerts() -> None:
    found = [orjson.loads(orjson.dumps(doc)) for doc in replay(CAPTURE.read_bytes().splitlines())]
    assert [rounded(doc) for doc in found] == [rounded(doc) for doc in golden()]


def test_the_capture_is_what_its_script_makes() -> None:
    made, kept = capture(), CAPTURE.read_bytes().splitlines()
    assert len(made) == len(kept)
    for a, b in zip(made, kept, strict=True):
        ours, theirs = orjson.loads(a), orjson.loads(b)
        assert ours["client"] == theirs["client"]
        assert ours["input"] == theirs["input"]


def test_the_alerts_name_attackers_of_several_families_and_no_ordinary_client() -> None:
    clients = {doc["user"]["id"] for doc in golden()}
    assert len({doc["querywatch"]["attack"]["family"] for doc in golden()}) >= 3
    assert len(clients & {habit.__name__ for habit in ATTACKS}) >= 3
    assert not {client for client in clients if client.startswith("app-")}
