"""Benign clients that explain or inspect a model with public tools: they send what attacks send."""

from __future__ import annotations

from typing import Any

import numpy as np
import shap
from lime.lime_image import LimeImageExplainer
from lime.lime_tabular import LimeTabularExplainer
from lime.wrappers.scikit_image import SegmentationAlgorithm
from mlxtend.evaluate import create_counterfactual
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import partial_dependence, permutation_importance

from detector.events import F64, I64
from tests.foreign.attack import Scene
from tests.foreign.benign import Kind, records


def lime_tables(scene: Scene) -> None:
    """Explain one record after the other with LIME."""
    explainer = LimeTabularExplainer(
        scene.data.public.x.astype(np.float64),
        categorical_features=np.flatnonzero(scene.data.category).tolist(),
        discretize_continuous=bool(scene.rng.random() < 0.6),
        random_state=scene.seed,
    )
    samples = int(scene.rng.choice([60, 120, 250]))
    for x in records(scene, 50).astype(np.float64):
        explainer.explain_instance(x, scene.line.proba, num_features=5, num_samples=samples)


def lime_images(scene: Scene) -> None:
    """Explain one picture after the other with LIME: superpixels switched off at random."""
    shape = scene.data.shape or (1, 1)
    cut = SegmentationAlgorithm("slic", n_segments=20, compactness=0.2, start_label=0)
    explainer = LimeImageExplainer(random_state=scene.seed)

    def predict(colour: F64) -> F64:
        return scene.line.proba(scene.back(np.asarray(colour)[..., 0].reshape(len(colour), -1)))

    for x in records(scene, 20):
        picture = np.repeat(scene.unit(x).reshape(shape)[..., None], 3, 2)
        explainer.explain_instance(picture, predict, num_samples=80, segmentation_fn=cut)


def kernel_shap(scene: Scene) -> None:
    """Explain with KernelExplainer: coalitions of features against one to three background records."""
    background = scene.some_public(int(scene.rng.integers(1, 4))).x.astype(np.float64)
    explainer = shap.KernelExplainer(scene.line.proba, background)
    for x in records(scene, 20).astype(np.float64):
        explainer.shap_values(x, nsamples=int(scene.rng.integers(40, 90)), silent=True)


def permutation_shap(scene: Scene) -> None:
    """Explain with PermutationExplainer: features switched on one by one, forwards and backwards."""
    masker = shap.maskers.Independent(scene.some_public(100).x.astype(np.float64), max_samples=2)
    explainer = shap.explainers.Permutation(scene.line.proba, masker, seed=scene.seed)
    for x in records(scene, 20).astype(np.float64):
        explainer(x[None], max_evals=2 * scene.data.width + 1, silent=True)


def partition_shap(scene: Scene) -> None:
    """Explain with PartitionExplainer: groups of features switched together."""
    masker = shap.maskers.Partition(scene.some_public(60).x.astype(np.float64), max_samples=2)
    explainer = shap.explainers.Partition(scene.line.proba, masker)
    for x in records(scene, 20).astype(np.float64):
        explainer(x[None], max_evals=40, silent=True)


class _Remote(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """A model behind an interface, as an estimator."""

    def __init__(self, line: Any = None) -> None:
        self.line = line
        self.classes_ = np.arange(line.data.classes) if line is not None else None
        self.n_features_in_ = line.data.width if line is not None else 0

    def fit(self, _x: F64, _y: I64) -> _Remote:
        """Do nothing: it is fitted."""
        return self

    def predict(self, x: F64) -> I64:
        """Return the answered classes."""
        return np.asarray(self.line.label(x))

    def predict_proba(self, x: F64) -> F64:
        """Return the scores."""
        return np.asarray(self.line.proba(x))


def dependence(scene: Scene) -> None:
    """Draw partial dependence curves: one feature set to each of its values over some records."""
    x = records(scene, 15).astype(np.float64)
    features = scene.rng.permutation(scene.data.width)
    for feature in features.tolist() * 20:
        partial_dependence(_Remote(scene.line), x, [feature], grid_resolution=8, method="brute")


def importance(scene: Scene) -> None:
    """Measure permutation importance: a column shuffled over some records."""
    held_out = scene.data.held_out
    rows = scene.rng.integers(0, len(held_out.y), 30)
    while True:
        permutation_importance(
            _Remote(scene.line), held_out.x[rows], held_out.y[rows], n_repeats=1, random_state=scene.seed
        )


def counterfactual(scene: Scene) -> None:
    """Look for the nearest record with another answer (Wachter et al. 2017, by mlxtend): what recourse tools do."""
    known = scene.data.public.x.astype(np.float64)
    for x in records(scene, 20).astype(np.float64):
        wanted = int(scene.rng.integers(scene.data.classes))
        create_counterfactual(x, wanted, _Remote(scene.line), known, lammbda=0.5, random_seed=scene.seed)


EXPLAINERS = (
    Kind("lime", lime_tables, ("script",), explainer=True, images=False),
    Kind("lime_images", lime_images, ("script",), explainer=True, images=True),
    Kind("kernel_shap", kernel_shap, ("script",), explainer=True),
    Kind("permutation_shap", permutation_shap, ("script",), explainer=True, widest=300),
    Kind("partition_shap", partition_shap, ("script",), explainer=True, widest=300),
    Kind("partial_dependence", dependence, ("script",), explainer=True, images=False),
    Kind("permutation_importance", importance, ("script",), explainer=True, images=False),
    Kind("counterfactual", counterfactual, ("script",), explainer=True, widest=30),
)
