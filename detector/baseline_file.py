"""Baselines in a file of their own: made from a capture or a snapshot, and imported where a model has none yet.

An .npz of plain arrays with a JSON header, nothing pickled. It holds what detection needs of each model version:
centre, scale and rates of its inputs, up to 256 sketches of benign rows, quantiles of its clients. Of clients it holds
neither ids nor hashes, only which rows came from the same one. Treat it like the log all the same: the sketch of an
input of up to 32 features is that input, rounded; wider ones were projected, and no more than the sketch can be had.
A seal keyed by the secret covers all of it: what was damaged, or changed by someone without the secret, is refused.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from hmac import compare_digest
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.alerts import digest
from detector.baseline import Baselines
from detector.baseline_state import ModelState
from detector.blocks import BLOCKS, RECENT, TWINS
from detector.candidates import ROWS
from detector.detectors import References
from detector.events import InputLevel

FORMAT = "querywatch-baseline/1"
SUFFIX = ".npz"
MOST_BYTES = 256 << 20
MOST_WIDTH = 1 << 20
SEAL = "seal"
LOW = {"row_count": 0, "width": 0, "classes": 2, "r0": 1, "q95": 1, "q50": 1, "q20": 1, "q05": 1, "radius": 0} | {
    "minute_sd": 0,
    "near_rate": 0, "trained_chance": 0, "trained_rate": 0, "malformed_rate": 0,
    "input_width": 0, "inverse_sd": 0, "bin_scale": 0, "feature": -1, "closeness": 0,
    "alike": 0, "recent": 0, "twins": 0, "alike_rate": 0, "twin_rate": 0, "twin_repeat": 0, "same": 0,
}  # fmt: skip
HIGH = {"row_count": ROWS, "width": MOST_WIDTH, "classes": 16, "probability": 1, "trained": 1} | {
    "near_rate": 1, "trained_chance": 1, "trained_rate": 1, "malformed_rate": 1,
    "input_width": MOST_WIDTH,
    "alike": BLOCKS, "recent": RECENT, "twins": TWINS, "alike_rate": 1, "twin_rate": 1, "twin_repeat": 1, "same": 1,
}  # fmt: skip
MAY_BE_INFINITE = ("dependence", "unusual")  # no test
DAMAGED = (zipfile.BadZipFile, zlib.error, msgspec.MsgspecError, LookupError, ValueError, TypeError, EOFError)
UNREADABLE = (*DAMAGED, RuntimeError, MemoryError, SyntaxError, tokenize.TokenError)  # and what NumPy's reader raises
Arrays = dict[str, NDArray[np.generic]]


class BaselineFileError(Exception):
    """A file holds no baselines that can be used; the message says which file and why."""


class Described(msgspec.Struct):
    """What the header says of one model version."""

    name: str
    version: str
    words: str
    level: int  # InputLevel of the rows that it takes; −1 where inputs were never logged
    width: int
    minutes: tuple[float, float, float]
    quantiles: dict[str, tuple[float, float, float]]


class Header(msgspec.Struct):
    """Says what the file is, and by which secret and which fields it was made."""

    format: str
    secret: str
    fields: list[str]
    models: list[Described]


def mark(seed: int) -> str:
    """Name a secret without telling it: sketches of different secrets must not meet."""
    return digest("baseline", str(seed))


def write(path: Path, models: Sequence[ModelState], seed: int) -> None:
    """Write baselines, readable by their owner only; the file appears whole or not at all."""
    header = Header(FORMAT, mark(seed), list(References._fields), [_described(model) for model in models])
    arrays: Arrays = {"header": np.frombuffer(msgspec.json.encode(header), np.uint8)}
    for k, model in enumerate(models):
        arrays |= {f"{k}.{name}": array for name, array in _arrays(model).items()}
    arrays[SEAL] = seal(arrays, seed)
    try:
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BaselineFileError(f"{path}: cannot be written: {error.strerror}") from None


def seal(arrays: Mapping[str, NDArray[np.generic]], seed: int) -> NDArray[np.generic]:
    """Return what only the secret's owner can compute over all arrays but the seal itself, [16] bytes."""
    state = hashlib.blake2b(key=seed.to_bytes(8, "big"), digest_size=16, person=b"baseline")
    for name in sorted(arrays.keys() - {SEAL}):
        array = np.ascontiguousarray(arrays[name])
        state.update(digest(name, array.dtype.str, str(array.shape)).encode() + array.tobytes())
    return np.frombuffer(state.digest(), np.uint8)


