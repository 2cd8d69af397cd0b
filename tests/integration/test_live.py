"""Live on a real broker: alerts arrive, partitions move, brokers and workers go away and come back."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer

from tests import servers
from tests.integration.live import Live, until
from tests.integration.worker import Order
from tests.toy import Message, expected, stream

pytestmark = pytest.mark.integration


def test_alerts_of_a_produced_stream_arrive_once_and_all_offsets_are_committed(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=3)
    messages = stream(3000, partitions=3)
    live.produce(messages)
    counters = live.run()
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))
    assert sum(offset or 0 for offset in live.committed(3).values()) == counters["records"] == 3000
    assert (counters["stored"], counters["duplicates"], counters["lag"]) == (len(live.ids()), 0, 0)


def test_a_second_start_goes_on_from_the_checkpoint_and_repeats_nothing(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=2)
    messages = stream(2000, partitions=2)
    live.produce(messages[:1100])
    live.run()
    live.produce(messages[1100:])
    second = live.run()
    assert (second["records"], second["restored"], second["replayed"]) == (900, 2, 0)
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def test_unreadable_records_go_to_the_dead_letter_topic_byte_for_byte(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=1)
    live.produce([Message(0, "odd", 0, b'{"event_time": \xff\x00'), *stream(10)])
    counters = live.run()
    assert counters["refused"] == {"invalid_json": 1}
    consumer = KafkaConsumer(f"{fresh_name}.dlq", bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest")
    try:
        (letters,) = consumer.poll(timeout_ms=10_000).values()
    finally:
        consumer.close()
    assert [(letter.value, letter.key) for letter in letters] == [(b'{"event_time": \xff\x00', b"odd")]
    headers = dict(letters[0].headers)
    assert headers["dlq.original.topic"] == fresh_name.encode()
    assert (headers["dlq.original.partition"], headers["dlq.original.offset"]) == (b"0", b"0")
    assert headers["dlq.reason"] == b"invalid_json"
    assert headers["dlq.original.timestamp"] == str(letters[0].timestamp).encode()


def test_a_second_worker_takes_over_half_of_the_partitions_in_the_middle_of_the_stream(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=4)
    messages = stream(6000, partitions=4, clients=12)

    def produce_slowly() -> None:
        for i in range(0, len(messages), 250):
            live.produce(messages[i : i + 250])

    producer = threading.Thread(target=produce_slowly)
    with live.worker(until_end=False) as first:
        producer.start()
        until(lambda: len(_ids(live)) > 5)
        with live.worker(until_end=False) as second:
            until(lambda: second.text().count("partition ready") == 2)
            producer.join()
            until(lambda: len(live.ids()) == len(expected(messages, fresh_name)))
            second.signal(signal.SIGTERM)
            took = second.finish()
        first.signal(signal.SIGTERM)
        gave = first.finish()
    assert gave["revoked"] == 2
    assert (took["assigned"], took["restored"], took["warmed_up"]) == (2, 2, 0)
    assert (took["replayed"], took["duplicates"], gave["lost"]) == (0, 0, 0)
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def test_a_worker_frozen_beyond_the_session_timeout_loses_its_partitions_and_changes_nothing(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=2)
    messages = stream(4000, partitions=2)
    live.produce(messages[:2000])
    with (
        live.worker(until_end=False, session_timeout_s=2) as frozen,
        live.worker(until_end=False, session_timeout_s=2) as other,
    ):
        until(lambda: len(_ids(live)) == len(expected(messages[:2000], fresh_name)))
        until(lambda: "partition ready" in frozen.text() and "partition ready" in other.text())
        frozen.signal(signal.SIGSTOP)
        live.produce(messages[2000:])
        until(lambda: len(live.ids()) == len(expected(messages, fresh_name)), within_s=40)
        frozen.signal(signal.SIGCONT)
        frozen.wait_for("partition lost to another worker")
        for worker in (frozen, other):
            worker.signal(signal.SIGTERM)
            worker.finish()
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def test_a_static_member_keeps_its_partitions_across_a_kill_and_a_restart(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=2)
    messages = stream(1000, partitions=2)
    live.produce(messages)
    with live.worker(instance_id="one", until_end=False, session_timeout_s=30) as worker:
        until(lambda: len(_ids(live)) > 3)
        worker.signal(signal.SIGKILL)
        assert worker.died()
    start = time.monotonic()
    live.run(instance_id="one", session_timeout_s=30)
    assert time.monotonic() - start < 20  # it did not wait for its own session to time out
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def test_two_processes_with_one_instance_id_end_in_a_clear_error(
    kafka_bootstrap: str, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_bootstrap, fresh_name, tmp_path, partitions=1)
    with live.worker(instance_id="one", until_end=False) as first:
        first.wait_for("partition ready")
        with live.worker(instance_id="one", until_end=False) as second:
            second.wait_for("partition ready")
            live.produce(stream(100))
            first.process.communicate(timeout=60)
            assert first.process.returncode != 0
            assert "same kafka.instance_id 'one'" in first.text()


def test_an_unreachable_broker_is_named_once_and_waited_for(
    kafka_server: servers.Server, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_server.address, fresh_name, tmp_path, partitions=1)
    messages = stream(400)
    live.produce(messages)
    kafka_server.stop()
    with live.worker(until_end=False) as worker:
        worker.wait_for("Kafka unreachable")
        time.sleep(3)
        kafka_server.start()
        until(lambda: len(_ids(live)) == len(expected(messages, fresh_name)))
        worker.signal(signal.SIGTERM)
        worker.finish()
        log = worker.text()
    assert log.count("Kafka unreachable") == log.count("Kafka is back") == 1
    assert kafka_server.address in log
    assert len(log.splitlines()) < 12, log


def test_a_worker_that_waits_for_its_broker_stops_at_once_when_asked(fresh_name: str, tmp_path: Path) -> None:
    live = Live(_order("127.0.0.1:1", fresh_name, tmp_path), tmp_path)
    with live.worker(until_end=False) as worker:
        worker.wait_for("Kafka unreachable")
        start = time.monotonic()
        worker.signal(signal.SIGTERM)
        worker.finish()
        assert time.monotonic() - start < 5


def test_a_broker_that_is_killed_in_the_middle_costs_nothing_but_time(
    kafka_server: servers.Server, fresh_name: str, tmp_path: Path
) -> None:
    live = Live.make(kafka_server.address, fresh_name, tmp_path, partitions=2)
    messages = stream(3000, partitions=2)
    live.produce(messages[:1500])
    with live.worker(until_end=False) as worker:
        until(lambda: len(_ids(live)) == len(expected(messages[:1500], fresh_name)))
        kafka_server.kill()
        worker.wait_for("Kafka unreachable")
        kafka_server.start()
        live.produce(messages[1500:])
        until(lambda: len(live.ids()) == len(expected(messages, fresh_name)), within_s=60)
        worker.signal(signal.SIGTERM)
        worker.finish()
        log = worker.text()
    assert log.count("Kafka unreachable") < 4, log  # once an outage; a broker that starts may come and go
    assert sorted(live.ids()) == sorted(expected(messages, fresh_name))


def _order(bootstrap: str, topic: str, folder: Path) -> Order:
    return Order(bootstrap, topic, str(folder / "state"), str(folder / "alerts.sqlite"))


def _ids(live: Live) -> list[str]:
    return live.ids() if Path(live.order.sqlite).exists() else []
