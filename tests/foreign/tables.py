"""Tables that the simulator does not use: synthetic ones with correlated, skewed, whole and categorical columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from sklearn.datasets import (
    load_breast_cancer,
    load_iris,
    load_wine,
    make_circles,
    make_classification,
    make_friedman1,
    make_hastie_10_2,
    make_moons,
)

from detector.events import F64, I64

ROWS = 9000


class Raw(NamedTuple):
    """Records x [n, d] of classes y [n]; `shape` for images, `sensitive` is what attribute inference is after."""

    x: F64
    y: I64
    shape: tuple[int, int] | None = None
    sensitive: int | None = None


def narrow(rng: Generator) -> Raw:
    """Two moons, two columns that hang on them, a count and a code: 6 features."""
    x, y = make_moons(ROWS, noise=0.25, random_state=_state(rng))
    third = x[:, 0] * x[:, 1] + 0.3 * rng.standard_normal(ROWS)
    skewed = np.exp(0.8 * x[:, 1] + 0.4 * rng.standard_normal(ROWS))
    count = rng.poisson(2 + 3 * y)
    code = (x[:, 0] > rng.normal(0.5, 0.6, ROWS)).astype(float) + (rng.random(ROWS) < 0.3)
    return Raw(np.column_stack([x, third, skewed, count, code]).round(3), y, sensitive=5)


def mixed(rng: Generator) -> Raw:
    """Make_classification with skewed, whole-number and categorical columns: 12 features, 4 classes."""
    x, y = make_classification(
        ROWS, 12, n_informative=7, n_redundant=3, n_classes=4, class_sep=1.6, random_state=_state(rng)
    )
    x[:, 3] = np.exp(x[:, 3] / 2)
    x[:, 4] = np.round(4 * x[:, 4])
    x[:, 7] = np.digitize(x[:, 7], [-2, -0.5, 0.5, 2])
    x[:, 9] = x[:, 9] > 0
    return Raw(x.round(4), y, sensitive=7)


def broad(rng: Generator) -> Raw:
    """Forty correlated columns, three classes; a third of the columns is skewed."""
    x, y = make_classification(
        ROWS, 40, n_informative=12, n_redundant=16, n_classes=3, class_sep=1.4, random_state=_state(rng)
    )
    skewed = rng.random(40) < 0.33
    x[:, skewed] = np.sign(x[:, skewed]) * np.expm1(np.abs(x[:, skewed]) / 2)
    return Raw(x.round(3), y)


def wide(rng: Generator) -> Raw:
    """Two hundred columns, few of which matter; two classes."""
    x, y = make_classification(
        ROWS // 2, 200, n_informative=20, n_redundant=60, class_sep=1.2, random_state=_state(rng)
    )
    return Raw(x.round(2), y)


def census(rng: Generator) -> Raw:
    """A table like the census of incomes: age, hours, gains with many zeros, and categorical codes: 12 features."""
    age = np.clip(rng.gamma(8, 5, ROWS).round(), 17, 90)
    schooling = np.clip((rng.normal(10, 2.6, ROWS)).round(), 1, 16)
    sex = rng.random(ROWS) < 0.66
    married = rng.random(ROWS) < 1 / (1 + np.exp(-(age - 32) / 8))
    relation = np.where(married, np.where(sex, 0, 5), rng.integers(1, 5, ROWS))
    work = rng.choice(7, ROWS, p=[0.7, 0.08, 0.06, 0.05, 0.05, 0.04, 0.02])
    job = np.clip((schooling / 2 + rng.integers(0, 7, ROWS)).round(), 0, 13)
    race = rng.choice(5, ROWS, p=[0.85, 0.1, 0.03, 0.01, 0.01])
    hours = np.clip((40 + np.where(rng.random(ROWS) < 0.45, rng.normal(0, 14, ROWS), 0)).round(), 1, 99)
    gain = np.where(rng.random(ROWS) < 0.09, rng.lognormal(8.3, 1.1, ROWS).round(), 0)
    loss = np.where(rng.random(ROWS) < 0.05, rng.normal(1850, 300, ROWS).round(), 0)
    weight = rng.lognormal(12, 0.5, ROWS).round()
    odds = -8.2 + 0.03 * age + 0.33 * schooling + 2 * married + 0.5 * sex + 0.03 * hours + gain / 3000 + 0.05 * job
    y = (odds + rng.logistic(0, 0.7, ROWS) > 0).astype(np.int64)
    columns = [age, work, weight, schooling, married, job, relation, race, sex, gain, loss, hours]
    return Raw(np.column_stack(columns).astype(float), y, sensitive=4)


def claims(rng: Generator) -> Raw:
    """Insurance claims: counts, amounts over several decades, codes, one-hot regions: 18 features, 3 classes."""
    risk = rng.gamma(2, 1, ROWS)
    before, amount = rng.poisson(risk), rng.lognormal(6 + 0.4 * risk, 1)
    car_age, power = rng.geometric(0.12, ROWS), rng.choice([60, 75, 90, 110, 150, 220], ROWS)
    driver = np.clip(rng.normal(46 - 4 * risk, 13).round(), 18, 88)
    region = rng.choice(6, ROWS, p=[0.3, 0.25, 0.2, 0.12, 0.08, 0.05])
    fuel, garage, night = rng.integers(0, 3, ROWS), rng.random(ROWS) < 0.6, rng.beta(1, 6, ROWS)
    kilometres = (rng.lognormal(9.4, 0.6, ROWS) / 500).round() * 500
    bonus = np.clip(50 + 8 * before - driver / 10 + rng.normal(0, 6, ROWS), 50, 230).round()
    total = 0.5 * risk + 0.004 * bonus + 0.3 * night + (kilometres > 15_000) * 0.4 + 0.2 * (region == 4)
    y = np.digitize(total + 0.2 * rng.standard_normal(ROWS), [1.0, 1.9])
    columns = [before, amount.round(2), car_age, power, driver, fuel, garage, night.round(3), kilometres, bonus]
    extra = [rng.integers(0, 2, ROWS), rng.integers(1990, 2024, ROWS)]
    return Raw(np.column_stack([*columns, *extra, np.eye(6)[region]]).astype(float), y, sensitive=6)


def machines(rng: Generator) -> Raw:
    """Readings of machines in five states: four latent causes behind 24 gauges of unlike units."""
    y = rng.integers(0, 5, ROWS)
    latent = 1.4 * rng.standard_normal((5, 4))[y] + rng.standard_normal((ROWS, 4))
    gauges = latent @ rng.standard_normal((4, 24)) + 0.5 * rng.standard_normal((ROWS, 24))
    gauges[:, ::4] = np.abs(gauges[:, ::4])
    unit = 10.0 ** rng.integers(-1, 4, 24)
    return Raw((gauges * unit + 5 * unit).round(2), y)


def circles(rng: Generator) -> Raw:
    """Two rings in a rotated space of 8."""
    flat, y = make_circles(ROWS, noise=0.12, factor=0.5, random_state=_state(rng))
    turn = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    x = np.column_stack([flat, 0.3 * rng.standard_normal((ROWS, 6))]) @ turn
    return Raw(x.round(4), y)


def words(rng: Generator) -> Raw:
    """Counts of 100 words in short texts about four topics: sparse."""
    topics = rng.dirichlet(np.full(100, 0.08), 4)
    y = rng.integers(0, 4, ROWS // 2)
    length = rng.poisson(30, ROWS // 2) + 4
    common = rng.dirichlet(np.full(100, 0.3))
    x = np.stack([rng.multinomial(n, 0.6 * topics[k] + 0.4 * common) for n, k in zip(length, y, strict=True)])
    return Raw(x.astype(float), y)


def baskets(rng: Generator) -> Raw:
    """Which of 40 goods lie in a basket, bought by three kinds of households: sparse, yes or no."""
    taste = rng.beta(0.35, 4, (3, 40))
    y = rng.integers(0, 3, ROWS)
    return Raw((rng.random((ROWS, 40)) < taste[y]).astype(float), y, sensitive=0)


def friedman(rng: Generator) -> Raw:
    """Friedman's first regression problem, uniform inputs, cut into three classes."""
    x, value = make_friedman1(ROWS, 10, noise=0.5, random_state=_state(rng))
    return Raw(x.round(3), np.digitize(value, np.quantile(value, [0.33, 0.66])))


