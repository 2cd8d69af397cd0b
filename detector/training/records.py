"""Training records from a file, as the model is asked for them: one vector of float32 a record, in the model's order.

.npy (an array [n, …], read in place), .csv (a line a record, with or without a line of names; columns that are no
input, such as the label, are dropped by name or number) and .jsonl (a list a line, {"vector": [...]}, or prediction
events).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from detector.events import F32

CHUNK_NUMBERS = 1_000_000
KINDS = (".npy", ".csv", ".jsonl")
Progress = Callable[[int, int], None]  # (done, of all; 0 where unknown)


class RecordsError(Exception):
    """Records cannot be read; the message says which file, where, and what to do."""


@dataclass(slots=True)
class Records:
    """A file of training records, which may be read several times."""

    path: Path
    drop: Sequence[str] = ()
    names: tuple[str, ...] = field(default=(), init=False)  # of the columns kept, where a .csv has them

    def __post_init__(self) -> None:
        if self.path.suffix not in KINDS:
            hint = "; write .parquet as .npy or .csv first" if self.path.suffix == ".parquet" else ""
            raise RecordsError(f"{self.path}: records are read from {', '.join(KINDS)}{hint}")
        if self.drop and self.path.suffix != ".csv":
            raise RecordsError(f"{self.path}: columns can be dropped from .csv only")

    def chunks(self, progress: Progress | None = None) -> Iterator[F32]:
        """Yield arrays [n, d] of float32, all finite and of one width; RecordsError for anything else."""
        width = count = 0
        try:
            for table, done, total in self._tables():
                with np.errstate(over="ignore"):
                    x = np.ascontiguousarray(table, np.float32)
                if not np.isfinite(x).all():
                    row = count + int(np.flatnonzero(~np.isfinite(x).all(1))[0]) + 1
                    raise RecordsError(f"{self.path}: record {row} holds NaN, infinity or a number too large")
                if width and x.shape[1] != width:
                    raise RecordsError(f"{self.path}: a record of {x.shape[1]} numbers after records of {width}")
                width = x.shape[1]
                count += len(x)
                if progress is not None:
                    progress(done, total)
                yield x
        except OSError as error:
            raise RecordsError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        if not count:
            raise RecordsError(f"{self.path}: no records in it")

    def whole(self) -> F32:
        """Return all records [n, d]."""
        return np.concatenate(list(self.chunks()))

    def _tables(self) -> Iterator[tuple[NDArray[Any], int, int]]:
        if self.path.suffix == ".npy":
            yield from self._array()
            return
        total = self.path.stat().st_size
        with self.path.open("rb") as file:
            lines = _Counted(file)
            rows = self._csv(lines) if self.path.suffix == ".csv" else self._json(lines)
            for first in rows:
                some = [first, *islice(rows, max(CHUNK_NUMBERS // max(len(first), 1) - 1, 0))]
                if any(len(row) != len(first) for row in some):
                    odd = next(row for row in some if len(row) != len(first))
                    raise RecordsError(
                        f"{self.path}: a record of {len(odd)} numbers among records of {len(first)}, "
                        f"at or before line {lines.number}"
                    )
                yield np.array(some, np.float64), lines.bytes, total

    def _array(self) -> Iterator[tuple[NDArray[Any], int, int]]:
        try:
            table = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError):
            raise RecordsError(f"{self.path}: not an array of numbers in NumPy's .npy format") from None
        if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiub" or table.ndim < 2 or table.size == 0:
            raise RecordsError(f"{self.path}: an array of numbers with a row a record is needed")
        step = max(CHUNK_NUMBERS * len(table) // table.size, 1)
        for start in range(0, len(table), step):
            part = table[start : start + step]
            yield part.reshape(len(part), -1), start + len(part), len(table)

    def _csv(self, lines: _Counted) -> Iterator[list[float]]:
        kept: list[int] | None = None
        try:
            for cells in csv.reader(lines.texts()):
                if not cells:
                    continue
                if kept is None:
                    named = not all(_is_number(cell) for cell in cells)
                    kept = self._kept([cell.strip() for cell in cells], named=named)
                    if named:
                        self.names = tuple(cells[i].strip() for i in kept)
                        continue
                yield self._floats(cells, kept, lines.number)
        except (csv.Error, UnicodeDecodeError) as error:
            raise RecordsError(f"{self.path}:{lines.number}: not a table of text: {error}") from None

    def _floats(self, cells: list[str], kept: list[int], line: int) -> list[float]:
        place = -1
        try:
            for place in kept:
                float(cells[place])
            return [float(cells[place]) for place in kept]
        except IndexError:
            raise RecordsError(
                f"{self.path}:{line}: {len(cells)} columns, the first line has at least {place + 1}"
            ) from None
        except ValueError:
            raise RecordsError(
                f"{self.path}:{line}: column {place + 1} is no number; drop columns that are no input with --drop, "
                "and write the others as the model gets them"
            ) from None

    def _kept(self, cells: list[str], *, named: bool) -> list[int]:
        dropped = set()
        for column in self.drop:
            if named and column in cells:
                dropped.add(cells.index(column))
            elif column.isdecimal() and 1 <= int(column) <= len(cells):
                dropped.add(int(column) - 1)
            else:
                there = ", ".join(cells) if named else f"1 to {len(cells)}"
                raise RecordsError(f"{self.path}: no column {column!r}; there are {there}")
        return [i for i in range(len(cells)) if i not in dropped]

    def _json(self, lines: _Counted) -> Iterator[list[float]]:
        for line in lines.lines():
            if not line.strip():
                continue
            try:
                row = np.array(_vector(orjson.loads(line)), np.float64).ravel()
            except (ValueError, TypeError):
                raise RecordsError(
                    f"{self.path}:{lines.number}: not a record: a list of numbers, "
                    '{"vector": [...]} or a prediction event'
                ) from None
            yield row.tolist()


class _Counted:
    """Lines of a file, with how many there were and how many bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.number = self.bytes = 0

    def lines(self) -> Iterator[bytes]:
        for line in self._file:
            self.number += 1
            self.bytes += len(line)
            yield line

    def texts(self) -> Iterator[str]:
        for line in self.lines():
            yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vector(record: Any) -> list[Any]:
    if isinstance(record, dict):
        inside = record.get("input")
        record = inside.get("vector") if isinstance(inside, dict) else record.get("vector", inside)
    if not isinstance(record, list):
        raise TypeError
    return record


def write_records(path: Path, x: F32, names: Sequence[str] = ()) -> None:
    """Write records as .npy, .csv or .jsonl, in full precision; RecordsError where that fails."""
    part = path.with_name(f"{path.name}.part")
    try:
        if path.suffix == ".npy":
            with part.open("wb") as file:
                np.save(file, x)
        elif path.suffix == ".csv":
            with part.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerows([names] if names else [])
                table.writerows([[str(value) for value in row] for row in x])
        elif path.suffix == ".jsonl":
            rows = (orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE) for row in x)
            part.write_bytes(b"".join(rows))
        else:
            raise RecordsError(f"{path}: records are written as {', '.join(KINDS)}")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RecordsError(f"{path}: {(error.strerror or str(error)).lower()}") from None
