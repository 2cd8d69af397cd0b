"""No alerts never hides no data: who is starved of what is counted, and said wherever somebody looks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from detector.cli import app
from detector.detectors import Need, Signal, discover
from detector.detectors.volume import Volume
from detector.events import EventBatch, InputLevel, ModelRef, OutputLevel, Ragged
from detector.formats import native
from detector.registry import Entry, Registry
from detector.shortage import Detail, starved_tests
from tests import pipelines, streams
from tests.unit.rules_support import batch_of

LEVELS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(InputLevel), st.sampled_from(OutputLevel)),
    min_size=1,
    max_size=40,
)
MODEL = streams.Model.make(np.random.default_rng(7), 6, 3)


def batch(rows: list[tuple[str, InputLevel, OutputLevel]]) -> EventBatch:
    made = batch_of([0] * len(rows), model=[model for model, _, _ in rows])
    made.input_level[:] = [level for _, level, _ in rows]
    made.output_level[:] = [level for _, _, level in rows]
    return made


def count(detail: Detail, events: EventBatch) -> None:
    detail.count(events, np.zeros(len(events), np.bool_))


@settings(deadline=None)
@given(LEVELS, st.integers(0, 40))
def test_shares_are_those_of_counting_one_event_at_a_time(
    rows: list[tuple[str, InputLevel, OutputLevel]], cut: int
) -> None:
    detail = Detail()
    for part in (rows[:cut], rows[cut:]):
        if part:
            count(detail, batch(part))
    found = {(s.model, s.detector): s for s in detail.shortages(discover(), Registry())}
    for detector in discover():
        for model in ("a", "b"):
            own = [(i, o) for m, i, o in rows if m == model]
            short = [(i, o) for i, o in own if i < detector.need.input or o < detector.need.output]
            shortage = found.get((model, detector.name))
            assert (shortage is not None) == bool(short)
            if shortage is not None:
                assert (shortage.events, shortage.of) == (len(short), len(own))
                assert ("inputs" in " ".join(shortage.missing)) == any(i < detector.need.input for i, _ in own)


def test_a_tests_blindness_is_that_of_its_detector() -> None:
    rows = [("a", InputLevel.VECTOR, OutputLevel.SCORES), ("a", InputLevel.DIGEST, OutputLevel.SCORES)]
    events = batch([*rows, ("a", InputLevel.NONE, OutputLevel.NONE)])
    whole, digest, nothing = (set(starved_tests(discover(), events, i)) for i in range(3))
    assert whole == set()
    assert {test for test in digest if test.startswith("probing.")} == set()
    assert {"novelty.made", "steering.cloud"} & nothing <= digest < nothing
    assert "probing.threads" in nothing
    assert "volume.burst" not in nothing


def test_what_the_api_never_answers_is_told_from_what_the_log_leaves_out() -> None:
    detail = Detail()
    count(detail, batch([("a", InputLevel.VECTOR, OutputLevel.NONE)] * 4))
    silent = Registry((Entry("a", output="label"),))
    (steering,) = (s for s in detail.shortages(discover(), silent) if s.detector == "steering")
    assert (steering.missing, steering.unanswered) == (("labels",), False)
    (shortage,) = detail.shortages([Needy()], silent)
    assert shortage.unanswered
    assert str(shortage) == "a 1: needy lacks scores in 100 %, which the API does not give"


class Needy(Volume):
    """A detector that wants all scores."""

    name = "needy"
    signals: tuple[Signal, ...] = ()  # type: ignore[assignment]
    need = Need(InputLevel.NONE, OutputLevel.SCORES)


def bare_stream() -> EventBatch:
    """Forty clients with whole inputs, and an attack of which half of the calls were logged without."""
    made = [
        query
        for k in range(40)
        for query in streams.queries(
            np.random.default_rng(k), MODEL, streams.ordinary, 10, streams.Query(f"c{k}", None, None)
        )
    ]
    like = streams.Query("attacker", None, None, time_us=streams.START_US + 60 * streams.SECOND_US)
    attack = streams.queries(np.random.default_rng(1), MODEL, streams.noise_copies, 200, like)
    bare = [replace(q, x=None if i > 100 and i % 2 else q.x) for i, q in enumerate(attack)]
    return streams.batch(sorted([*made, *bare], key=lambda query: query.time_us))


def test_an_alert_names_the_tests_that_could_not_speak() -> None:
    line = pipelines.pipeline(64)
    alerts = line.process(bare_stream()) + line.close()
    assert alerts
    assert {doc["querywatch"]["starved"] == [] for doc in pipelines.documents(alerts)} == {True}
    assert ("probing", 50, ("digests of inputs",)) in [(s.detector, s.events, s.missing) for s in line.shortages()]


def test_an_alert_on_digests_alone_says_that_geometry_was_blind() -> None:
    like = streams.Query("attacker", None, None)
    events = streams.batch(streams.queries(np.random.default_rng(1), MODEL, streams.retries, 300, like))
    events.input_level[:] = InputLevel.DIGEST
    events.input = Ragged(np.empty(0, np.float32), np.zeros(len(events) + 1, np.int64))
    line = pipelines.pipeline(64)
    alerts = [alert for alert in line.process(events) + line.close() if alert.rule.family != "volume"]
    assert alerts
    for alert in alerts:
        assert {"steering.cloud", "novelty.made"} & set(alert.starved)
        assert not {"probing.runs", "volume.burst"} & set(alert.starved)


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "capture.jsonl"
    path.write_bytes(b"\n".join(native.encode(bare_stream())))
    return path


def test_a_replay_says_who_was_blind(capture: Path) -> None:
    shown = CliRunner().invoke(app, ["replay", str(capture), "--alerts-out", "alerts.jsonl"])
    assert shown.exit_code == 0
    assert "too little detail in the log" in shown.stdout
    found = CliRunner().invoke(app, ["replay", str(capture), "--alerts-out", "alerts.jsonl", "--json"])
    starved = {row["detector"]: row for row in json.loads(found.stdout)["starved"]}
    assert starved["steering"]["missing"] == ["inputs"]
    assert starved["steering"]["share"] == pytest.approx(
        starved["steering"]["events"] / starved["steering"]["of"], abs=1e-4
    )
    assert "volume" not in starved
    assert ModelRef(starved["steering"]["model"], starved["steering"]["version"]) == streams.MODEL
