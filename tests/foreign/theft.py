"""Attacks that are public code called with public records: samplers for extraction, sweeps, noise copies."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.tree import DecisionTreeClassifier

from tests.foreign.attack import SCORES, Attack, Run, Scene

_BATCH = 25


def _space_filling(name: str) -> Run:
    """Query a space-filling design of the whole box (scipy.stats.qmc)."""

    def run(scene: Scene) -> None:
        make = getattr(qmc, name)
        engine = make(scene.data.width, rng=scene.rng)
        n = 512 if name == "Sobol" else scene.line.budget
        for u in np.array_split(engine.random(n), n // _BATCH):
            scene.line.ask(scene.back(u))

    return run


def mixture(scene: Scene) -> None:
    """Query samples of a Gaussian mixture fitted to a few public records (scikit-learn)."""
    own = scene.unit(scene.some_public(60).x)
    model = GaussianMixture(2, covariance_type="diag", reg_covar=1e-3, random_state=scene.seed).fit(own)
    for u in np.array_split(model.sample(scene.line.budget)[0], scene.line.budget // _BATCH):
        scene.line.ask(scene.back(np.clip(u, 0, 1)))


def density(scene: Scene) -> None:
    """Query samples of a kernel density of public records, wider at every round (scikit-learn)."""
    own = scene.unit(scene.some_public(40).x)
    for i in range(scene.line.budget // _BATCH + 1):
        model = KernelDensity(bandwidth=0.03 * (1 + 0.3 * i)).fit(own)
        scene.line.ask(scene.back(np.clip(model.sample(_BATCH, scene.seed), 0, 1)))


def uncertain(scene: Scene) -> None:
    """Ask about the random points of which a growing decision tree is least sure: active learning."""
    own = scene.some_public(30)
    x, y = [scene.unit(own.x)], [scene.line.label(own.x)]
    while True:
        tree = DecisionTreeClassifier(min_samples_leaf=3, random_state=scene.seed)
        tree.fit(np.concatenate(x), np.concatenate(y))
        pool = scene.rng.random((400, scene.data.width))
        pick = np.argsort(tree.predict_proba(pool).max(1) + 1e-3 * scene.rng.random(len(pool)))[:10]
        x.append(pool[pick])
        y.append(scene.line.label(scene.back(pool[pick])))


def sweep(scene: Scene) -> None:
    """Send every value of the sensitive feature for one record after the other (Fredrikson et al. 2014)."""
    data, feature = scene.data, scene.data.sensitive or 0
    values = data.values(feature)
    for row in scene.rng.permutation(len(data.members.y)).tolist():
        x = data.members.x[np.full(len(values), row)].copy()
        x[:, feature] = values
        for one in x:
            scene.line.ask(one)


def noise_copies(scene: Scene) -> None:
    """Send each suspect and noisy copies of it: members keep their label longer."""
    part = scene.suspects(60)
    sd = 0.5 * scene.data.public.x.std(0)
    for x in part.x:
        copies = x + scene.rng.choice([0.2, 0.5, 1.0]) * sd * scene.rng.standard_normal((15, len(x)))
        scene.line.ask(np.concatenate([x[None], copies]))


DEVELOP = (
    Attack("sobol", "extraction", _space_filling("Sobol"), widest=800),
    Attack("mixture", "extraction", mixture),
    Attack("active_tree", "extraction", uncertain, widest=60),
    Attack("sweep", "attribute_inference", sweep, sensitive=True, budget=300),
    Attack("noise_copies", "membership_inference", noise_copies),
)
HOLDOUT = (
    Attack("latin_hypercube", "extraction", _space_filling("LatinHypercube"), widest=800),
    Attack("halton", "extraction", _space_filling("Halton"), SCORES, widest=30),
    Attack("density", "extraction", density),
    Attack("sweep", "attribute_inference", sweep, sensitive=True, budget=300),
    Attack("noise_copies", "membership_inference", noise_copies),
)
