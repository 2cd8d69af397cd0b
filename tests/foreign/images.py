"""Images that the simulator does not use: digits of other sizes, drawn faces, spots, gratings and shapes."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy.ndimage import affine_transform, gaussian_filter, zoom
from sklearn.datasets import load_digits

from detector.events import F64
from tests.foreign.tables import Raw

ROWS = 2600


def digits16(rng: Generator) -> Raw:
    """The digits of scikit-learn at 16 × 16, bent a little, in 0..255."""
    return _digits(rng, 16, 1.0)


def digits12(rng: Generator) -> Raw:
    """The digits of scikit-learn, cropped to their middle 6 × 8 and stretched to 12 × 12, in 0..255."""
    return _digits(rng, 12, 0.75)


def _digits(rng: Generator, size: int, keep: float) -> Raw:
    images, y = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    cut = round(4 * (1 - keep))
    images = images[:, :, cut : 8 - cut]
    pick = np.concatenate([np.arange(len(y)), rng.integers(0, len(y), ROWS - len(y))])
    out = np.empty((ROWS, size, size))
    for i, source in enumerate(pick.tolist()):
        large = zoom(images[source], (size / 8, size / images.shape[2]), order=1)
        out[i] = _bent(rng, large, 0.08)
    return Raw(np.clip(out * 255 / 16, 0, 255).round().reshape(ROWS, -1), y[pick], (size, size))


def _bent(rng: Generator, image: F64, by: float) -> F64:
    matrix = np.eye(2) + by * rng.standard_normal((2, 2))
    middle = (np.array(image.shape) - 1) / 2
    shift = middle - matrix @ middle + 0.03 * image.shape[0] * rng.standard_normal(2)
    return np.asarray(affine_transform(image, matrix, shift, order=1))


def faces24(rng: Generator) -> Raw:
    """Drawn faces of eight persons: the proportions are the person's, light and pose vary. 24 × 24 in 0..1."""
    return _faces(rng, 24, 8)


def faces28(rng: Generator) -> Raw:
    """Drawn faces of twelve persons, 28 × 28 in 0..1."""
    return _faces(rng, 28, 12)


def _faces(rng: Generator, size: int, persons: int) -> Raw:
    down, across = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    proportions = rng.uniform(-1, 1, (persons, 7))
    y = rng.integers(0, persons, ROWS)
    out = np.empty((ROWS, size, size))
    for i, person in enumerate(y.tolist()):
        p = proportions[person] + 0.12 * rng.standard_normal(7)
        dy, dx = 0.06 * rng.standard_normal(2)
        v, u = down - dy, across - dx
        face = 0.75 * _blob(v, u, 0.0, 0.0, 0.8, 0.58 + 0.08 * p[0])
        for side in (-1, 1):
            face -= 0.5 * _blob(v, u, -0.22 + 0.06 * p[1], side * (0.24 + 0.06 * p[2]), 0.1, 0.12 + 0.03 * p[3])
            face -= 0.25 * _blob(v, u, -0.4 + 0.06 * p[1], side * (0.24 + 0.06 * p[2]), 0.04, 0.18)
        face -= 0.3 * _blob(v, u, 0.42 + 0.06 * p[4], 0.0, 0.07, 0.24 + 0.08 * p[5])
        face -= 0.12 * _blob(v, u, 0.1, 0.0, 0.2, 0.06)
        face -= (0.2 + 0.2 * p[6]) * _blob(v, u, -0.85, 0.0, 0.3, 0.7)
        light = 1 + 0.2 * rng.standard_normal() * across + 0.1 * rng.standard_normal()
        out[i] = 0.15 + face * light + 0.02 * rng.standard_normal(face.shape)
    return Raw(_eight_bits(out), y, (size, size))


def _blob(v: F64, u: F64, y: float, x: float, high: float, wide: float) -> F64:
    return np.asarray(np.exp(-((((v - y) / high) ** 2 + ((u - x) / wide) ** 2) ** 1.5)))


def spots28(rng: Generator) -> Raw:
    """Two to five blurred spots on a noisy ground; the class is how many. 28 × 28 in 0..1."""
    y = rng.integers(0, 4, ROWS)
    out = np.zeros((ROWS, 28, 28))
    down, across = np.mgrid[0:28, 0:28]
    for i, count in enumerate((y + 2).tolist()):
        for place in rng.permutation(9)[:count]:
            at = 5 + 9 * np.array(divmod(int(place), 3)) + rng.normal(0, 1, 2)
            out[i] += np.exp(-((down - at[0]) ** 2 + (across - at[1]) ** 2) / (2 * rng.uniform(1.5, 2.2) ** 2))
        out[i] += 0.08 * gaussian_filter(rng.standard_normal((28, 28)), 1)
    return Raw(_eight_bits(out), y, (28, 28))


def gratings20(rng: Generator) -> Raw:
    """Gratings of five directions and any phase in soft windows. 20 × 20 in 0..1."""
    y = rng.integers(0, 5, ROWS)
    down, across = np.mgrid[-1:1:20j, -1:1:20j]
    turn = np.pi * (y + 0.15 * rng.standard_normal(ROWS)) / 5
    rate, phase = rng.uniform(6, 10, ROWS), rng.uniform(0, 2 * np.pi, ROWS)
    along = np.cos(turn)[:, None, None] * across + np.sin(turn)[:, None, None] * down
    waves = np.sin(rate[:, None, None] * along + phase[:, None, None])
    window = np.exp(-(down**2 + across**2) / rng.uniform(0.4, 1.2, ROWS)[:, None, None])
    noise = 0.05 * rng.standard_normal(waves.shape)
    return Raw(_eight_bits(0.5 + 0.4 * waves * window + noise), y, (20, 20))


def shapes24(rng: Generator) -> Raw:
    """Filled squares, discs, crosses, rings and bars of any size, in 0..255. 24 × 24."""
    y = rng.integers(0, 5, ROWS)
    out = np.empty((ROWS, 24, 24))
    down, across = np.mgrid[-1:1:24j, -1:1:24j]
    for i, kind in enumerate(y.tolist()):
        v, u = down - rng.uniform(-0.25, 0.25), across - rng.uniform(-0.25, 0.25)
        size, r = rng.uniform(0.35, 0.65), np.hypot(v, u)
        square = np.maximum(np.abs(v), np.abs(u))
        cross = np.minimum(np.abs(v), np.abs(u)) + 0.2 * (square > size)
        inside = (size - square, size - r, 0.15 - cross, 0.12 - np.abs(r - size), 0.2 - np.abs(v))[kind]
        out[i] = gaussian_filter((inside > 0).astype(float), 0.6) * rng.uniform(0.6, 1)
    out += 0.03 * rng.standard_normal(out.shape)
    return Raw((255 * _eight_bits(out)).round(), y, (24, 24))


def _eight_bits(out: F64) -> F64:
    return np.asarray((255 * np.clip(out, 0, 1)).round().reshape(len(out), -1) / 255).round(4)


MAKERS = (digits16, faces24, spots28, digits12, faces28, gratings20, shapes24)
