"""The Kafka source against the contract of sources, on a real broker; and what is only true of Kafka."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from detector.events import Records
from detector.settings import KafkaSettings
from detector.sources import Source, Start
from detector.sources.kafka import KafkaSource
from tests.contracts.source_suite import VALUES, OpenSource, SourceContract, drain
from tests.integration.live import make_topic, produce
from tests.toy import Message

pytestmark = pytest.mark.integration


class Started(KafkaSource):
    """Starts each partition as the loop would, at its committed offset."""

    starts: list[Start]

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        records = super().poll(max_records, timeout_s)
        for change in self.changes():
            if change.kind == "assigned":
                self.starts = [self.start(p, self.committed(p)) for p in change.partitions]
        return records


class TestKafka(SourceContract):
    @pytest.fixture
    def open_source(self, kafka_bootstrap: str, fresh_name: str) -> Iterator[OpenSource]:
        opened: list[Started] = []

        def open_topic(values: Sequence[bytes]) -> Source:
            make_topic(kafka_bootstrap, fresh_name, 3)
            produce(kafka_bootstrap, fresh_name, [Message(i % 3, "k", 0, value) for i, value in enumerate(values)])
            settings = KafkaSettings(bootstrap=kafka_bootstrap, topic=fresh_name, group=fresh_name)
            opened.append(Started(settings, until_end=True))
            return opened[-1]

        yield open_topic
        for source in opened:
            source.close()


def test_a_committed_offset_is_where_the_next_member_begins(kafka_bootstrap: str, fresh_name: str) -> None:
    make_topic(kafka_bootstrap, fresh_name, 1)
    produce(kafka_bootstrap, fresh_name, [Message(0, "k", 0, value) for value in VALUES[:20]])
    settings = KafkaSettings(bootstrap=kafka_bootstrap, topic=fresh_name, group=fresh_name)
    first = Started(settings, until_end=True)
    drain(first, 10)
    first.commit({0: 12})
    first.close()
    second = Started(settings, until_end=True)
    values = [value for records in drain(second, 10) for value in records.values]
    assert values == VALUES[12:20]
    assert second.start(0, 500) == Start(0, -1)  # beyond the end: the log is another one
    second.close()
