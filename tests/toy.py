"""A pipeline small enough to be an oracle: an alert at every 50th query of a client, whose count is all its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from detector.alerts import Alert, RuleRef, Span, rfc3339
from detector.events import Decoded, EventBatch, Records
from detector.formats import native
from detector.settings import LimitSettings
from detector.shortage import Shortage

EVERY = 50
RULE = RuleRef(
    "toy", "7a4e0000-0000-4000-8000-00000000e7e5", "Every 50th query", 1, "test", "volume", "0", None, None, ""
)
NOWHERE = Span("", 0, 0, 0)
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


class ToyPipeline:
    """Counts queries a client; the state of each partition can be moved."""

    fingerprint = "toy-1"

    def __init__(self) -> None:
        self.counts: dict[int, dict[str, int]] = {}
        self.seen: list[tuple[int, int, int]] = []  # (partition, offset, instance), in the order of processing

    def process(self, batch: EventBatch) -> list[Alert]:
        """Count, and alert at every 50th."""
        alerts = []
        for i, client in enumerate(batch.client_id):
            partition, offset = int(batch.partition[i]), int(batch.offset[i])
            self.seen.append((partition, offset, int(batch.instance[i])))
            counts = self.counts.setdefault(partition, {})
            counts[client] = counts.get(client, 0) + 1
            if counts[client] % EVERY == 0:
                alerts.append(
                    _alert(client, int(batch.time_us[i]), counts[client], Span(batch.topic, partition, offset, offset))
                )
        return alerts

    def close(self) -> list[Alert]:
        """Nothing waits."""
        return []

    def export_partition(self, partition: int) -> Arrays:
        """Return clients and counts."""
        counts = self.counts.get(partition, {})
        return {"clients": np.array(list(counts), "U64"), "counts": np.array(list(counts.values()), np.int64)}

    def import_partition(self, partition: int, arrays: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> None:
        """Take the counts over."""
        self.counts[partition] = dict(zip(arrays["clients"].tolist(), arrays["counts"].tolist(), strict=True))

    def drop_partition(self, partition: int) -> None:
        """Forget the counts."""
        self.counts.pop(partition, None)

    def shortages(self) -> list[Shortage]:
        """Say that one detector lacks scores."""
        seen = len(self.seen)
        return [Shortage("toy", "", "steering", seen, 2 * seen, ("scores",), unanswered=False)] if seen else []


class Message(NamedTuple):
    """One record to produce."""

    partition: int
    client: str
    time_us: int
    value: bytes


def stream(messages: int, *, partitions: int = 1, clients: int = 7, seed: int = 5) -> list[Message]:
    """Make a stream: every client stays on one partition, event times rise by a second and wander a little."""
    rng = np.random.default_rng(seed)
    made = []
    for i, client in enumerate(rng.integers(0, clients, messages).tolist()):
        time_us = 1_700_000_000_000_000 + i * 1_000_000 + int(rng.integers(0, 3_000_000))
        event = {
            "event_time": rfc3339(time_us),
            "client": {"id": f"client-{client}"},
            "model": {"name": "toy"},
            "input": {"vector": [i * 0.5, 1.0]},
            "output": {"label": 1},
        }
        made.append(Message(client % partitions, f"client-{client}", time_us, orjson.dumps(event)))
    return made


def expected(messages: Iterable[Message], namespace: str) -> set[str]:
    """Say which alert ids a stream must give, counted without any of the service's code but the id itself."""
    counts: dict[str, int] = {}
    ids = set()
    for message in messages:
        counts[message.client] = counts.get(message.client, 0) + 1
        if counts[message.client] % EVERY == 0:
            ids.add(_alert(message.client, message.time_us).alert_id(namespace))
    return ids


def records(messages: Iterable[Message]) -> Iterator[tuple[int, int, bytes]]:
    """Give each message its offset: (partition, offset, value)."""
    ends: dict[int, int] = {}
    for message in messages:
        offset = ends.get(message.partition, 0)
        ends[message.partition] = offset + 1
        yield message.partition, offset, message.value


def as_records(rows: Iterable[tuple[int, int, bytes]], topic: str = "toy") -> Records:
    """Return rows of (partition, offset, value) as a source would."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    return Records(topic, columns[0], columns[1], columns[2])


def decode(records: Records) -> Decoded:
    """Read native records with default limits."""
    return native.decode(records, limits=LimitSettings(), secret=b"toy")


def _alert(client: str, time_us: int, queries: int = 0, span: Span = NOWHERE) -> Alert:
    return Alert(
        action="alert-raised",
        rule=RULE,
        severity="low",
        time_us=time_us,
        start_us=time_us,
        first_match_us=time_us,
        client_id=client,
        client_kind="unknown",
        client_ip="",
        model="toy",
        model_version="",
        queries=queries,
        target="",
        reason=f"{queries} queries",
        risk=1.0,
        evidence=(),
        contributions={},
        baseline="none",
        span=span,
    )
