"""The loop: nothing lost, nothing twice, whatever fails in the middle. Real decoding, real SQLite, real checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from detector.alerts import Document
from detector.deadletters import FileDeadLetters
from detector.events import Records
from detector.service import Service, ServiceConfig
from detector.snapshot import Checkpoints, Snapshot
from detector.sources.whole import Whole
from tests.memory import MemoryLog, MemorySource
from tests.toy import ToyPipeline, as_records, decode, expected, records, stream
from tests.unit.service_bench import EAGER, NAMESPACE, Bench, Crash


@pytest.fixture
def messages() -> list[Any]:
    return stream(1500, partitions=3)


@pytest.fixture
def bench(tmp_path: Path, messages: list[Any]) -> Bench:
    return Bench(tmp_path, MemoryLog.of(records(messages)))


def test_a_straight_run_delivers_every_alert_once_and_commits_everything(bench: Bench, messages: list[Any]) -> None:
    counters = bench.run()
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))
    assert bench.log.committed == {p: len(values) for p, values in bench.log.values.items()}
    assert (counters.records, counters.events, counters.stored) == (1500, 1500, len(bench.store.ids()))
    assert counters.stored == counters.alerts > 20


def test_a_second_run_continues_where_the_first_stopped(bench: Bench, messages: list[Any]) -> None:
    whole = bench.log.values
    bench.log.values = {p: values[: len(values) // 2 + 7 * p] for p, values in whole.items()}
    bench.run()
    bench.log.values = whole
    second = bench.run()
    assert (second.restored, second.replayed, second.duplicates) == (3, 0, 0)
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


@settings(max_examples=12, deadline=None)
@given(
    crashes=st.lists(
        st.tuples(st.sampled_from(["alerts", "snapshot", "commit", "anywhere"]), st.integers(0, 25)), max_size=5
    ),
    step=st.integers(1, 90),
)
def test_crashes_at_any_point_lose_nothing_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, crashes: list[tuple[str, int]], step: int
) -> None:
    messages = stream(500, partitions=2)
    bench = Bench(tmp_path_factory.mktemp("crash"), MemoryLog.of(records(messages)))
    for point, after in crashes:
        service = bench.service(MemorySource(bench.log, step=step))
        _crash_at(bench, service, point, after)
        stop = threading.Event()
        with suppress(Crash):
            service.run(stop)
        bench.store.crash_after = None
        bench.checkpoints = Checkpoints(str(bench.folder / "state"), "g")
    bench.run(MemorySource(bench.log, step=step))
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def _crash_at(bench: Bench, service: Service, point: str, after: int) -> None:
    """Let the process die at one of the named points, the `after`-th time that it comes by."""
    if point == "alerts":
        bench.store.crash_after = bench.store.writes + after
    elif point == "snapshot":
        bench.checkpoints = service._checkpoints = DyingCheckpoints(bench.folder, after)
    elif point == "commit":
        service._source.commit = _dying(service._source.commit, after)  # type: ignore[method-assign]
    else:
        service._source.poll = _dying(service._source.poll, after)  # type: ignore[method-assign]


def _dying(call: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = iter(range(after))

    def die(*args: Any) -> Any:
        if next(calls, None) is None:
            raise Crash
        return call(*args)

    return die


class DyingCheckpoints(Checkpoints):
    """Dies after the n-th snapshot has its final name and before its offset is committed."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(str(folder / "state"), "g")
        self.after = after

    def write(self, snapshot: Snapshot) -> None:
        super().write(snapshot)
        self.after -= 1
        if self.after < 0:
            raise Crash


