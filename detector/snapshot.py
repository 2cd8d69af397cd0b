"""State of one partition on disk, with the offset up to which it knows the stream.

One file a partition and checkpoint, at any fsspec URL: a magic line, a JSON header, the arrays in numpy's own .npy
encoding one after the other, and a keyless blake2b digest of all that. A reader that finds one bit changed or one byte
missing refuses the file and takes an older one. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec
import numpy as np
import orjson
from fsspec.implementations.local import LocalFileSystem

FORMAT_VERSION = 1
_MAGIC = b"querywatch-snapshot\n"
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8
_SUFFIX = ".qws"
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


class SnapshotError(Exception):
    """A snapshot cannot be read or written; the message says which and why."""


class Position(NamedTuple):
    """What a snapshot belongs to."""

    topic: str
    partition: int
    offset: int  # every record below it is in the state
    progress_us: int  # running maximum of the event times in the state: the merge goes on from here


@dataclass(slots=True, frozen=True)
class Snapshot:
    """The state of one partition. `fingerprint` names the detectors, rules and layout that made it."""

    position: Position
    fingerprint: str
    generation: int  # of the consumer group, to see who wrote it
    arrays: Mapping[str, np.ndarray[Any, np.dtype[Any]]]


def encode(snapshot: Snapshot) -> bytes:
    """Return the file's bytes; SnapshotError for an array of Python objects."""
    body = io.BytesIO()
    for name, array in snapshot.arrays.items():
        try:
            np.lib.format.write_array(body, np.asarray(array), allow_pickle=False)
        except ValueError as error:
            raise SnapshotError(f"array {name!r} cannot be kept in a snapshot: {error}") from None
    header = orjson.dumps(
        {
            "format": FORMAT_VERSION,
            "fingerprint": snapshot.fingerprint,
            "generation": snapshot.generation,
            **snapshot.position._asdict(),
            "arrays": [[name, str(array.dtype), list(array.shape)] for name, array in snapshot.arrays.items()],
        }
    )
    content = b"".join([_MAGIC, len(header).to_bytes(_LENGTH_BYTES, "little"), header, body.getbuffer()])
    return content + _digest(content)


def decode(data: bytes) -> Snapshot:
    """Return the snapshot in a file's bytes; SnapshotError when they are not exactly what was written."""
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not data.startswith(_MAGIC):
        raise SnapshotError("not a querywatch snapshot")
    if _digest(content) != digest:
        raise SnapshotError("cut short or damaged (its checksum does not match)")
    start = len(_MAGIC) + _LENGTH_BYTES
    stop = start + int.from_bytes(content[len(_MAGIC) : start], "little")
    header = orjson.loads(content[start:stop])
    if header["format"] != FORMAT_VERSION:
        raise SnapshotError(f"format {header['format']}, but this version reads format {FORMAT_VERSION}")
    body = io.BytesIO(content[stop:])
    arrays = {name: np.lib.format.read_array(body, allow_pickle=False) for name, _, _ in header["arrays"]}
    position = Position(**{name: header[name] for name in Position._fields})
    return Snapshot(position, header["fingerprint"], header["generation"], arrays)


@dataclass(slots=True)
class Found:
    """What a search for a usable snapshot came to."""

    snapshot: Snapshot | None = None
    refused: list[str] = field(default_factory=list)  # newer ones that could not be used, with the reason


class Checkpoints:
    """Snapshots below one URL: <url>/<group>/<topic>/<partition>/<offset>.qws."""

    def __init__(self, url: str, group: str, *, keep: int = 2) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = PurePosixPath(root) / group
        self._keep = keep

    def write(self, snapshot: Snapshot) -> None:
        """Make a snapshot durable under its final name in one step; SnapshotError when the disk or store refuses."""
        position = snapshot.position
        folder = self._folder(position.topic, position.partition)
        path = folder / f"{position.offset:020d}{_SUFFIX}"
        data = encode(snapshot)
        try:
            if isinstance(self._fs, LocalFileSystem):
                _write_durably(Path(path), data)
            else:
                self._fs.makedirs(str(folder), exist_ok=True)
                self._fs.pipe_file(str(path), data)  # object stores show an object whole or not at all
        except OSError as error:
            raise SnapshotError(f"{path}: {error}") from error

    def newest(self, topic: str, partition: int, fingerprint: str, *, committed: int | None) -> Found:
        """Return the newest usable snapshot at or below the committed offset (any, when nothing is committed)."""
        found = Found()
        for offset, path in reversed(self._stored(topic, partition)):
            if committed is not None and offset > committed:
                continue
            try:
                snapshot = decode(self._fs.cat_file(path))
            except (SnapshotError, OSError) as error:
                found.refused.append(f"{path}: {error}")
                continue
            if snapshot.fingerprint != fingerprint:
                found.refused.append(f"{path}: made under other detectors, rules or settings")
            elif snapshot.position[:3] != (topic, partition, offset):
                found.refused.append(f"{path}: holds another partition's state")
            else:
                found.snapshot = snapshot
                break
        return found

    def prune(self, topic: str, partition: int, committed: int) -> None:
        """Keep the last few at or below the committed offset and none above it: those are of a past that was undone."""
        stored = self._stored(topic, partition)
        usable = [path for offset, path in stored if offset <= committed]
        undone = [path for offset, path in stored if offset > committed]
        for path in usable[: -self._keep] + undone:
            try:
                self._fs.rm_file(path)
            except FileNotFoundError:  # another worker was faster
                continue
            except OSError as error:
                raise SnapshotError(f"{path}: {error}") from error

    def _folder(self, topic: str, partition: int) -> PurePosixPath:
        return self._root / topic / str(partition)

    def _stored(self, topic: str, partition: int) -> list[tuple[int, str]]:
        """List offset and path of the partition's snapshots, oldest first."""
        try:
            self._fs.invalidate_cache()
            paths = self._fs.ls(str(self._folder(topic, partition)), detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SnapshotError(f"{self._folder(topic, partition)}: {error}") from error
        named = [(PurePosixPath(path).name, path) for path in paths]
        return sorted(
            (int(name.removesuffix(_SUFFIX)), path)
            for name, path in named
            if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX).isdecimal()
        )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _write_durably(path: Path, data: bytes) -> None:
    """Write beside the final name, then rename: a crash leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)
