"""Inputs of any width as 32 whole numbers that keep distances: exact, the same however a stream is cut into batches.

A feature is centred and scaled by its model's own median and spread, clipped to ±10 spreads and rounded to 1/1024. Up
to 32 features are kept as they are; more are multiplied by a ±1 matrix (Achlioptas 2003) and divided by √width. Sums of
whole numbers have no rounding, so their order does not matter; float32 products differ between batch shapes.

A sketch is data minimisation, not anonymisation: who knows the seed learns linear facts of the input.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from detector.events import F32, F64, I8, I16, I64
from detector.kernel import kernel

DIMENSIONS = 32
UNITS = 1024  # sketch units in one spread
CLIP = 10 * UNITS
EXACT = 1024  # columns summed at once
BLOCK = 32  # rows projected at once
GATEWAY_UNITS = 128  # what one step of a gateway's int8 sketch counts for here: only ratios of distances matter
GATEWAY_STEP = 64  # the step in which a gateway should round, in its own sketch units: int8 then spans ±8 spreads


def seed_of(secret: bytes) -> int:
    """Return the seed of all sketches made under a secret."""
    return int.from_bytes(hashlib.blake2b(secret, digest_size=8, person=b"sketch").digest(), "big") >> 1


@lru_cache(maxsize=64)
def sign_matrix(width: int, seed: int) -> F32:
    """Return the [width, 32] matrix of ±1 for inputs of that width, from a seeded generator."""
    generator = np.random.Generator(np.random.PCG64([seed, width]))
    return (generator.integers(0, 2, (width, DIMENSIONS)) * 2 - 1).astype(np.float32)


@kernel
def project(values: F32, offsets: I64, rows: I64, center: F32, scale: F32, signs: F32, out: I16) -> None:
    """Write the sketches of the named rows, all as wide as `center`, to `out` [n, 32]; scale = 1024 / spread.

    Sums of whole numbers below 2**24 are exact in float32 in any order; 1,024 numbers of at most 10,240 stay below it.
    """
    width = len(center)
    root = np.sqrt(width) if width > DIMENSIONS else 1.0
    whole = np.zeros((BLOCK, min(width, EXACT)), np.float32)
    total = np.empty((BLOCK, DIMENSIONS), np.float64)
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        total[:] = 0.0
        for left in range(0, width, EXACT):
            right = min(left + EXACT, width)
            for b in range(len(block)):
                _round(values[offsets[block[b]] + left :], center[left:right], scale[left:right], whole[b])
            if width <= DIMENSIONS:
                total[:, :width] = whole
            else:
                total += np.dot(np.ascontiguousarray(whole[:, : right - left]), signs[left:right])
        for b in range(len(block)):
            for k in range(DIMENSIONS):
                out[block[b], k] = np.int16(np.rint(min(max(total[b, k] / root, -32767.0), 32767.0)))


@kernel
def _round(values: F32, center: F32, scale: F32, out: F32) -> None:
    """Centre, scale, clip and round to whole numbers: adding and taking away 1.5 * 2**23 rounds, in SIMD code."""
    magic = np.float32(12582912.0)
    low, high = np.float32(-CLIP), np.float32(CLIP)
    for i in range(len(center)):
        value = (values[i] - center[i]) * scale[i]
        value = value if value < high else high
        value = value if value > low else low
        out[i] = (value + magic) - magic


def packed(sketch: I16) -> I8:
    """Return sketches as a gateway should send them: int8, in steps of `GATEWAY_STEP`, clipped at ±127 steps."""
    return np.clip(np.rint(sketch / GATEWAY_STEP), -127, 127).astype(np.int8)


@kernel
def adopt(values: F32, offsets: I64, rows: I64, out: I16) -> None:
    """Write sketches made at a gateway (int8, at most 32 of them count) in sketch units to `out` [n, 32]."""
    for row in rows:
        width = min(offsets[row + 1] - offsets[row], DIMENSIONS)
        for k in range(DIMENSIONS):
            value = values[offsets[row] + k] * GATEWAY_UNITS if k < width else 0.0
            out[row, k] = np.int16(np.rint(min(max(value, -32767.0), 32767.0)))


def robust_scale(rows: F64) -> tuple[F64, F64]:
    """Return the median and the spread of each column of benign rows [n, width].

    The spread is the largest of the interquartile range / 1.349, the standard deviation and an eighth of the range: of
    the column alone, so that the units of one feature do not decide how much another one counts. A column that never
    varied gets a tenth of the root mean square over all columns: it must not weigh without bound once it does vary.
    """
    center = np.median(rows, axis=0)
    low, high = np.quantile(rows, [0.25, 0.75], axis=0)
    spread = np.maximum.reduce([(high - low) / 1.349, rows.std(axis=0), np.ptp(rows, axis=0) / 8])
    floor = 0.1 * np.sqrt(np.mean(spread**2))
    return center, np.where(spread > 0, spread, floor if floor > 0 else 1.0)