def hastie(rng: Generator) -> Raw:
    """Ten Gaussian features, the class by their squared length."""
    x, y = make_hastie_10_2(ROWS, random_state=_state(rng))
    return Raw(x.round(3), (y > 0).astype(np.int64))


def breast(rng: Generator) -> Raw:
    """The breast cancer table of scikit-learn, enlarged."""
    return _enlarged(rng, *load_breast_cancer(return_X_y=True))


def wine(rng: Generator) -> Raw:
    """The wine table of scikit-learn, enlarged."""
    return _enlarged(rng, *load_wine(return_X_y=True))


def iris(rng: Generator) -> Raw:
    """The iris table of scikit-learn, enlarged."""
    return _enlarged(rng, *load_iris(return_X_y=True))


def _enlarged(rng: Generator, x: F64, y: I64, rows: int = 5000) -> Raw:
    """Draw from a Gaussian kernel estimate of each class, with the class's own covariance; the true records first."""
    labels = rng.choice(y, rows - len(y))
    more = np.empty((len(labels), x.shape[1]))
    for label in np.unique(y):
        own, mine = x[y == label], labels == label
        root = np.linalg.cholesky(np.cov(own.T) + 1e-9 * np.diag(own.var(0) + 1e-12))
        noise = rng.standard_normal((int(mine.sum()), x.shape[1])) @ root.T
        parents = own[rng.integers(0, len(own), len(noise))]
        centre = own.mean(0)  # shrunk, so that the covariance stays that of the class
        more[mine] = centre + np.sqrt(1 - 0.5**2) * (parents - centre) + 0.5 * noise
    low, high = x.min(0), x.max(0)
    grid = 10.0 ** np.floor(np.log10(x.std(0) / 20))  # three digits or so, as they would be typed
    whole = np.round(np.clip(np.concatenate([x, more]), low, high) / grid) * grid
    return Raw(whole, np.concatenate([y, labels]))


def _state(rng: Generator) -> int:
    return int(rng.integers(2**31))


MAKERS = (
    *(narrow, mixed, broad, wide, census, baskets, breast, wine),
    *(claims, machines, circles, words, friedman, hastie, iris),
)
