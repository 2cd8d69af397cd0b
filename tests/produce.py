"""Put a capture into a Kafka topic: `python -m tests.produce FILE… --topic prediction-events`.

For walk-throughs (docs/running.md). Records go unchanged, keyed by their client, so that one worker sees all of a
client. Event times stay what they were.
"""

from __future__ import annotations

import argparse
import sys
import time

import orjson
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from detector.settings import LimitSettings, load_settings
from detector.sources.capture import CaptureError, CaptureSource


def main() -> int:
    """Produce, and say how much."""
    settings = load_settings()
    parser = argparse.ArgumentParser(prog="python -m tests.produce", description="Put a capture into a Kafka topic.")
    parser.add_argument("files", nargs="+", metavar="FILE", help=".jsonl, .jsonl.gz or .jsonl.zst")
    parser.add_argument("--topic", default=settings.kafka.topic)
    parser.add_argument("--bootstrap", default=settings.kafka.bootstrap, help="default: as querywatch is set")
    parser.add_argument("--partitions", type=int, default=2, help="of the topic, where it does not exist yet")
    parser.add_argument("--rate", type=float, default=0.0, help="records a second; 0: as fast as it goes")
    options = parser.parse_args()
    try:
        _make_topic(options.bootstrap, options.topic, options.partitions)
        sent = _send(options.files, options.bootstrap, options.topic, options.rate)
    except (KafkaError, CaptureError) as error:
        print(f"produce: {error or type(error).__name__}", file=sys.stderr)
        return 1
    print(f"{sent:,} records in topic {options.topic} at {options.bootstrap}")
    return 0


def _make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)])
    except TopicAlreadyExistsError:
        pass
    finally:
        admin.close()


def _send(files: list[str], bootstrap: str, topic: str, rate: float) -> int:
    source = CaptureSource(files, LimitSettings())
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    sent, began = 0, time.monotonic()
    try:
        while (records := source.poll(200, 0.0)) is not None:
            for value in records.values:
                producer.send(topic, value, key=_client(value))
                sent += 1
            if rate:
                time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        producer.flush()
    finally:
        producer.close()
        source.close()
    return sent


def _client(value: bytes | None) -> bytes | None:
    """Return a record's key: its client's id, None where it cannot be told."""
    try:
        return str(orjson.loads(value or b"")["client"]["id"]).encode()
    except (ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