def test_a_crash_before_the_commit_replays_and_the_store_sees_duplicates(bench: Bench, messages: list[Any]) -> None:
    service = bench.service(MemorySource(bench.log, step=200), ServiceConfig(NAMESPACE, "live", idle_s=0))
    bench.store.crash_after = bench.store.writes + 2
    with pytest.raises(Crash):
        service.run(threading.Event())
    bench.store.crash_after = None
    counters = bench.run()
    assert counters.duplicates > 0
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def test_while_the_store_is_away_nothing_is_committed_and_everything_is_paused(
    bench: Bench, messages: list[Any]
) -> None:
    source = MemorySource(bench.log)
    service = bench.service(source)
    bench.store.failures = 10**9
    for _ in range(12):
        service.step()
    committed = dict(bench.log.committed)
    for _ in range(5):
        service.step()
    assert set(source.paused) == {0, 1, 2}
    assert bench.log.committed == committed
    assert service.counters.store_outages == 1
    bench.store.failures = 0
    service.run(threading.Event())
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def test_dead_letters_are_delivered_before_their_offsets_are_committed(bench: Bench) -> None:
    bench.log.values = {0: [b"{not json", b"", bench.log.values[0][0]]}
    bench.letters.failures = 2
    service = bench.service()
    service.step()
    service.step()
    assert bench.log.committed == {0: 0}  # the first start, nothing more
    counters = service.run(threading.Event())
    assert [(letter.offset, letter.reason.value) for letter in bench.letters.kept] == [(0, "invalid_json")]
    assert (counters.skipped, counters.refused["invalid_json"], counters.dead_letters) == (1, 1, 1)
    assert bench.log.committed == {0: 3}


def test_an_alert_that_the_store_refuses_becomes_a_dead_letter(bench: Bench) -> None:
    refused: list[str] = []

    def refuse_the_first(doc: Document) -> str | None:
        if refused and doc["event"]["id"] not in refused:
            return None
        refused.append(doc["event"]["id"])
        return "mapper_parsing_exception: field [x]"

    bench.store.refuse = refuse_the_first
    counters = bench.run()
    assert [letter.reason.value for letter in bench.letters.kept] == ["alert_rejected"]
    assert counters.stored == counters.alerts - 1
    assert bench.letters.kept[0].topic == "toy"


def test_the_order_of_processing_does_not_depend_on_the_size_of_polls(bench: Bench) -> None:
    patient = ServiceConfig(NAMESPACE, "live", idle_s=1e9)
    orders = []
    for step in (1, 17, 400):
        bench.checkpoints = None
        bench.run(MemorySource(bench.log, step=step), patient)
        orders.append(bench.pipeline.seen)
    assert len(orders[0]) == 1500
    assert orders[0] == orders[1] == orders[2]


class Plain:
    """A finite source as a capture is: records, then None."""

    def __init__(self, rows: list[tuple[int, int, bytes]], step: int) -> None:
        self.rows = rows
        self.step = step

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        del timeout_s
        taken, self.rows = self.rows[: min(self.step, max_records)], self.rows[min(self.step, max_records) :]
        return as_records(taken) if taken else None

    def commit(self, offsets: Mapping[int, int]) -> None:
        raise AssertionError(f"nothing to commit in a replay, but {offsets}")

    def close(self) -> None:
        self.rows = []


def test_replay_is_the_same_loop_without_checkpoints(bench: Bench, messages: list[Any], tmp_path: Path) -> None:
    live = bench.service(MemorySource(bench.log), ServiceConfig(NAMESPACE, "live", idle_s=1e9))
    live.run(threading.Event())
    order = bench.pipeline.seen
    rows = [*records(messages), (0, 10_000, b"{")]
    replayed = ToyPipeline()
    letters = FileDeadLetters(tmp_path / "toy.dlq.jsonl")
    again = Service(
        Whole(Plain(rows, 64), "toy", [0, 1, 2]), decode, replayed, bench.store, letters,
        checkpoints=None, config=ServiceConfig(NAMESPACE, "replay"),
    )  # fmt: skip
    counters = again.run(threading.Event())
    assert replayed.seen == order
    assert (counters.alerts, counters.commits, counters.checkpoints) == (len(expected(messages, NAMESPACE)), 0, 0)
    assert b'"reason":"invalid_json"' in (tmp_path / "toy.dlq.jsonl").read_bytes()


@pytest.mark.parametrize(("every_s", "shown"), [(0.0, True), (60.0, False)])
def test_a_line_a_minute_says_how_it_goes_and_what_nobody_can_see(bench: Bench, every_s: float, shown: bool) -> None:
    structlog.reset_defaults()  # commands run by other tests may have set a level
    with capture_logs() as lines:
        counters = bench.run(config=replace(EAGER, report_every_s=every_s))
    progress = [line for line in lines if line["event"] == "progress"]
    assert bool(progress) == shown
    if shown:
        assert 0 < progress[-1]["events"] <= counters.events
        assert ["toy: steering lacks scores in 50 %"] in [line["starved"] for line in progress]
