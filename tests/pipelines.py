"""Pipelines to test: sensitive rules, a small client table, streams of many clients, models and partitions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detector.alerts import Alert, Document, Engine, document
from detector.events import F32, EventBatch, ModelRef, OutputLevel
from detector.pipeline import Pipeline
from detector.rules import Ruleset, catalogue, default_folder, load_rules
from detector.settings import LimitSettings
from detector.training.build import build
from detector.training.fingerprints import Key
from detector.training.index import TrainingIndex, TrainingIndexes
from detector.training.records import Records
from tests import streams

PARTITIONS = (0, 1)
REFS = (ModelRef("tabular", "1"), ModelRef("image", "1"), ModelRef("labels", "2"))
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


@cache
def sensitive_rules() -> Ruleset:
    """Return the shipped rules with thresholds so low that harmless clients alert too."""
    with tempfile.TemporaryDirectory() as folder:
        for path in default_folder().glob("*.yml"):
            text = path.read_text().replace("value: 3}", "value: 0.2}").replace("value: 6}", "value: 1}")
            (Path(folder) / path.name).write_text(text.replace("value: 24}", "value: 4}"))
        return load_rules(Path(folder), catalogue())


@cache
def training() -> TrainingIndexes:
    """Return an index of records that `stream` lets a client of the first model ask for."""
    return TrainingIndexes([index_of(members(np.random.default_rng(0), None, 0), REFS[0])])


def index_of(records: Sequence[F32], ref: ModelRef) -> TrainingIndex:
    """Return the index of some records, for one version of a model."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/records.npy", np.stack(records))
        return build(Records(Path(folder) / "records.npy"), Key(b"tests", *ref), *ref)


def members(rng: np.random.Generator, model: streams.Model | None, n: int) -> list[F32]:
    """The training records, each once, or (with a model) every second query one of them."""
    known = list(np.random.default_rng(99).normal(size=(300, 6)).astype(np.float32))
    return known if model is None else [x if i % 2 else known[i] for i, x in enumerate(streams.ordinary(rng, model, n))]


def pipeline(clients: int = 32, models: int = 4, admit_after: int = 2) -> Pipeline:
    """Return a pipeline with a small client table."""
    limits = LimitSettings(clients=clients, models=models, admit_after=admit_after)
    return Pipeline(sensitive_rules(), limits, b"tests", training=training())


def stream(seed: int, *, events: int = 700, clients: int = 14, pace_s: float = 6.0) -> EventBatch:
    """Return a spoiled stream over three models and two partitions: warm-up, attacks, and the end of an epoch or two.

    The models have references after ten minutes. Times rise but for a jitter; a client stays on its partition.
    """
    rng = np.random.default_rng(seed)
    victims = [
        streams.Model.make(np.random.default_rng(7), width, classes) for width, classes in ((6, 3), (40, 4), (8, 25))
    ]
    parts = []
    for k in range(clients):
        m = k % len(REFS)
        answer = OutputLevel.LABEL if m == 2 else OutputLevel.SCORES
        like = streams.Query(f"client{k}", None, None, REFS[m], partition=k % len(PARTITIONS), answer=answer)
        n = int(rng.integers(1, 2 * events // clients))
        habit = streams.HABITS[int(rng.integers(len(streams.HABITS)))] if k > 4 else streams.ordinary
        parts.append(streams.spoil(rng, streams.queries(rng, victims[m], habit, n, like), 0.1))
    asking = streams.Query("member tester", None, None, REFS[0])
    parts.append(streams.spoil(rng, streams.queries(rng, victims[0], members, 120, asking), 0.1))
    made = streams.shuffle(rng, parts)
    first = streams.START_US - int(rng.integers(streams.HOUR_US))
    times = first + (np.arange(len(made)) * pace_s * 1e6 + rng.integers(-5_000_000, 5_000_000, len(made))).astype(int)
    batch = streams.batch([replace(query, time_us=int(t)) for query, t in zip(made, times, strict=True)])
    text = np.flatnonzero((batch.model == batch.models.index(REFS[2])) & (batch.label_key >= 0))
    for i in text.tolist():  # one model answers in words
        batch.label[i] = f"class {batch.label[i]}"
        batch.label_key[i] = streams.key_of(batch.label[i]) >> 1
    return batch


def cut(events: EventBatch, cuts: Sequence[int]) -> list[EventBatch]:
    """Cut a stream; every piece names only the models that it holds, in its own order, as decoded batches do."""
    return [_own_models(part) for part in streams.splits(events, cuts) if len(part)]


def feed(line: Pipeline, batches: Iterable[EventBatch]) -> list[str]:
    """Return all alerts of some batches as text, so that NaN equals NaN."""
    return [repr(alert) for batch in batches for alert in line.process(batch)]


def end(line: Pipeline) -> list[str]:
    """Return the alerts of what still waited for a reference."""
    return [repr(alert) for alert in line.close()]


def state_of(line: Pipeline) -> dict[str, bytes]:
    """Return the exported state of all partitions as bytes."""
    return {
        f"{partition}.{name}": array.tobytes()
        for partition in PARTITIONS
        for name, array in line.export_partition(partition).items()
    }


def move(line: Pipeline, to: Pipeline, partitions: Sequence[int] = PARTITIONS) -> Pipeline:
    """Bring the state of partitions into another pipeline, as a restart does; returns that."""
    exported = {partition: line.export_partition(partition) for partition in partitions}
    for partition, arrays in exported.items():
        to.import_partition(partition, arrays)
    return to


def documents(alerts: Iterable[Alert]) -> list[Document]:
    """Return the documents of alerts as a replay writes them."""
    return [document(alert, Engine("tests", "replay", streams.START_US)) for alert in alerts]


def _own_models(batch: EventBatch) -> EventBatch:
    used, first, model = np.unique(batch.model, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return replace(
        batch, models=[batch.models[int(used[k])] for k in order], model=np.argsort(order)[model].astype(np.int32)
    )