def read(path: Path, seed: int) -> list[ModelState]:
    """Return the baselines of a file; BaselineFileError where one bit of it does not make sense."""
    try:
        arrays = _load(path)
        header = msgspec.json.decode(arrays["header"].tobytes(), type=Header)
        _check(path, header, seed)
        if not compare_digest(arrays[SEAL].tobytes(), seal(arrays, seed).tobytes()):
            raise BaselineFileError(f"{path}: changed since it was made: export it again")
        return [_model(arrays, k, described) for k, described in enumerate(header.models)]
    except OSError as error:
        raise BaselineFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UNREADABLE as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise BaselineFileError(f"{path}: no file of baselines, or damaged: {words}") from None


def read_folder(folder: Path, seed: int, but: Path | None = None) -> list[ModelState]:
    """Return the baselines of every file of a folder `but` one, by name; none where the folder does not exist."""
    found: dict[tuple[str, str], Path] = {}
    models = []
    for path in sorted(set(folder.glob(f"[!.]*{SUFFIX}")) - {but}):
        for model in read(path, seed):
            other = found.setdefault((model.name, model.version), path)
            if other != path:
                raise BaselineFileError(f"{path}: {model.name} {model.version} is in {other} too: remove one of them")
            models.append(model)
    return models


def _described(model: ModelState) -> Described:
    level, width = (-1, 0) if model.space is None else model.space[:2]
    return Described(model.name, model.version, model.words, level, width, model.minutes, model.quantiles)


def _arrays(model: ModelState) -> Arrays:
    template = Baselines(1, 0).scales
    arrays: Arrays = {}
    for name, data in zip(References._fields, model.scales, strict=True):
        column: NDArray[np.generic] = getattr(template, name)
        arrays[name] = np.frombuffer(data, column.dtype).reshape(column.shape[1:])
    _, groups = np.unique(arrays["owners"], return_inverse=True)
    arrays["owners"] = (groups + 1).astype(np.uint64)  # who is the same client, not who it is
    if model.space is not None:
        arrays["center"], arrays["scale"] = (np.frombuffer(part, np.float32) for part in model.space[2:])
    return arrays


def _load(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def _check(path: Path, header: Header, seed: int) -> None:
    if header.format != FORMAT:
        raise BaselineFileError(f"{path}: format {header.format!r}, but this version reads {FORMAT}")
    if header.fields != list(References._fields):
        raise BaselineFileError(f"{path}: made by another version of querywatch: export it again")
    if header.secret != mark(seed):
        raise BaselineFileError(f"{path}: made under another secret: its sketches mean nothing here")


def _model(arrays: Arrays, k: int, described: Described) -> ModelState:
    template = Baselines(1, 0).scales
    found = {}
    for name in References._fields:
        column: NDArray[np.generic] = getattr(template, name)
        found[name] = _expected(arrays[f"{k}.{name}"], column.dtype, column.shape[1:], name)
    for name, array in found.items():
        if (array < LOW.get(name, -np.inf)).any() or (array > HIGH.get(name, np.inf)).any():  # type: ignore[operator]
            raise ValueError(f"{name} of {described.name} is out of range")
    space = None
    if described.level >= 0:
        if not 0 < described.width <= MOST_WIDTH or described.level not in (InputLevel.SKETCH, InputLevel.VECTOR):
            raise ValueError(f"the inputs of {described.name} are none that can be read")
        center, scale = (
            _expected(arrays[f"{k}.{name}"], np.dtype(np.float32), (described.width,), name)
            for name in ("center", "scale")
        )
        if (found["feature"] >= described.width).any():  # type: ignore[operator]
            raise ValueError(f"feature of {described.name} is out of range")
        space = (described.level, described.width, center.tobytes(), scale.tobytes())
    if not np.isfinite([*described.minutes, *(v for q in described.quantiles.values() for v in q)]).all():
        raise ValueError(f"the numbers of {described.name} are not finite")
    return ModelState(
        name=described.name,
        version=described.version,
        words=f"imported: {described.words.removeprefix('imported: ')}",
        space=space,
        scales=[array.tobytes() for array in found.values()],
        minutes=described.minutes,
        hashes=[],
        clients=[],
        rows=b"",
        blocks=b"",
        quantiles=described.quantiles,
        trained=b"",
        heir=None,
    )


def _expected(
    array: NDArray[np.generic], dtype: np.dtype[np.generic], shape: tuple[int, ...], name: str
) -> NDArray[np.generic]:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {dtype} {shape}")
    if not np.isfinite(array[array != np.inf] if name in MAY_BE_INFINITE else array).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return array
