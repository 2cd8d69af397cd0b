"""How the inputs of one model version become sketches: what is expected, and its centre and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.events import F32, I64, EventBatch, InputLevel
from detector.sketch import UNITS, robust_scale


@dataclass(slots=True)
class Space:
    """How a model's inputs become sketches; fixed for the life of a model version."""

    level: int  # InputLevel of the rows that it takes
    width: int
    center: F32
    scale: F32


def space_of(batch: EventBatch, rows: I64, level: int, width: int) -> Space:
    """Return the space of inputs like these rows; a given sketch has centre and scale already."""
    if level != InputLevel.VECTOR:
        return Space(level, width, np.zeros(width, np.float32), np.ones(width, np.float32))
    center, spread = robust_scale(np.stack([batch.input.row(i) for i in rows]).astype(np.float64))
    return Space(level, width, center.astype(np.float32), (UNITS / spread).astype(np.float32))
