"""Writes events in the order of event time with bounded memory: spilled by hour, sorted hour by hour."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np
import zstandard

from detector.events import F64, I64

BUCKET_S = 1800.0


class Written(NamedTuple):
    """What a capture holds."""

    events: int
    bytes: int  # before compression


class Spill(AbstractContextManager["Spill"]):
    """Takes lines in any order and gives them back sorted by (time, job, sequence)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="querywatch-simulate-", dir=folder)
        self._root = Path(self._folder.name)
        self._buckets: set[int] = set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, time_us: I64, job: int, lines: Sequence[bytes]) -> None:
        """Take the lines of one job; `time_us` [n] decides their place."""
        bucket = (time_us // int(BUCKET_S * 1e6)).astype(np.int64)
        sequence = np.arange(len(lines))
        for name in np.unique(bucket).tolist():
            rows = np.flatnonzero(bucket == name)
            keys = np.stack([time_us[rows], np.full(len(rows), job), sequence[rows]], 1)
            with (self._root / f"{name}.keys").open("ab") as file:
                file.write(keys.astype(np.int64).tobytes())
            with (self._root / f"{name}.lines").open("ab") as file:
                file.write(b"".join([lines[row] for row in rows.tolist()]))
            self._buckets.add(name)

    def write(self, path: Path) -> Written:
        """Write all lines in order, compressed as the suffix says (.gz, .zst, none)."""
        events = size = 0
        with opened(path) as out:
            for name in sorted(self._buckets):
                keys = np.fromfile(self._root / f"{name}.keys", np.int64).reshape(-1, 3)
                lines = (self._root / f"{name}.lines").read_bytes().splitlines(keepends=True)
                order = np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0])).tolist()
                out.write(b"".join([lines[row] for row in order]))
                size += sum(map(len, lines))
                events += len(lines)
        return Written(events, size)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing, compressed as its suffix says; the same content gives the same bytes."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=raw, mtime=0) as packed:
                yield packed  # type: ignore[misc]  # it has all that IO[bytes] needs here: write
        elif path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as packed:
                yield packed
        else:
            yield raw


def stem(path: Path) -> Path:
    """Return the path without .jsonl, .jsonl.gz or .jsonl.zst."""
    name = path.name
    for suffix in (".gz", ".zst", ".jsonl"):
        name = name.removesuffix(suffix)
    return path.with_name(name)


def microseconds(time_s: F64, start_us: int) -> I64:
    """Return event times in microseconds since 1970."""
    return np.asarray(start_us + np.round(time_s * 1e6).astype(np.int64))
