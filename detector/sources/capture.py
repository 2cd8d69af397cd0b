"""Captured records from files: JSON lines, plain, gzip or zstd; `-` is standard input. Memory is bounded."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, BinaryIO

import zstandard

from detector.events import Records
from detector.settings import LimitSettings

STDIN = "-"
_BLOCK_BYTES = 1 << 20
_POLL_BYTES = 32 << 20  # of one poll, whatever the number of records
_ZSTD_BYTES = 512  # fed at a time: even blocks of one repeated byte (128 KiB in 4 bytes) then stay below 16 MiB
_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)


class CaptureError(Exception):
    """A capture file cannot be read; the message names the file and what is wrong."""


class CaptureSource:
    """The lines of capture files, in the order given: partition 0, offset = line number from 0 over all files.

    A line over `limits.max_record_bytes` is cut one byte past that limit, so that decoding refuses it as too large.
    `bytes_read` and `bytes_total` (0 where a size is unknown) count the files' own bytes, for a progress bar.
    """

    def __init__(self, files: Sequence[str | Path], limits: LimitSettings) -> None:
        self._paths = [str(file) for file in files]
        if not self._paths:
            raise CaptureError("no capture file was given")
        sizes = [_size(path) for path in self._paths]
        more = f" and {len(sizes) - 1} more" if len(sizes) > 1 else ""
        self.name = ("standard input" if self._paths[0] == STDIN else Path(self._paths[0]).name) + more
        self.bytes_total = sum(sizes) if all(sizes) else 0
        self.bytes_read = 0
        self._cap = limits.max_record_bytes + 1
        self._offset = 0
        self._blocks = self._lines()
        self._ready: list[bytes] = []
        self._fault: CaptureError | None = None

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        """Return the next lines, None after the last; CaptureError after all that came before the fault."""
        del timeout_s
        values: list[bytes] = []
        size = 0
        while len(values) < max_records and size < _POLL_BYTES and self._fill():
            wanted = max_records - len(values)
            taken, self._ready = self._ready[:wanted], self._ready[wanted:]
            values += taken
            size += sum(map(len, taken))
        if not values:
            if self._fault is not None:
                raise self._fault
            return None
        start, self._offset = self._offset, self._offset + len(values)
        return Records(self.name, [0] * len(values), range(start, self._offset), values)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """A file remembers nothing."""

    def close(self) -> None:
        """Close the file being read."""
        self._blocks.close()
        self._ready = []

    def _fill(self) -> bool:
        while not self._ready and self._fault is None:
            try:
                self._ready = next(self._blocks)
            except StopIteration:
                return False
            except CaptureError as fault:
                self._fault = fault
        return bool(self._ready)

    def _lines(self) -> Generator[list[bytes], None, None]:
        """Yield the lines of all files, as many at a time as a block holds."""
        for path in self._paths:
            try:
                with closing(_open(path)) as file:
                    yield from _split(_blocks(path, file, self._count), self._cap)
            except _UNREADABLE as error:
                raise CaptureError(_fault(path, error)) from None

    def _count(self, size: int) -> None:
        self.bytes_read += size


def _size(path: str) -> int:
    """Return the size of a file, 0 for standard input and pipes; CaptureError where it cannot be opened."""
    if path == STDIN:
        return 0
    try:
        with Path(path).open("rb"):
            return Path(path).stat().st_size
    except OSError as error:
        raise CaptureError(_fault(path, error)) from None


def _fault(path: str, error: BaseException) -> str:
    if isinstance(error, EOFError):
        return f"{path}: the file ends in the middle of compressed data"
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror.lower()}"
    return f"{path}: damaged compressed data, or not what its name says ({error})"


def _open(path: str) -> BinaryIO:
    if path == STDIN:
        return open(0, "rb", buffering=0, closefd=False)
    return Path(path).open("rb", buffering=0)


class _Counted:
    """A file that tells how many bytes it gave."""

    def __init__(self, file: IO[bytes], count: Callable[[int], None]) -> None:
        self._file, self._count = file, count

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._count(len(data))
        return data


def _blocks(path: str, file: BinaryIO, count: Callable[[int], None]) -> Iterator[bytes]:
    counted = _Counted(file, count)
    if path.endswith(".zst"):
        yield from _unzstd(counted)
        return
    reader = gzip.GzipFile(fileobj=counted) if path.endswith(".gz") else counted  # type: ignore[call-overload]
    while block := reader.read(_BLOCK_BYTES):
        yield block


def _unzstd(file: _Counted) -> Iterator[bytes]:
    """Yield the content of all frames; EOFError inside a frame, where the library's own reader would end silently."""
    frame, inside = zstandard.ZstdDecompressor().decompressobj(), False
    block = bytearray()
    while data := file.read(_BLOCK_BYTES):
        for start in range(0, len(data), _ZSTD_BYTES):
            piece = data[start : start + _ZSTD_BYTES]
            while piece:
                block += frame.decompress(piece)
                inside, piece = not frame.eof, frame.unused_data
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    yield bytes(block)
    if inside:
        raise EOFError


def _split(blocks: Iterator[bytes], cap: int) -> Iterator[list[bytes]]:
    """Yield lines without their ends, cut to `cap` bytes; of a longer line no more than that is ever held."""
    rest = b""
    for block in blocks:
        first, *others = block.split(b"\n")
        rest = rest + first[: cap - len(rest)] if len(rest) < cap else rest
        if others:
            *whole, last = rest, *others
            rest = last[:cap]
            yield [line[:cap].removesuffix(b"\r") for line in whole]
    if rest:
        yield [rest]
