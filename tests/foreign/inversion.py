"""Inversion by public optimisers that maximise the confidence in a class, over raw inputs or a PCA space of records."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import cma
import nevergrad as ng
import numpy as np
import optuna
from pyswarms.single import GlobalBestPSO
from scipy import optimize
from sklearn.decomposition import PCA

from detector.events import F64
from tests.foreign import toolbox
from tests.foreign.attack import LABELS, SCORES, Attack, Run, Scene

Loss = Callable[[F64], float]  # point [k] of the unit cube → what is to be made small
Minimise = Callable[[Scene, Loss, F64], None]  # `start` [k]; runs until it converges or the line is spent

_LATENT = 12
_WIDEST = 60


class _Space:
    """Points u in the unit cube that stand for inputs: all features, or the first principal components."""

    def __init__(self, scene: Scene, latent: bool) -> None:
        public = scene.unit(scene.data.public.x)
        self.scene, self.pca, self.k = scene, None, public.shape[1]
        if latent:
            self.k = min(_LATENT, public.shape[1] - 1)
            self.pca = PCA(self.k, random_state=scene.seed).fit(public)
            self.sd = (public @ self.pca.components_.T).std(0)

    def decode(self, u: F64) -> F64:
        """Return [n, d] inputs of points [n, k]."""
        u = np.clip(np.atleast_2d(u), 0, 1)
        if self.pca is not None:
            u = self.pca.inverse_transform((u - 0.5) * 6 * self.sd)  # three standard deviations each way
        return self.scene.back(np.clip(u, 0, 1))

    def mean(self) -> F64:
        """Return the point of the mean public record."""
        return np.full(self.k, 0.5) if self.pca is not None else self.scene.unit(self.scene.data.public.x).mean(0)


def _inverts(minimise: Minimise, *, latent: bool = False, mean: bool = False) -> Run:
    def run(scene: Scene) -> None:
        space = _Space(scene, latent)
        for turn, target in enumerate(cycle(scene.classes().tolist())):
            start = space.mean() if mean else scene.rng.random(space.k)
            if mean and turn >= scene.data.classes:  # it has been there
                start = np.clip(start + 0.05 * scene.rng.standard_normal(space.k), 0, 1)

            def loss(u: F64, target: int = target) -> float:
                x = space.decode(u)
                scene.found.append((target, x[0]))
                return -float(scene.line.ask(x).log_odds(target)[0])

            minimise(scene, loss, np.asarray(start))

    return run


def _cma(scene: Scene, loss: Loss, start: F64) -> None:
    options = {"bounds": [0, 1], "seed": scene.seed % 10**6 + 1, "verbose": -9, "maxfevals": 300}
    cma.fmin2(loss, start, 0.25, options)


def _nevergrad(name: str, budget: int = 300) -> Minimise:
    def minimise(scene: Scene, loss: Loss, start: F64) -> None:
        space = ng.p.Array(init=np.clip(start, 0.01, 0.99)).set_bounds(0, 1)
        space.random_state.seed(scene.seed % 2**31)
        ng.optimizers.registry[name](space, budget=budget).minimize(lambda u: loss(np.asarray(u)))

    return minimise


def _scipy(method: str, **options: Any) -> Minimise:
    def minimise(_: Scene, loss: Loss, start: F64) -> None:
        optimize.minimize(loss, start, method=method, bounds=[(0, 1)] * len(start), options={"maxiter": 250, **options})

    return minimise


def _scipy_evolution(scene: Scene, loss: Loss, start: F64) -> None:
    size = max(1, 24 // len(start))  # the population is that many times the dimension, and at least 5
    optimize.differential_evolution(
        loss, [(0, 1)] * len(start), popsize=size, maxiter=20, seed=scene.seed, x0=start, polish=False
    )


def _scipy_annealing(scene: Scene, loss: Loss, start: F64) -> None:
    optimize.dual_annealing(loss, [(0, 1)] * len(start), maxfun=300, x0=start, rng=scene.seed)


def _scipy_hopping(scene: Scene, loss: Loss, start: F64) -> None:
    local = {"method": "L-BFGS-B", "bounds": [(0, 1)] * len(start), "options": {"maxfun": 60, "eps": 0.02}}
    optimize.basinhopping(loss, start, niter=5, stepsize=0.2, rng=scene.seed, minimizer_kwargs=local)


def _pyswarms(scene: Scene, loss: Loss, start: F64) -> None:
    init = np.clip(start + 0.25 * scene.rng.standard_normal((16, len(start))), 0.001, 0.999)
    bounds = (np.zeros(len(start)), np.ones(len(start)))
    swarm = GlobalBestPSO(16, len(start), {"c1": 1.5, "c2": 1.5, "w": 0.6}, bounds=bounds, init_pos=init)
    swarm.optimize(lambda points: np.array([loss(u) for u in points]), 20, verbose=False)


def _optuna(sampler: str) -> Minimise:
    def minimise(scene: Scene, loss: Loss, start: F64) -> None:
        study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=scene.seed))
        study.optimize(
            lambda trial: loss(np.array([trial.suggest_float(f"u{i}", 0, 1) for i in range(len(start))])), n_trials=250
        )

    return minimise


def _labels(name: str, copies: int) -> Run:
    """Minimise the share of noisy copies that leave the target class: no score is needed."""

    def run(scene: Scene) -> None:
        space = _Space(scene, latent=scene.data.width > 20)
        spread = 0.15 if space.pca is not None else 0.6 * float(scene.unit(scene.data.public.x).std(0).mean())
        for target in cycle(scene.classes().tolist()):

            def loss(u: F64, target: int = target) -> float:
                cloud = np.concatenate([u[None], u + spread * scene.rng.standard_normal((copies - 1, len(u)))])
                x = space.decode(cloud)
                scene.found.append((target, x[0]))
                reward = np.where(scene.line.ask(x).label == target, 1.0, -1.0)
                return -float(reward.mean())

            _nevergrad(name, 300 // copies)(scene, loss, _inside(scene, space, target))

    return run


def _inside(scene: Scene, space: _Space, target: int, tries: int = 30) -> F64:
    """Return a random point of the target class if one is soon found, else any."""
    for _ in range(tries):
        u = np.clip(0.5 + 0.2 * scene.rng.standard_normal(space.k), 0, 1)
        if scene.line.label(space.decode(u))[0] == target:
            break
    return np.asarray(u)


def _score(name: str, minimise: Minimise, *, mean: bool = False, widest: int = _WIDEST, budget: int = 500) -> Attack:
    """Return an attack on scores; one that is called …_pca searches the latent space, at any width."""
    latent = name.endswith("_pca")
    run = _inverts(minimise, latent=latent, mean=mean)
    return Attack(name, "inversion", run, SCORES, widest=10_000 if latent else widest, budget=budget)


DEVELOP = (
    _score("cma", _cma),
    _score("cma_mean", _cma, mean=True),
    _score("cma_pca", _cma),
    _score("nevergrad_de", _nevergrad("TwoPointsDE")),
    _score("nevergrad_pso_pca", _nevergrad("PSO")),
    _score("nevergrad_oneplusone", _nevergrad("OnePlusOne"), widest=800),
    _score("nevergrad_sqopso", _nevergrad("SQOPSO")),
    _score("scipy_de", _scipy_evolution),
    _score("scipy_de_pca", _scipy_evolution),
    _score("scipy_nelder_mead", _scipy("Nelder-Mead"), widest=30),
    _score("scipy_powell", _scipy("Powell")),
    _score("scipy_cobyla_pca", _scipy("COBYLA", rhobeg=0.2)),
    _score("optuna_tpe_pca", _optuna("TPESampler"), budget=250),
    _score("pyswarms", _pyswarms),
    Attack("art_mi_face_nes", "inversion", toolbox.mi_face, SCORES, widest=800),
    Attack("label_nevergrad_plain", "inversion", _labels("DiscreteOnePlusOne", 1), LABELS),
    Attack("label_nevergrad_cloud", "inversion", _labels("OnePlusOne", 8), LABELS),
)

HOLDOUT = (
    _score("cma_mean", _cma, mean=True),
    _score("cma_pca", _cma),
    _score("nevergrad_spsa", _nevergrad("SPSA"), widest=800),
    _score("nevergrad_tbpsa", _nevergrad("TBPSA")),
    _score("nevergrad_tbpsa_pca", _nevergrad("TBPSA")),
    _score("nevergrad_genetic_pca", _nevergrad("RotatedTwoPointsDE")),
    _score("nevergrad_diagonal_cma", _nevergrad("DiagonalCMA")),
    _score("scipy_annealing", _scipy_annealing),
    _score("scipy_annealing_pca", _scipy_annealing),
    _score("scipy_lbfgs", _scipy("L-BFGS-B", eps=0.02), widest=200),
    _score("scipy_hopping_pca", _scipy_hopping),
    _score("scipy_powell_pca", _scipy("Powell")),
    _score("scipy_nelder_mead_mean", _scipy("Nelder-Mead"), mean=True, widest=30),
    _score("optuna_tpe", _optuna("TPESampler"), widest=20, budget=250),
    _score("pyswarms_pca", _pyswarms),
    Attack("art_mi_face_nes", "inversion", toolbox.mi_face, SCORES, widest=800),
    Attack("label_nevergrad_tbpsa", "inversion", _labels("TBPSA", 4), LABELS),
    Attack("label_nevergrad_cma", "inversion", _labels("CMA", 10), LABELS),
)
