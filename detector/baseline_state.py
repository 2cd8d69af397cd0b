"""The baselines as bytes for a checkpoint, and back: plain MessagePack, no objects of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np
from river import stats

from detector.baseline import Baselines, Offer
from detector.blocks import BLOCKS
from detector.candidates import Learning
from detector.detectors import References
from detector.events import U8, EventBatch, ModelRef, Ragged
from detector.sketch import DIMENSIONS
from detector.space import Space

Plain = dict[str, Any]


class ModelState(msgspec.Struct):
    """Everything known of one model version."""

    name: str
    version: str
    words: str
    space: tuple[int, int, bytes, bytes] | None
    scales: list[bytes]
    minutes: tuple[float, float, float]  # count, mean and sum of squares
    hashes: list[int]
    clients: list[int]
    rows: bytes
    quantiles: dict[str, tuple[float, float, float]]
    trained: bytes
    heir: str | None  # the version whose reference serves still
    blocks: bytes


class BaselineState(msgspec.Struct):
    """All models, and the events of one partition that wait for a reference."""

    tick: int
    overflow: int
    arrived: int
    models: list[ModelState]
    waiting: list[tuple[str, str, Plain, list[int]]]  # the last: number of arrival of each row


def export(baselines: Baselines, partition: int) -> U8:
    """Return the baselines, with the waiting events of that partition, as bytes."""
    models = models_of(baselines)
    waiting = []
    for ref, held in baselines.waiting.items():
        batch, order = held.batch(), sorted(held.order)
        rows = np.flatnonzero(batch.partition == partition)
        if len(rows):
            waiting.append((ref.name, ref.version, _plain(batch.take(rows)), [order[i] for i in rows.tolist()]))
    state = BaselineState(baselines.tick, baselines.overflow, baselines.arrived, models, waiting)
    return np.frombuffer(msgspec.msgpack.encode(state), np.uint8)


def restore(baselines: Baselines, data: U8) -> None:
    """Take in what `export` gave: models unknown here, and the waiting events."""
    state = msgspec.msgpack.decode(data.tobytes(), type=BaselineState)
    baselines.tick = max(baselines.tick, state.tick)
    baselines.overflow = max(baselines.overflow, state.overflow)
    baselines.arrived = max(baselines.arrived, state.arrived)
    for model in state.models:
        ref = ModelRef(model.name, model.version)
        if ref not in baselines.known and len(baselines.known) < baselines.capacity:
            _adopt(baselines, ref, model)
    for name, version, columns, order in state.waiting:
        baselines.resume(ModelRef(name, version), _batch(columns), order)


def models_of(baselines: Baselines) -> list[ModelState]:
    """Return everything known of all models, in the order in which they came to be known."""
    return [_model(baselines, ref, m) for ref, m in baselines.known.items()]


def models_in(data: U8) -> list[ModelState]:
    """Return the models in what `export` gave."""
    return msgspec.msgpack.decode(data.tobytes(), type=BaselineState).models


def rows_in(model: ModelState) -> int:
    """Return how many benign rows a model's reference holds."""
    return int(np.frombuffer(model.scales[References._fields.index("row_count")], np.int64)[0])


def offer(imported: Sequence[ModelState]) -> Offer:
    """Return what gives an imported reference to a model at its first event: later than a snapshot, which wins."""
    by_ref = {ModelRef(model.name, model.version): model for model in imported}

    def adopt(baselines: Baselines, ref: ModelRef) -> bool:
        if ref in by_ref:
            _adopt(baselines, ref, by_ref[ref])
        return ref in by_ref

    return adopt


def drop(baselines: Baselines, partition: int) -> None:
    """Forget the waiting events of a partition that another worker has taken over."""
    for ref, held in list(baselines.waiting.items()):
        batch, order = held.batch(), sorted(held.order)
        rows = np.flatnonzero(batch.partition != partition)
        del baselines.waiting[ref]
        if len(rows):
            baselines.resume(ref, batch.take(rows), [order[i] for i in rows.tolist()])


def _model(baselines: Baselines, ref: ModelRef, m: int) -> ModelState:
    space, learning = baselines.spaces.get(m), baselines.learning[m]
    packed = None if space is None else (space.level, space.width, space.center.tobytes(), space.scale.tobytes())
    minutes = learning.minutes
    return ModelState(
        name=ref.name,
        version=ref.version,
        words=baselines.names[m],
        space=packed,
        scales=[column[m].tobytes() for column in baselines.scales],
        minutes=(minutes.n, minutes.mean.get(), minutes._S),  # river offers no other exact way out
        hashes=learning.hashes.tolist(),
        clients=learning.clients.tolist(),
        rows=learning.rows.tobytes(),
        quantiles=baselines.quantiles.get(m, {}),
        trained=learning.trained.tobytes(),
        heir=baselines.heirs.get(m),
        blocks=learning.blocks.tobytes(),
    )


def _adopt(baselines: Baselines, ref: ModelRef, model: ModelState) -> None:
    m = baselines.known[ref] = len(baselines.known)
    baselines.names[m] = model.words
    if model.heir is not None:
        baselines.heirs[m] = model.heir
    if model.quantiles:
        baselines.quantiles[m] = model.quantiles
    if model.space is not None:
        level, width, center, scale = model.space
        baselines.spaces[m] = Space(level, width, np.frombuffer(center, np.float32), np.frombuffer(scale, np.float32))
    for name, data in zip(baselines.scales._fields, model.scales, strict=True):
        column: np.ndarray = getattr(baselines.scales, name)
        column[m] = np.frombuffer(data, column.dtype).reshape(column.shape[1:])
    minutes = stats.Var()
    minutes.mean = stats.Mean._from_state(model.minutes[0], model.minutes[1])
    minutes._S = model.minutes[2]
    rows = np.frombuffer(model.rows, np.int16).reshape(-1, DIMENSIONS)
    blocks = np.frombuffer(model.blocks, np.uint8).reshape(-1, BLOCKS)
    hashes, clients = np.array(model.hashes, np.uint64), np.array(model.clients, np.uint64)
    trained = np.frombuffer(model.trained, np.uint8)
    baselines.learning[m] = Learning(hashes, clients, rows, blocks, trained, minutes)


def _plain(batch: EventBatch) -> Plain:
    out: Plain = {}
    for f in fields(batch):
        column = getattr(batch, f.name)
        if isinstance(column, Ragged):
            out[f.name] = [column.values.tobytes(), column.offsets.tobytes()]
        elif isinstance(column, np.ndarray):
            out[f.name] = [column.dtype.str, column.tobytes()]
        else:
            out[f.name] = column
    return out


def _batch(columns: Plain) -> EventBatch:
    out: Plain = {}
    for f in fields(EventBatch):
        column = columns[f.name]
        if f.name in ("input", "scores"):
            out[f.name] = Ragged(np.frombuffer(column[0], np.float32), np.frombuffer(column[1], np.int64))
        elif f.name == "models":
            out[f.name] = [ModelRef(*ref) for ref in column]
        elif f.name in ("topic", "client_id", "client_kind", "client_ip", "label"):
            out[f.name] = column
        else:
            out[f.name] = np.frombuffer(column[1], np.dtype(column[0]))
    return EventBatch(**out)
