"""Victim models: fitted by scikit-learn, answered by forward passes that are exact and fast for a single query."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from detector.events import F32, F64
from replay.simulate.data import Part, UnknownNameError

Forward = Callable[[F32], F64]  # [n, d] queries → [n, classes] scores, each row sums to 1


class Model(NamedTuple):
    """A fitted estimator and its forward pass, which equals `estimator.predict_proba`."""

    estimator: Any
    forward: Forward


def fit(kind: str, part: Part, seed: int) -> Model:
    """Fit a model of one kind. Raises UnknownNameError for an unknown kind."""
    if kind not in KINDS:
        raise UnknownNameError(f"unknown kind of model {kind!r}: there are {', '.join(KINDS)}")
    build, forward = KINDS[kind]
    estimator = build(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an iteration limit reached is wanted here, not a fault
        estimator.fit(part.x, part.y)
    return Model(estimator, forward(estimator))


def _logistic(seed: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=300, random_state=seed))


def _mlp(seed: int) -> Any:
    network = MLPClassifier((64, 32), alpha=1e-4, max_iter=80, learning_rate_init=3e-3, random_state=seed)
    return make_pipeline(StandardScaler(), network)


def _svm(seed: int) -> Any:
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    return make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(C=5.0), ensemble=False, cv=folds))


def _tree(seed: int) -> Any:
    return DecisionTreeClassifier(max_depth=9, min_samples_leaf=2, random_state=seed)


def _forest(seed: int) -> Any:
    return RandomForestClassifier(60, random_state=seed)


def _boosting(seed: int) -> Any:
    return GradientBoostingClassifier(n_estimators=30, max_depth=3, subsample=0.8, random_state=seed)


def _linear_forward(pipeline: Any) -> Forward:
    scaler, model = pipeline[0], pipeline[-1]
    scale, weights, bias = scaler.scale_, model.coef_.T.copy(), model.intercept_

    def forward(x: F32) -> F64:
        return _link((x - scaler.mean_) / scale @ weights + bias)

    return forward


def _mlp_forward(pipeline: Any) -> Forward:
    scaler, model = pipeline[0], pipeline[-1]
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))

    def forward(x: F32) -> F64:
        h = (x - scaler.mean_) / scaler.scale_
        for weights, bias in layers[:-1]:
            h = np.maximum(h @ weights + bias, 0)
        return _link(h @ layers[-1][0] + layers[-1][1])

    return forward


def _svm_forward(pipeline: Any) -> Forward:
    scaler, calibrated = pipeline[0], pipeline[-1].calibrated_classifiers_[0]
    machine, curves = calibrated.estimator, calibrated.calibrators
    slope, offset = np.array([c.a_ for c in curves]), np.array([c.b_ for c in curves])

    def forward(x: F32) -> F64:
        margin = machine.decision_function((x - scaler.mean_) / scaler.scale_)
        if margin.ndim == 1:
            p = expit(-(slope * margin[:, None] + offset))
            return np.hstack([1 - p, p])
        p = expit(-(slope * margin + offset))
        total = p.sum(1, keepdims=True)
        return np.asarray(np.divide(p, total, out=np.full_like(p, 1 / p.shape[1]), where=total > 0))

    return forward


def _trees_forward(estimator: Any) -> Forward:
    """Pack all trees into one table: a query costs microseconds where scikit-learn needs milliseconds."""
    trees = [t.tree_ for t in getattr(estimator, "estimators_", [estimator])]
    table = _Table.pack(trees, [t.value[:, 0, :] for t in trees], 1 / len(trees))
    return table.sums


def _boosting_forward(estimator: Any) -> Forward:
    stages = estimator.estimators_  # [stages, 1 or classes]
    width = stages.shape[1]
    trees = [t.tree_ for row in stages for t in row]
    leaves = [t.value[:, 0, :] * np.eye(width)[i % width] for i, t in enumerate(trees)]
    table = _Table.pack(trees, leaves, estimator.learning_rate)
    prior = np.log(np.maximum(estimator.init_.class_prior_, np.finfo(np.float32).eps))
    start = prior if width > 1 else np.array([prior[1] - prior[0]])

    def forward(x: F32) -> F64:
        return _link(start + table.sums(x))

    return forward


class _Table(NamedTuple):
    feature: NDArray[np.int64]
    threshold: F64
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: F64
    roots: NDArray[np.int64]

    @staticmethod
    def pack(trees: list[Any], leaves: list[F64], weight: float) -> _Table:
        sizes = [len(t.feature) for t in trees]
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        left = np.concatenate([t.children_left + r for t, r in zip(trees, roots, strict=True)])
        right = np.concatenate([t.children_right + r for t, r in zip(trees, roots, strict=True)])
        feature = np.concatenate([t.feature for t in trees]).astype(np.int64)
        threshold = np.concatenate([t.threshold for t in trees])
        return _Table(feature, threshold, left, right, np.ascontiguousarray(np.concatenate(leaves)) * weight, roots)

    def sums(self, x: F32) -> F64:
        """Return [n, classes] the sum over trees of the leaf that each query reaches."""
        rows = np.ascontiguousarray(x, np.float32)
        return np.asarray(_walk(rows, self.feature, self.threshold, self.left, self.right, self.value, self.roots))


@njit(cache=True)
def _walk(x, feature, threshold, left, right, value, roots):  # type: ignore[no-untyped-def]  # pragma: no cover
    out = np.zeros((x.shape[0], value.shape[1]))
    for i in range(x.shape[0]):
        for root in roots:
            node = root
            while feature[node] >= 0:
                node = left[node] if x[i, feature[node]] <= threshold[node] else right[node]
            for k in range(value.shape[1]):
                out[i, k] += value[node, k]
    return out


def _link(raw: F64) -> F64:
    if raw.shape[1] == 1:
        p = expit(raw)
        return np.hstack([1 - p, p])
    grown = np.exp(raw - raw.max(1, keepdims=True))  # scipy's softmax costs more than the whole forward pass
    return np.asarray(grown / grown.sum(1, keepdims=True))


KINDS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Forward]]] = {
    "logistic": (_logistic, _linear_forward),
    "mlp": (_mlp, _mlp_forward),
    "svm": (_svm, _svm_forward),
    "tree": (_tree, _trees_forward),
    "forest": (_forest, _trees_forward),
    "boosting": (_boosting, _boosting_forward),
}
