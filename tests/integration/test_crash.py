"""kill -9 at named points and at random moments: at the end every expected alert is there, and none is there twice."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import servers
from tests.integration.live import Live, until
from tests.toy import expected, stream

pytestmark = pytest.mark.integration

POINTS = [
    ("applied", 3),  # the store took the alerts and its answer never came
    ("before-rename", 2),  # a checkpoint is half there
    ("before-commit", 2),  # a checkpoint is whole and its offset is not committed
    ("committed", 2),  # the offset is committed and nobody heard of it
]


@pytest.mark.parametrize(("point", "after"), POINTS)
def test_a_kill_at_a_named_point_loses_nothing_and_doubles_nothing(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path, point: str, after: int
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=2)
    messages = stream(9000, partitions=2)  # many polls, so that a slow checkpoint finds most of them still to come
    live.produce(messages)
    with live.worker(die_at=point, die_after=after, session_timeout_s=2, max_poll_records=100) as worker:
        assert worker.died()
    done_before = len(live.ids())
    counters = live.run(session_timeout_s=2)
    assert done_before < len(expected(messages, fresh_name))  # it died on the way, not after it
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))
    assert counters["lost"] == 0
    if point == "applied":
        assert counters["duplicates"] > 0


def test_a_kill_inside_of_a_revoke_leaves_the_partition_to_its_next_owner(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=2)
    messages = stream(3000, partitions=2)
    live.produce(messages[:1500])
    with live.worker(until_end=False, session_timeout_s=2, die_at="revoke") as first:
        until(lambda: Path(live.order.sqlite).exists() and len(live.ids()) > 10)
        with live.worker(until_end=False, session_timeout_s=2) as second:

            def produce_slowly() -> None:
                for i in range(1500, 3000, 100):
                    live.produce(messages[i : i + 100])

            producer = threading.Thread(target=produce_slowly)
            producer.start()
            assert first.died()
            producer.join()
            until(lambda: second.text().count("partition ready") == 2)
            until(lambda: len(live.ids()) >= len(expected(messages, fresh_name)))
            second.signal(signal.SIGTERM)
            counters = second.finish()
    assert counters["assigned"] == 2
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_double_nothing_and_something_was_replayed(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=2)
    messages = stream(8000, partitions=2, clients=20)
    rng = np.random.default_rng()
    producer = threading.Thread(target=_trickle, args=(live, messages))
    producer.start()
    for _ in range(3):
        with live.worker(until_end=False, instance_id="one", snapshot_every_s=1.5) as worker:
            before = len(live.ids()) if Path(live.order.sqlite).exists() else 0
            until(lambda: Path(live.order.sqlite).exists() and len(live.ids()) > before)  # noqa: B023 (called here only)
            time.sleep(rng.uniform(0, 1.5))
            worker.signal(signal.SIGKILL)
            assert worker.died()
    producer.join()
    last = live.run(instance_id="one")
    assert sum(_replays(tmp_path)) > 0, last
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def test_elasticsearch_that_is_stopped_and_started_in_the_middle_gets_every_alert_once(
    kafka_bootstrap: str, elasticsearch_server: servers.Server, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=2, elasticsearch=elasticsearch_server.address)
    messages = stream(3000, partitions=2)
    live.produce(messages[:1000])
    with live.worker(until_end=False) as worker:
        until(lambda: sum(offset or 0 for offset in live.committed(2).values()) == 1000, within_s=60)
        elasticsearch_server.stop()
        live.produce(messages[1000:])
        worker.wait_for("store unavailable")
        time.sleep(3)
        before = live.committed(2)
        elasticsearch_server.start()
        until(lambda: sum(offset or 0 for offset in live.committed(2).values()) == 3000, within_s=60)
        worker.signal(signal.SIGTERM)
        counters = worker.finish()
        log = worker.text()
    assert sum(offset or 0 for offset in before.values()) < 3000
    assert (log.count("store unavailable"), log.count("store is back")) == (1, 1), log
    assert counters["store_outages"] == 1
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def test_a_kill_between_elasticsearch_applying_and_answering_doubles_nothing(
    kafka_bootstrap: str, elasticsearch_url: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=1, elasticsearch=elasticsearch_url)
    messages = stream(2000)
    live.produce(messages)
    with live.worker(die_at="applied", die_after=2, session_timeout_s=2, max_poll_records=150) as worker:
        assert worker.died()
    counters: dict[str, Any] = live.run(session_timeout_s=2)
    assert counters["duplicates"] > 0
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def _trickle(live: Live, messages: list[Any]) -> None:
    for i in range(0, len(messages), 50):
        live.produce(messages[i : i + 50])
        time.sleep(0.1)


def _replays(folder: Path) -> list[int]:
    """Return, from the logs of all workers, how far below the committed offset each partition began."""
    distances = []
    for log in folder.glob("worker-*.log"):
        for line in log.read_text().splitlines():
            if "partition ready" in line:
                fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
                if fields["committed"] != "None":
                    distances.append(int(fields["committed"]) - int(fields["offset"]))
    return distances
