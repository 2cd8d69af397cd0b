"""Genuine records of an endpoint's model, as its owner gives them: .npy, or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.random import Generator

from detector.events import F32
from replay.simulate.data import Dataset, Part, category_of, step_of
from replay.simulate.endpoint import EndpointError

LEAST = 20
_MAX_BYTES = 1 << 30


class Samples(NamedTuple):
    """Genuine records x [n, d], and the shape in which one of them is sent."""

    x: F32
    row_shape: tuple[int, ...]


def read_samples(path: Path | None) -> Samples:
    """Read an array [n, …] from .npy, or one record a line from .jsonl: a list, or an object with `vector` or `input`.

    Captures are read, too. Raises EndpointError, with the line, for anything that is not a table of finite numbers.
    """
    if path is None:
        raise EndpointError(
            "--samples is needed: genuine records of the model (.npy or .jsonl), from which benign clients draw and "
            "attacks take starting points, ranges and directions; noise would be no test"
        )
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise EndpointError(f"{path}: over 1 GB; a few thousand records are enough")
        table = _array(path) if path.suffix == ".npy" else _lines(path)
    except OSError as error:
        raise EndpointError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if table.ndim < 2 or table[0].size == 0 if len(table) else False:
        raise EndpointError(f"{path}: one row a record is needed, not an array of shape {table.shape}")
    if len(table) < LEAST:
        raise EndpointError(f"{path}: {len(table)} records; at least {LEAST} are needed, some hundreds are better")
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(table.reshape(len(table), -1), np.float32)
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise EndpointError(f"{path}: record {row + 1} holds NaN, infinity or a number too large")
    if not (np.ptp(x, axis=0) > 0).any():
        raise EndpointError(f"{path}: all records are the same")
    return Samples(x, table.shape[1:])


def _array(path: Path) -> np.ndarray[Any, Any]:
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise EndpointError(f"{path}: not an array of numbers in NumPy's .npy format") from None
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiub" or table.ndim == 0:
        raise EndpointError(f"{path}: not an array of numbers")
    return table


def _lines(path: Path) -> np.ndarray[Any, Any]:
    rows: list[np.ndarray[Any, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = np.array(_vector(orjson.loads(line)), np.float64)
            except (ValueError, TypeError):
                raise EndpointError(
                    f'{path}:{number}: not a record: a list of numbers, {{"vector": [...]}} or a prediction event'
                ) from None
            if rows and row.shape != rows[0].shape:
                raise EndpointError(f"{path}:{number}: {row.shape} numbers, the records before have {rows[0].shape}")
            rows.append(row)
    return np.array(rows)


def _vector(record: Any) -> list[Any]:
    if isinstance(record, dict):
        inside = record.get("input")
        record = inside.get("vector") if isinstance(inside, dict) else record.get("vector", inside)
    if not isinstance(record, list):
        raise TypeError
    return record


def dataset(samples: Samples, labelled: Part, classes: int, rng: Generator) -> Dataset:
    """Return labelled samples as a data set: half of each class is known to attackers, the rest is held out.

    Nobody tells which records trained the model: `members` is all of them.
    """
    place = np.empty(len(labelled.y))
    for label in np.unique(labelled.y):
        rows = np.flatnonzero(labelled.y == label)
        place[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    x = samples.x
    return Dataset(
        name="samples",
        classes=classes,
        members=labelled,
        public=labelled.take(place < 0.5),
        held_out=labelled.take(place >= 0.5),
        low=x.min(0).astype(np.float64),
        high=x.max(0).astype(np.float64),
        step=np.array([step_of(column.astype(np.float64)) for column in x.T]),
        category=np.array([category_of(column) for column in x.T]),
    )
