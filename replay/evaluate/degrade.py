"""A capture with less detail, as an operator would log it who wants to know less: sketches, outputs only, labels only.

Sketches are made as a gateway makes them, with a centre and a scale for each model version that are fixed beforehand:
those that the pipeline itself would learn from the first rows. Of a model that never gets that far nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from detector.baseline import Baselines
from detector.events import EventBatch, InputLevel, ModelRef, OutputLevel, Ragged
from detector.formats.native import encode
from detector.formats.record import SEED
from detector.settings import Settings
from detector.sketch import DIMENSIONS, packed
from replay.evaluate.stream import Progress, batches

Level = Literal["vectors", "sketch", "outputs", "label"]
LEVELS: tuple[Level, ...] = get_args(Level)
MEANING: dict[Level, str] = {
    "vectors": "everything that the capture holds",
    "sketch": "sketches made at a gateway instead of inputs, whole answers",
    "outputs": "no inputs, whole answers",
    "label": "whole inputs, the answered label alone",
}
_SEED = "evaluate"


def degraded(
    files: Sequence[Path], level: Level, settings: Settings, out: Path, progress: Progress | None = None
) -> Path:
    """Write the events of captures, read as one stream, to `out` with the detail of a level; return `out`."""
    change = _sketches(files, settings) if level == "sketch" else _CHANGES[level]
    with out.open("wb") as file:  # plain JSON lines: it is read again at once
        for batch, _ in batches(files, settings, progress):
            if len(batch):
                file.write(b"\n".join([*encode(change(batch)), b""]))
    return out


def outputs_only(batch: EventBatch) -> EventBatch:
    """Return the events without their inputs."""
    n = len(batch)
    return replace(
        batch,
        input=Ragged(np.zeros(0, np.float32), np.zeros(n + 1, np.int64)),
        input_level=np.full(n, InputLevel.NONE, np.uint8),
    )


def label_only(batch: EventBatch) -> EventBatch:
    """Return the events with no more of the answers than the labels."""
    n = len(batch)
    return replace(
        batch,
        scores=Ragged(np.zeros(0, np.float32), np.zeros(n + 1, np.int64)),
        confidence=np.full(n, np.nan, np.float32),
        output_level=np.where(batch.label_key >= 0, OutputLevel.LABEL, OutputLevel.NONE).astype(np.uint8),
    )


def _sketches(files: Sequence[Path], settings: Settings) -> Callable[[EventBatch], EventBatch]:
    """Return what turns events into those that carry sketches; it has read the captures for centres and scales."""
    baselines = Baselines(settings.limits.models, seed=1)
    for batch, _ in batches(files, settings):
        for _ready in baselines.admit(batch):
            pass
    for _ready in baselines.flush():
        pass

    known = baselines.known.values()
    features = np.array(
        [min(baselines.spaces[m].width, DIMENSIONS) if m in baselines.spaces else 0 for m in known] + [0]
    )

    def change(batch: EventBatch) -> EventBatch:
        reference = np.array([baselines.known.get(ref, -1) for ref in batch.models], np.int32)[batch.model]
        # failed calls are no reference for a baseline, but a gateway sketches them all the same
        sketch, usable = baselines.sketch(replace(batch, status=np.full(len(batch), 200, np.int16)), reference)
        width = np.where(usable == 1, features[reference], 0)
        values = packed(sketch)[np.arange(DIMENSIONS) < width[:, None]].astype(np.float32)
        offsets = np.concatenate([[0], np.cumsum(width)])
        level = np.where(usable == 1, InputLevel.SKETCH, InputLevel.NONE).astype(np.uint8)
        models = [ModelRef(ref.name, ref.version + SEED + _SEED) for ref in batch.models]
        return replace(batch, models=models, input=Ragged(values, offsets), input_level=level)

    return change


_CHANGES: dict[str, Callable[[EventBatch], EventBatch]] = {
    "vectors": lambda batch: batch,
    "outputs": outputs_only,
    "label": label_only,
}
