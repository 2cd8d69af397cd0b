"""New genuine-looking records: the inputs of benign clients are nearly all new, as in production.

Real data sets are small, so a benign client cannot live on held-out records alone without repeating them. New ones are
made in two ways, neither of which looks at the victim:

* tables: a point between a held-out record and one of its nearest neighbours of the same class, moved along the
  difference of another such pair (so that the noise has the local covariance), a category taken from one parent, all
  rounded to the grid of the feature;
* images: a small random rotation, scaling, shift and elastic bend of a held-out image. The 8×8 digits are counts of ink
  in 4×4 blocks of a 32×32 bitmap, so they are bent as bitmaps and counted again, as the data set was made.

What is wrong with them: they keep close to few parents (nearest distances are smaller than between real records), and
bent images vary less than other people's handwriting.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

from detector.events import F32, F64, I64
from replay.simulate.data import Dataset, Part, half_of, load

_NEIGHBOURS = 5
_NOISE = 0.3


@dataclass(frozen=True, slots=True)
class Labelled:
    """New records x [n, d] of the classes y [n]."""

    x: F32
    y: I64


class Source:
    """Draws new records from the held-out records of one half of the evaluation."""

    def __init__(self, data: Dataset, half: str | None = None) -> None:
        self.data = data
        self.originals = _of_half(data, half)
        if data.shape is None:
            self._near = _neighbours(data, self.originals)
        else:
            self._fine, self._block = _fine_images(data, self.originals)
            self._rest = self.originals.x - _count(self._fine, self._block)  # what the bitmap could not hold

    def draw(self, rng: Generator, n: int, label: int | None = None) -> Labelled:
        """Return n new records, of one class if asked."""
        pool = np.arange(len(self.originals.y)) if label is None else np.flatnonzero(self.originals.y == label)
        return self.near(rng, pool[rng.integers(0, len(pool), n)])

    def near(self, rng: Generator, parents: I64, strength: float = 1.0) -> Labelled:
        """Return one new record for each parent (index into `originals`); strength 0 gives the parents themselves."""
        make = self._mixed if self.data.shape is None else self._bent
        return Labelled(make(rng, parents, strength), self.originals.y[parents])

    def _mixed(self, rng: Generator, parents: I64, strength: float) -> F32:
        x, n = self.originals.x.astype(np.float64), len(parents)

        def friend(of: I64) -> I64:
            return self._near[of, rng.integers(0, self._near.shape[1], n)]

        other, third = friend(parents), friend(parents)
        blend = strength * rng.random((n, 1))
        noise = strength * _NOISE * rng.standard_normal((n, 1)) * (x[friend(third)] - x[third])
        mixed = x[parents] + blend * (x[other] - x[parents]) + noise
        taken = np.where(rng.random(mixed.shape) < blend, x[other], x[parents])
        return self.data.on_grid(np.where(self.data.category, taken, mixed))

    def _bent(self, rng: Generator, parents: I64, strength: float) -> F32:
        return self.moved(parents, random_motion(rng, len(parents), self.side, strength))

    @property
    def side(self) -> int:
        """Return the side of the fine images that motions are measured in."""
        return int(self._fine.shape[1])

    def moved(self, parents: I64, motion: Motion) -> F32:
        """Return one image [n, d] for each parent under a given motion."""
        out = np.empty((len(parents), self.data.width), np.float32)
        for start in range(0, len(parents), 512):  # bounded memory
            part = slice(start, start + 512)
            bent = bend(self._fine[parents[part]], Motion(*(column[part] for column in motion)), self._block)
            out[part] = self.data.on_grid(_count(bent, self._block) + self._rest[parents[part]])
        return out


class Motion(NamedTuple):
    """How n images are moved: all zero leaves them as they are (scale: 1)."""

    angle: F64  # [n] radians
    scale: F64  # [n]
    shift: F64  # [n, 2] fine pixels
    field: F64  # [n, 2, 4, 4] elastic arrows in fine pixels at 4×4 knots


def random_motion(rng: Generator, n: int, side: int, strength: float) -> Motion:
    """Return a small random motion for each of n images."""
    unit = strength * side / 32
    return Motion(
        strength * rng.normal(0, 0.06, n),
        1 + strength * rng.normal(0, 0.03, n),
        unit * rng.normal(0, 0.5, (n, 2)),
        unit * rng.normal(0, 0.55, (n, 2, 4, 4)),
    )


def bend(images: F32, motion: Motion, block: int) -> F32:
    """Return images [n, side, side] moved; bitmaps (block > 1) stay bitmaps."""
    side = images.shape[1]
    axis = np.arange(side) - (side - 1) / 2
    rows, cols = np.meshgrid(axis, axis, indexing="ij")
    weights = _hat(side)  # [side, 4]: a smooth field from 4×4 random arrows
    field = np.einsum("ia,nkab,jb->knij", weights, motion.field, weights, optimize=True)
    cos = (np.cos(motion.angle) / motion.scale)[:, None, None]
    sin = (np.sin(motion.angle) / motion.scale)[:, None, None]
    to_row = cos * rows - sin * cols + motion.shift[:, :1, None] + field[0] + (side - 1) / 2
    to_col = sin * rows + cos * cols + motion.shift[:, 1:, None] + field[1] + (side - 1) / 2
    return _sample(images, to_row, to_col, nearest=block > 1)


def _sample(images: F32, row: F64, col: F64, nearest: bool) -> F32:
    side = images.shape[1]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    row, col = np.clip(row + 1, 0, side + 1), np.clip(col + 1, 0, side + 1)
    which = np.arange(len(images))[:, None, None]
    if nearest:
        return np.asarray(padded[which, np.rint(row).astype(np.int64), np.rint(col).astype(np.int64)], np.float32)
    r0, c0 = np.minimum(row.astype(np.int64), side), np.minimum(col.astype(np.int64), side)
    fr, fc = (row - r0).astype(np.float32), (col - c0).astype(np.float32)
    top = padded[which, r0, c0] * (1 - fc) + padded[which, r0, c0 + 1] * fc
    bottom = padded[which, r0 + 1, c0] * (1 - fc) + padded[which, r0 + 1, c0 + 1] * fc
    return np.asarray(top * (1 - fr) + bottom * fr, np.float32)


def _hat(side: int) -> F64:
    """Return [side, 4] linear interpolation weights from 4 knots to `side` pixels."""
    knots = np.linspace(0, side - 1, 4)
    return np.asarray(np.maximum(0, 1 - np.abs(np.arange(side)[:, None] - knots) / (knots[1] - knots[0])))


def _count(fine: F32, block: int) -> F32:
    n, side = len(fine), fine.shape[1] // block
    return np.asarray(fine.reshape(n, side, block, side, block).mean((2, 4)).reshape(n, -1), np.float32)


def _fine_images(data: Dataset, part: Part) -> tuple[F32, int]:
    """Return the images at the resolution at which they are bent, and how many fine pixels make a coarse one."""
    height, width = data.shape or (1, 1)
    images = part.x.reshape(-1, height, width)
    if height > 8:
        return images, 1
    fine = zoom(images, (1, 4, 4), order=1, grid_mode=True, mode="nearest")
    ink = images.mean((1, 2)) / 16
    level = np.array([np.quantile(image, 1 - share) for image, share in zip(fine, ink, strict=True)])
    return (16 * (fine > level[:, None, None])).astype(np.float32), 4


def _of_half(data: Dataset, half: str | None) -> Part:
    if half is None:
        return data.held_out
    mine = [half_of(f"{data.name}:{row.tobytes().hex()}") == half for row in data.held_out.x]
    return data.held_out.take(np.array(mine))


def _neighbours(data: Dataset, part: Part) -> I64:
    """Return [n, k] the nearest records of the same class, in units of each feature's spread."""
    scaled = part.x / np.maximum(part.x.std(0), 1e-9)
    near = np.empty((len(part.y), _NEIGHBOURS), np.int64)
    for label in range(data.classes):
        rows = np.flatnonzero(part.y == label)
        if len(rows) < 2:  # alone in its class: its own neighbour
            near[rows] = rows[:, None]
            continue
        k = min(_NEIGHBOURS, len(rows) - 1)
        found = cKDTree(scaled[rows]).query(scaled[rows], k + 1)[1][:, 1:]
        near[rows] = rows[np.resize(found.T, (_NEIGHBOURS, len(rows))).T if k < _NEIGHBOURS else found]
    return near


@cache
def source_of(name: str, seed: int, half: str) -> Source:
    """Return the source of a data set for one half of the evaluation, made once."""
    return Source(load(name, seed), half)
