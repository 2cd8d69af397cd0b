"""Replay: captured records through the live pipeline, into a file or the replay stream of the store."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO

import orjson

from detector.alerts import SEVERITIES, Document
from detector.deadletters import CountedOnly, DeadLetters
from detector.events import Records
from detector.outbox import Counters, Sink
from detector.pipeline import Pipeline
from detector.service import Service, ServiceConfig
from detector.settings import Settings
from detector.shortage import Shortage
from detector.sources.capture import CaptureSource
from detector.sources.whole import Whole
from detector.stores import Written
from detector.wiring import decoder

BATCH = 4000  # records


class JsonLines:
    """A sink that writes one alert document a line; the file appears whole or not at all. `-` is standard output."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._part = f"{path}.part"
        self._file: IO[bytes] = os.fdopen(os.dup(1), "wb") if path == "-" else Path(self._part).open("wb")  # noqa: SIM115

    def write(self, documents: Sequence[Document]) -> Written:
        """Append the documents."""
        self._file.writelines(orjson.dumps(document) + b"\n" for document in documents)
        return Written(stored=len(documents))

    def close(self, *, complete: bool) -> None:
        """Put the file in its place, or remove what was written of it."""
        self._file.close()
        if self._path != "-":
            if complete:
                Path(self._part).replace(self._path)
            else:
                Path(self._part).unlink(missing_ok=True)


@dataclass(slots=True)
class Tally:
    """A sink that counts what passes through it, for the summary."""

    sink: Sink
    raised: Counter[tuple[str, str]] = field(default_factory=Counter)  # (rule, highest severity) of each episode
    _episodes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def write(self, documents: Sequence[Document]) -> Written:
        """Count, and pass on."""
        for document in documents:
            own = document["querywatch"]
            before = self._episodes.get(own["alert_id"])
            now = (document["rule"]["id"], own["severity"])
            if before is None or SEVERITIES.index(now[1]) > SEVERITIES.index(before[1]):
                self._episodes[own["alert_id"]] = now
        self.raised = Counter(self._episodes.values())
        return self.sink.write(documents)


@dataclass(slots=True)
class Replayed:
    """What a replay found."""

    counters: Counters
    alerts: Counter[tuple[str, str]]  # (rule, highest severity) → episodes
    starved: list[Shortage]
    followed: int
    evicted: int
    turned_away: int


def replay(
    files: Sequence[str],
    pipeline: Pipeline,
    sink: Sink,
    settings: Settings,
    *,
    dead_letters: DeadLetters | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: Event | None = None,
) -> Replayed:
    """Read capture files through the pipeline; CaptureError where one cannot be read.

    `progress` is called with (bytes read, bytes in all; 0 where unknown) after every batch.
    """
    tally = Tally(sink)
    source = CaptureSource(files, settings.limits)
    watched, decode = _Watched(source, progress), decoder(settings)
    service = Service(
        Whole(watched, source.name, [0]),
        decode,
        pipeline,
        tally,
        dead_letters or CountedOnly(),
        checkpoints=None,
        config=ServiceConfig(namespace=settings.namespace, mode="replay", max_poll_records=BATCH),
        rest=decode.rest,
    )
    counters = service.run(stop or Event())
    clients = pipeline.clients
    return Replayed(
        counters, tally.raised, pipeline.shortages(), clients.followed, clients.evicted, clients.turned_away
    )


class _Watched:
    """Tells how far a capture has been read."""

    def __init__(self, source: CaptureSource, progress: Callable[[int, int], None] | None) -> None:
        self._source = source
        self._progress = progress
        self.commit = source.commit
        self.close = source.close

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        """Poll, then report."""
        records = self._source.poll(max_records, timeout_s)
        if self._progress is not None:
            self._progress(self._source.bytes_read, self._source.bytes_total)
        return records
