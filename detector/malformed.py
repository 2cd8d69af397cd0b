"""Which calls were malformed: refused as such, not numbers, or of another width than the model's inputs."""

from __future__ import annotations

import numpy as np

from detector.events import I64, U8, EventBatch, Flag, InputLevel

CALLER_IS_RIGHT = (401, 403, 408, 429)  # statuses below 500 that say nothing about the input: access, time, rate
BROKEN = int(Flag.NOT_FINITE | Flag.SHAPE_MISMATCH | Flag.TOO_LARGE)


def malformed(batch: EventBatch, width: I64) -> U8:
    """Mark the malformed calls [n]; `width` [n] is how many features the model of each takes, 0 where unknown.

    Errors of the service (500 and up) are not the caller's.
    """
    refused = (batch.status >= 400) & (batch.status < 500) & ~np.isin(batch.status, CALLER_IS_RIGHT)
    broken = (batch.flags & np.uint16(BROKEN)) != 0
    sent = batch.input.offsets[1:] - batch.input.offsets[:-1]
    vector = (batch.input_level == InputLevel.VECTOR) & (batch.status < 400)
    return np.asarray(refused | broken | (vector & (width > 0) & (sent != width)), np.uint8)
