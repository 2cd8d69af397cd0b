"""The loop: nothing lost, nothing twice, whatever fails in the middle. Real decoding, real SQLite, real checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
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
from detector.events import DeadLetter, Records
from detector.outbox import Counters
from detector.service import Service, ServiceConfig, UndeliveredError
from detector.snapshot import Checkpoints, Snapshot, SnapshotError
from detector.sources import PartitionedSource
from detector.sources.whole import Whole
from detector.stores import AlertQuery, Rejected, StoreUnavailableError, Written
from detector.stores.sqlite import SqliteStore
from tests.memory import MemoryLog, MemorySource
from tests.toy import ToyPipeline, as_records, decode, expected, records, stream

NAMESPACE = "toy"
EAGER = ServiceConfig(NAMESPACE, "live", commit_every_s=0, snapshot_every_s=0, idle_s=0, deadline_s=0.3)


class Crash(BaseException):
    """The process ends here: nothing may catch it."""


class Store:
    """A real SQLite store that can be made to fail: before it writes, or after it wrote and before it answers."""

    def __init__(self, folder: Path) -> None:
        self.sqlite = SqliteStore(folder / "alerts.sqlite", NAMESPACE)
        self.sqlite.setup()
        self.failures = 0  # how many writes to refuse
        self.crash_after: int | None = None  # writes until the process dies between the write and its answer
        self.refuse: Callable[[Document], str | None] = lambda _: None
        self.writes = 0

    def write(self, documents: Sequence[Document]) -> Written:
        self.writes += 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("down for the test")
        refused = [Rejected(doc, reason) for doc in documents if (reason := self.refuse(doc)) is not None]
        kept = [doc for doc in documents if doc not in [r.document for r in refused]]
        written = self.sqlite.write(kept)
        if self.crash_after is not None and self.writes > self.crash_after:
            raise Crash
        written.rejected += refused
        return written

    def ids(self) -> list[str]:
        return [doc["querywatch"]["alert_id"] for doc in self.sqlite.list(AlertQuery(limit=100_000))]


class Letters:
    """Dead letters kept in memory."""

    def __init__(self) -> None:
        self.kept: list[DeadLetter] = []
        self.failures = 0

    def write(self, letters: Sequence[DeadLetter]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("dead letters down for the test")
        self.kept += letters

    def close(self) -> None:
        pass


class Bench:
    """Everything that outlives one run of the service."""

    def __init__(self, folder: Path, log: MemoryLog) -> None:
        self.folder = folder
        self.log = log
        self.store = Store(folder)
        self.letters = Letters()
        self.pipeline = ToyPipeline()
        self.checkpoints: Checkpoints | None = Checkpoints(str(folder / "state"), "g")

    def service(self, source: PartitionedSource | None = None, config: ServiceConfig = EAGER) -> Service:
        self.pipeline = ToyPipeline()
        return Service(
            source or MemorySource(self.log), decode, self.pipeline, self.store, self.letters,
            checkpoints=self.checkpoints, config=config,
        )  # fmt: skip

    def run(self, source: PartitionedSource | None = None, config: ServiceConfig = EAGER) -> Counters:
        return self.service(source, config).run(threading.Event())


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


def test_a_revoked_partition_is_finished_and_its_next_owner_repeats_nothing(bench: Bench, messages: list[Any]) -> None:
    first = MemorySource(bench.log, step=60)
    service = bench.service(first, ServiceConfig(NAMESPACE, "live", idle_s=0))
    for _ in range(5):
        service.step()
    first.rebalance("revoked", 1)
    service.step()
    assert bench.checkpoints is not None
    owner = MemorySource(bench.log, [1])
    taken_over = Service(
        owner, decode, ToyPipeline(), bench.store, bench.letters, checkpoints=bench.checkpoints, config=EAGER
    ).run(threading.Event())
    assert (taken_over.restored, taken_over.replayed, taken_over.duplicates) == (1, 0, 0)
    counters = service.run(threading.Event())
    assert (counters.revoked, counters.lost) == (1, 0)
    assert 1 not in bench.pipeline.counts
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def test_a_lost_partition_is_dropped_without_a_commit(bench: Bench, messages: list[Any]) -> None:
    source = MemorySource(bench.log, step=60)
    service = bench.service(source, ServiceConfig(NAMESPACE, "live", commit_every_s=1e9, idle_s=0))
    for _ in range(5):
        service.step()
    commits = len(source.commits)
    source.rebalance("lost", 1)
    service.step()
    assert len(source.commits) == commits
    assert 1 not in bench.pipeline.counts
    source.rebalance("assigned", 1)
    service.run(threading.Event())
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def test_a_revoke_while_the_store_is_away_commits_nothing(bench: Bench, messages: list[Any]) -> None:
    source = MemorySource(bench.log)
    service = bench.service(source, ServiceConfig(NAMESPACE, "live", commit_every_s=1e9, idle_s=0))
    bench.store.failures = 10**9
    for _ in range(8):
        service.step()
    source.rebalance("revoked", 0)
    service.step()
    assert bench.log.committed.get(0, 0) == 0
    bench.store.failures = 0
    source.rebalance("assigned", 0)
    service.run(threading.Event())
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def test_a_stop_that_cannot_deliver_in_time_says_so_and_commits_nothing(bench: Bench) -> None:
    service = bench.service()
    bench.store.failures = 10**9
    for _ in range(8):
        service.step()
    before = dict(bench.log.committed)
    stop = threading.Event()
    stop.set()
    with pytest.raises(UndeliveredError, match="undelivered and uncommitted"):
        service.run(stop)
    assert bench.log.committed == before


def test_a_stop_takes_a_last_checkpoint(bench: Bench) -> None:
    config = ServiceConfig(NAMESPACE, "live", commit_every_s=1e9, snapshot_every_s=1e9, idle_s=0)
    service = bench.service(MemorySource(bench.log, step=60, endless=True), config)
    for _ in range(4):
        service.step()
    stop = threading.Event()
    stop.set()
    counters = service.run(stop)
    assert counters.checkpoints == 3
    assert all(offset > 0 for offset in bench.log.committed.values())
    restart = bench.run()
    assert (restart.restored, restart.replayed) == (3, 0)


def test_without_a_usable_checkpoint_a_warm_up_is_read_again_with_alerts_on(bench: Bench, messages: list[Any]) -> None:
    bench.run()
    for path in (bench.folder / "state").rglob("*.qws"):
        path.write_bytes(b"damaged")
    counters = bench.run(config=ServiceConfig(NAMESPACE, "live", warm_up_records=10**6))
    assert (counters.warmed_up, counters.restored, counters.replayed) == (3, 0, 1500)
    assert counters.duplicates == len(expected(messages, NAMESPACE))
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def test_a_log_that_forgot_records_is_noted_and_its_alerts_are_flagged(bench: Bench) -> None:
    whole = bench.log.values
    bench.log.values = {p: values[: len(values) // 3] for p, values in whole.items()}
    bench.run()
    bench.log.values = whole
    bench.log.first = {p: bench.log.committed[p] + 5 for p in whole}
    counters = bench.run()
    assert counters.missing == 15
    flagged = [
        doc for i in bench.store.ids() for doc in bench.store.sqlite.events(i) if "state_gap" in doc["querywatch"]
    ]
    assert len(flagged) == counters.stored > 0
    assert "not in the log any more" in flagged[0]["querywatch"]["state_gap"]


def test_a_log_that_was_made_anew_is_read_from_its_start_with_fresh_state(bench: Bench) -> None:
    bench.run()
    bench.log.values = {p: values[:100] for p, values in bench.log.values.items()}  # shorter than what was committed
    counters = bench.run()
    assert (counters.restored, counters.records) == (0, 300)
    assert bench.log.committed == {0: 100, 1: 100, 2: 100}


class FullDisk(Checkpoints):
    """Every write fails as it does on a full disk."""

    def write(self, snapshot: Snapshot) -> None:
        raise SnapshotError(f"{snapshot.position}: No space left on device")


def test_checkpoints_that_cannot_be_read_delay_the_start_instead_of_forgetting_them(bench: Bench) -> None:
    (bench.folder / "state").write_text("a file where the folder should be")
    service = bench.service()
    for _ in range(3):
        service.step()
    assert bench.pipeline.seen == []
    assert bench.log.committed == {}


def test_a_full_disk_costs_the_checkpoint_and_nothing_else(bench: Bench, messages: list[Any]) -> None:
    bench.checkpoints = FullDisk(str(bench.folder / "state"), "g")
    counters = bench.run()
    assert counters.checkpoints == 0
    assert counters.checkpoint_failures > 0
    assert bench.log.committed == {p: len(values) for p, values in bench.log.values.items()}
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


def test_a_source_that_is_away_at_the_start_delays_the_partitions_and_loses_nothing(
    bench: Bench, messages: list[Any]
) -> None:
    source = MemorySource(bench.log)
    source.unavailable = True
    service = bench.service(source)
    for _ in range(3):
        service.step()
    assert bench.pipeline.seen == []
    source.unavailable = False
    service.run(threading.Event())
    assert sorted(bench.store.ids()) == sorted(expected(messages, NAMESPACE))


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
