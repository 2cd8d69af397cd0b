"""The loop while partitions come and go: revoked, lost, begun without a checkpoint, made anew."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from detector.service import Service, ServiceConfig, UndeliveredError
from detector.snapshot import Checkpoints, Snapshot, SnapshotError
from tests.memory import MemoryLog, MemorySource
from tests.toy import ToyPipeline, decode, expected, records, stream
from tests.unit.service_bench import EAGER, NAMESPACE, Bench


@pytest.fixture
def messages() -> list[Any]:
    return stream(1500, partitions=3)


@pytest.fixture
def bench(tmp_path: Path, messages: list[Any]) -> Bench:
    return Bench(tmp_path, MemoryLog.of(records(messages)))


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
