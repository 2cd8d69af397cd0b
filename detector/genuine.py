"""What tells genuine inputs of a model from inputs that were made up feature by feature: its values, their dependence.

Benign inputs have features that depend on each other, and each feature has its usual values. Drift, another site or a
broken instrument change the values but leave the dependence; explainers, imputation and permutation break the
dependence but draw usual values. Who makes inputs up (random, from a generator, from another domain) does both. From
the benign rows of a model come

* surprise: for every feature a histogram of eight bins over its range and one on either side; the surprise of a value
  is ln(uniform / benign) of its bin, that of an input the mean over its features;
* precision: the inverse of the features' correlation matrix, shrunk towards none. z'Pz / z'z is about 1 for benign
  inputs of any size, and large for independent features of any size (z in standard deviations, clipped at ±2);
* two synthetic samples: *shuffled* rows (each feature drawn from a benign row of its own) and *uniform* ones (each
  feature uniform over its range). The thresholds lie between benign, shuffled and uniform, so they follow the model.

The threshold of surprise is never below what 19 of 20 shuffled rows show: where uniform rows show no more, the test
loses power, not validity. With too few rows the threshold is infinite: no test.
Limit: in a reference that an attacker shaped, genuine is what the attacker sent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detector.events import F32, F64, I16, I64
from detector.sketch import CLIP, DIMENSIONS
from detector.space import Space

BINS = 8  # over the benign range of a feature; below and above it lie two more
EDGE = 0.05  # what a uniform maker is thought to put into each of those two
PSEUDO = 0.5  # added to every count
SHRINK = 0.1  # the least share of the identity in the correlation matrix
ROBUST = 2.0  # standard deviations at which a feature is clipped: one broken feature must not decide
LEAST_ENERGY = 0.3  # of the expected z'z: an input in the middle has no direction
PLACE = 0.6  # where the threshold of surprise lies between shuffled (95 % quantile) and uniform (median)
LEAST_ROWS = 2  # rows a feature, for their dependence
LEAST_VALUES = 24  # rows, for the values of each by itself
LIVELY = 0.2  # share of rows in which a feature must differ from its median, to be followed by itself
EXACT = 1024  # precision is rounded to 1/1024, so that other hardware has the same


class Dependence(NamedTuple):
    """Fields of `References` of the same names, of one model."""

    inverse_sd: F32  # [32] per sketch unit; 0 where the number never varied
    precision: F32  # [32, 32]
    dependence: float  # threshold of z'Pz / z'z


class Values(NamedTuple):
    """What features take, one by one; likewise of one model."""

    bin_low: F32  # [32]
    bin_scale: F32  # [32] bins a unit
    surprise: F32  # [32, 10] nats, already divided by the number of features
    value_mean: F32  # [32]
    unusual: float  # threshold of the surprise of an input


def dependence_of(rows: I16) -> Dependence:
    """Return how the numbers of benign sketches [n, 32] depend on each other."""
    x = rows.astype(np.float64)
    n = len(x)
    sd = x.std(axis=0)
    inverse_sd = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
    z = np.clip((x - x.mean(axis=0)) * inverse_sd, -ROBUST, ROBUST)
    used = int(np.count_nonzero(sd))
    shrink = max(SHRINK, used / (n + used))
    correlation = (1.0 - shrink) * (z.T @ z) / n + shrink * np.eye(DIMENSIONS)
    precision = np.rint(np.linalg.inv(correlation) * EXACT) / EXACT
    least = LEAST_ENERGY * used
    energy = _energy(z, precision)
    left_out = energy / np.maximum(1.0 - (1.0 - shrink) * energy / n, 0.05)  # each row by the matrix without it
    real = left_out / np.maximum((z * z).sum(axis=1), least)
    mixed = _shuffled(z)
    made = _energy(mixed, precision) / np.maximum((mixed * mixed).sum(axis=1), least)
    threshold = float(np.sqrt(np.median(real) * np.median(made))) if used > 1 and n >= LEAST_ROWS * used else np.inf
    return Dependence(
        inverse_sd.astype(np.float32),
        precision.astype(np.float32),
        round(threshold, 3) if np.isfinite(threshold) else np.inf,
    )


def _energy(z: F64, precision: F64) -> F64:
    """Return z'Pz of every row."""
    return np.asarray(((z @ precision) * z).sum(axis=1))


def values_of(features: I16, count: int) -> Values:
    """Return what `count` features take one by one, from benign values [n, 32] in sketch units; the others are 0."""
    x = features.astype(np.float64)
    n = len(x)
    low, high = x.min(axis=0), x.max(axis=0)
    scale = BINS / np.maximum(high - low, 1.0)
    bins = bins_of(x, low, scale)
    counts = np.stack([np.bincount(bins[:, k], minlength=BINS + 2) for k in range(DIMENSIONS)]).astype(np.float64)
    surprise, left_out = _surprise(counts, n, count), _surprise(np.maximum(counts - 1, 0), n - 1, count)
    mixed = _added(left_out, _shuffled(bins))
    uniform = low + (high - low) * _generator().random((256, DIMENSIONS))
    centred = uniform - uniform.mean(axis=0) + x.mean(axis=0)
    made = np.minimum(*(_added(surprise, bins_of(y, low, scale)) for y in (uniform, centred)))
    usual, whole = float(np.quantile(mixed, 0.95)), float(np.median(made))
    return Values(
        low.astype(np.float32),
        scale.astype(np.float32),
        surprise.astype(np.float32),
        x.mean(axis=0).astype(np.float32),
        round(usual + PLACE * max(whole - usual, 0.0), 3) if n >= LEAST_VALUES else np.inf,
    )


def nothing_known(models: int) -> dict[str, Any]:
    """Return the columns of `References` that this file fills, of models without a reference."""
    wide = (models, DIMENSIONS)
    return {
        "inverse_sd": np.zeros(wide, np.float32),
        "precision": np.zeros((*wide, DIMENSIONS), np.float32),
        "dependence": np.full(models, np.inf),
        "feature": np.full(wide, -1, np.int32),
        "feature_center": np.zeros(wide, np.float32),
        "feature_scale": np.zeros(wide, np.float32),
        "bin_low": np.zeros(wide, np.float32),
        "bin_scale": np.zeros(wide, np.float32),
        "surprise": np.zeros((*wide, BINS + 2), np.float32),
        "value_mean": np.zeros(wide, np.float32),
        "unusual": np.full(models, np.inf),
        "input_width": np.zeros(models, np.int64),
        "malformed_rate": np.zeros(models),
    }


def follow(rows: F32, space: Space, seed: int) -> dict[str, Any]:
    """Choose 32 features of wide benign vectors [n, width] to follow by themselves; what `References` holds of them.

    Only a vector shows its features: a sketch mixes all. Those that hardly ever vary tell nothing.
    """
    lively = np.flatnonzero((rows != np.median(rows, axis=0)).mean(axis=0) > LIVELY)
    if space.width <= DIMENSIONS or len(lively) < DIMENSIONS:
        return {"input_width": space.width}
    generator = np.random.Generator(np.random.PCG64([seed, space.width]))
    picked = np.sort(generator.permutation(lively)[:DIMENSIONS])
    center, scale = space.center[picked], space.scale[picked]
    values = np.clip(np.rint((rows[:, picked] - center) * scale), -CLIP, CLIP).astype(np.int16)
    own = {"input_width": space.width, "feature": picked, "feature_center": center, "feature_scale": scale}
    return {**own, **values_of(values, DIMENSIONS)._asdict()}


def bins_of(x: F64, low: F64, scale: F64) -> I64:
    """Return the bin [n, 32] of every value: 0 below the range, 1 to 8 inside, 9 above."""
    place = (x - low) * scale
    inside = np.clip(np.floor(place), 0, BINS - 1) + 1
    return np.where(place < 0, 0, np.where(place > BINS, BINS + 1, inside)).astype(np.int64)


def _surprise(counts: F64, n: int, count: int) -> F64:
    uniform = np.full(BINS + 2, (1.0 - 2 * EDGE) / BINS)
    uniform[[0, -1]] = EDGE
    benign = (counts + PSEUDO) / (n + PSEUDO * (BINS + 2))
    table = np.log(uniform / benign) / max(count, 1)
    table[count:] = 0.0
    return np.asarray(table, np.float64)


def _added(table: F64, bins: I64) -> F64:
    return np.asarray(table[np.arange(DIMENSIONS), bins].sum(axis=1))


def _shuffled(x: np.ndarray) -> np.ndarray:
    """Return twice as many rows, every column in an order of its own."""
    generator = _generator()
    return np.concatenate([generator.permuted(x, axis=0) for _ in range(2)])


def _generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(2311))
