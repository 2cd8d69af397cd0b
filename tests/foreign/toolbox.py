"""Attacks of the Adversarial Robustness Toolbox: boundary and score-based search, membership, attributes, theft."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.linear_model import LogisticRegression

from detector.events import F32, F64
from tests.foreign.attack import LABELS, SCORES, Attack, Run, Scene

with warnings.catch_warnings():  # it says that there is no torch
    warnings.simplefilter("ignore")
    from art.attacks import evasion, extraction
    from art.attacks.inference import attribute_inference, membership_inference
    from art.attacks.inference.model_inversion import MIFace
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork
    from art.estimators.classification.classifier import ClassGradientsMixin
    from art.estimators.classification.query_efficient_bb import QueryEfficientGradientEstimationClassifier
    from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression


def _box(scene: Scene, *, flat: bool = True, ranks: int = 0, top: float = 1.0) -> Any:
    """Return the model as the toolbox sees it: inputs in 0..top; `ranks` makes sure of that many classes."""
    data = scene.data
    shape = (data.width,) if flat else (*(data.shape or (1, data.width)), 1)

    def predict(u: F64) -> F32:
        scores = scene.line.proba(scene.back(np.asarray(u).reshape(len(u), -1) / top))
        padded = np.pad(scores, ((0, 0), (0, max(0, ranks - scores.shape[1])))) + 1e-4  # rounded scores can be 0
        return np.asarray(padded / padded.sum(1, keepdims=True), np.float32)

    return BlackBoxClassifierNeuralNetwork(
        predict, shape, max(ranks, data.classes), channels_first=False, clip_values=(0, top)
    )


def _unit(scene: Scene, x: F32) -> F32:
    """Return records in 0..1 as the toolbox wants them."""
    return scene.unit(x).astype(np.float32)


def _start(scene: Scene, *, flat: bool = True) -> F32:
    """Return one public record in 0..1, of the shape that the box takes."""
    u = _unit(scene, scene.some_public(1).x)
    return u if flat else u.reshape(1, *(scene.data.shape or (1, scene.data.width)), 1)


@contextmanager
def _reproducible(scene: Scene) -> Iterator[None]:
    """Seed the generators that the toolbox makes without a seed, for the first image of a search."""

    class Seeded(np.random.RandomState):
        def __init__(self, seed: int | None = None) -> None:
            super().__init__(scene.seed if seed is None else seed)

    with patch.object(np.random, "RandomState", Seeded):
        yield


def _one_by_one(make: Any, *, flat: bool = True, ranks: int = 0) -> Run:
    """Run a search from one public record after the other."""

    def run(scene: Scene) -> None:
        box = _box(scene, flat=flat, ranks=ranks)
        with _reproducible(scene):
            while True:
                make(box).generate(_start(scene, flat=flat))

    return run


hop_skip_jump = _one_by_one(lambda box: evasion.HopSkipJump(box, max_iter=6, max_eval=120, init_eval=16, verbose=False))
hop_skip_jump_inf = _one_by_one(
    lambda box: evasion.HopSkipJump(box, norm=np.inf, max_iter=4, max_eval=60, init_eval=10, verbose=False)
)
boundary = _one_by_one(
    lambda box: evasion.BoundaryAttack(box, targeted=False, max_iter=60, delta=0.05, epsilon=0.05, verbose=False)
)
sign_opt = _one_by_one(
    lambda box: evasion.SignOPTAttack(box, targeted=False, query_limit=300, k=20, num_trial=20, verbose=False), ranks=3
)
zoo = _one_by_one(
    lambda box: evasion.ZooAttack(
        box,
        max_iter=25,
        nb_parallel=min(12, int(np.prod(box.input_shape))),
        use_resize=False,
        use_importance=False,
        variable_h=0.02,
        verbose=False,
    )
)
square = _one_by_one(lambda box: evasion.SquareAttack(box, max_iter=150, eps=0.12, verbose=False), flat=False)
simba_pixels = _one_by_one(
    lambda box: evasion.SimBA(box, attack="px", epsilon=0.15, max_iter=150, freq_dim=1, verbose=False), flat=False
)
pgd_nes = _one_by_one(
    lambda box: evasion.ProjectedGradientDescent(
        QueryEfficientGradientEstimationClassifier(box, 16, 0.04), eps=0.25, eps_step=0.03, max_iter=8, verbose=False
    )
)


def pixels(scene: Scene) -> None:
    """Change five pixels of 0..255, found by CMA-ES (Su et al. 2019)."""
    box = _box(scene, flat=False, top=255.0)
    while True:
        evasion.PixelAttack(box, th=5, es=1, max_iter=10).generate(255 * _start(scene, flat=False))


class _Gradients(QueryEfficientGradientEstimationClassifier, ClassGradientsMixin):  # type: ignore[misc]  # untyped
    """Class gradients from the loss gradients that are estimated from scores by sampling."""

    def class_gradient(self, x: F64, label: Any = None, **kwargs: Any) -> F64:
        """Return the gradient [n, 1, d] of the log of the score of a class."""
        hot = np.eye(self.nb_classes)[np.broadcast_to(label, len(x))]
        return np.asarray(-self.loss_gradient(x, hot, **kwargs))[:, None]


def mi_face(scene: Scene) -> None:
    """Invert class after class by the MI-Face algorithm on estimated gradients."""
    for target in cycle(scene.classes().tolist()):
        box = _Gradients(_box(scene), 12, 0.05)
        start = np.clip(scene.rng.normal(0.5, 0.1, (1, scene.data.width)), 0, 1).astype(np.float32)
        attack = MIFace(box, max_iter=14, learning_rate=0.5, threshold=0.999, verbose=False)
        scene.found.append((target, scene.back(attack.infer(start, np.array([target])))[0]))


def membership_distance(scene: Scene) -> None:
    """Measure how far suspects are from the boundary (Choquette-Choo et al. 2021), by HopSkipJump."""
    attack = membership_inference.LabelOnlyDecisionBoundary(_box(scene), distance_threshold_tau=0.1)
    part = scene.suspects(60)
    with _reproducible(scene):
        for u, y in zip(_unit(scene, part.x), part.y, strict=True):
            attack.infer(u[None], np.array([y]), max_iter=1, max_eval=20, init_eval=8, init_size=20, verbose=False)


def membership_gap(scene: Scene) -> None:
    """Ask once about each suspect: right answers mean members (label only)."""
    part = scene.suspects(scene.line.budget)
    attack = membership_inference.LabelOnlyGapAttack(_box(scene))
    attack.infer(_unit(scene, part.x), part.y)


def membership_black_box(scene: Scene) -> None:
    """Train a forest on the scores of known members and others, then ask once about each suspect."""
    attack = membership_inference.MembershipInferenceBlackBox(_box(scene), attack_model_type="rf")
    members, others = scene.data.members, scene.data.held_out
    attack.fit(_unit(scene, members.x[:80]), members.y[:80], _unit(scene, others.x[-80:]), others.y[-80:])
    part = scene.suspects(240)
    attack.infer(_unit(scene, part.x), part.y)


def attribute_by_membership(scene: Scene) -> None:
    """Try every value of the sensitive feature on each record; keep that which looks most like a member."""
    data, feature = scene.data, scene.data.sensitive or 0
    inner = membership_inference.MembershipInferenceBlackBox(_box(scene), attack_model_type="dt")
    inner.fit(
        _unit(scene, data.members.x[:60]),
        data.members.y[:60],
        _unit(scene, data.held_out.x[-60:]),
        data.held_out.y[-60:],
    )
    attack = attribute_inference.AttributeInferenceMembership(_box(scene), inner, attack_feature=feature)
    values = ((data.values(feature) - data.low[feature]) / scene.span[feature]).tolist()
    size = 1 if scene.rng.random() < 0.5 else 24  # record by record, or a block of records by values
    subjects = data.members.take(scene.rng.permutation(len(data.members.y)))
    for first in range(0, len(subjects.y), size):
        u = _unit(scene, subjects.x[first : first + size])
        attack.infer(np.delete(u, feature, 1), subjects.y[first : first + size], values=values)


def attribute_black_box(scene: Scene) -> None:
    """Train on answers to public records, then guess from the answers to the subjects: genuine records only."""
    data, feature = scene.data, scene.data.sensitive or 0
    values = ((data.values(feature) - data.low[feature]) / scene.span[feature]).tolist()
    attack = attribute_inference.AttributeInferenceBlackBox(
        _box(scene), attack_model_type="rf", attack_feature=feature, is_continuous=False
    )
    public, subjects = scene.some_public(200), scene.suspects(300)
    attack.fit(_unit(scene, public.x))
    pred = scene.line.label(subjects.x)[:, None]
    attack.infer(np.delete(_unit(scene, subjects.x), feature, 1), pred=pred, values=values)


class _Thief(ScikitlearnLogisticRegression):  # type: ignore[misc]  # untyped
    """A clone that can be trained as often as the toolbox likes."""

    def fit(self, x: F64, y: F64, **_: Any) -> None:
        """Fit anew if there is more than one class."""
        labels = np.asarray(y).argmax(1) if np.ndim(y) > 1 else np.asarray(y)
        if len(np.unique(labels)) > 1:
            self.model.fit(x, labels)
            self._model = self.model


def _thief(scene: Scene) -> _Thief:
    known = scene.data.public
    model = LogisticRegression(max_iter=200).fit(scene.unit(known.x[:60]), known.y[:60])
    return _Thief(model, clip_values=(0, 1))


def _other_domain(scene: Scene, n: int) -> F64:
    """Return records of another domain in 0..1: another shape of every feature, or smooth noise as pictures."""
    width = scene.data.width
    if scene.data.shape is None:
        mix = scene.rng.standard_normal((n, 4)) @ scene.rng.standard_normal((4, width))
        return np.asarray(0.5 + mix / (6 * mix.std(0)), np.float32).clip(0, 1)
    high, wide = scene.data.shape
    rough = scene.rng.random((n, -(-high // 4), -(-wide // 4)))
    return np.asarray(rough.repeat(4, 1).repeat(4, 2)[:, :high, :wide].reshape(n, -1), np.float32)


def copycat(scene: Scene) -> None:
    """Label records of another domain (Correia-Silva et al. 2018)."""
    pool = _other_domain(scene, 600)
    attack = extraction.CopycatCNN(_box(scene), batch_size_fit=1, batch_size_query=16, nb_epochs=1, nb_stolen=500)
    attack.extract(pool, thieved_classifier=_thief(scene))


def _knockoff(strategy: str) -> Run:
    def run(scene: Scene) -> None:
        own, pool = scene.some_public(150), _other_domain(scene, 350)
        x = np.concatenate([_unit(scene, own.x), pool])
        y = np.concatenate([own.y, scene.rng.integers(0, scene.data.classes, len(pool))])
        attack = extraction.KnockoffNets(
            *(_box(scene), 1, 16, 1, 400), sampling_strategy=strategy, reward="all", verbose=False
        )
        attack.extract(x, np.eye(scene.data.classes)[y], thieved_classifier=_thief(scene))

    return run


DEVELOP = (
    Attack("art_hop_skip_jump", "adversarial_search", hop_skip_jump, LABELS + SCORES),
    Attack("art_boundary", "adversarial_search", boundary, LABELS + SCORES),
    Attack("art_zoo", "adversarial_search", zoo, SCORES),
    Attack("art_square", "adversarial_search", square, SCORES, images=True),
    Attack("art_pgd_nes", "adversarial_search", pgd_nes, SCORES),
    Attack("art_label_only_boundary", "membership_inference", membership_distance, LABELS + SCORES),
    Attack("art_gap", "membership_inference", membership_gap, LABELS, budget=300),
    Attack("art_black_box_membership", "membership_inference", membership_black_box, SCORES, budget=400),
    Attack("art_attribute_membership", "attribute_inference", attribute_by_membership, SCORES, sensitive=True),
    Attack("art_attribute_black_box", "attribute_inference", attribute_black_box, SCORES, sensitive=True),
    Attack("art_copycat", "extraction", copycat),
    Attack("art_knockoff_random", "extraction", _knockoff("random"), SCORES, budget=400),
)
HOLDOUT = (
    Attack("art_hop_skip_jump_inf", "adversarial_search", hop_skip_jump_inf, LABELS + SCORES),
    Attack("art_boundary", "adversarial_search", boundary, LABELS + SCORES),
    Attack("art_sign_opt", "adversarial_search", sign_opt, LABELS),
    Attack("art_simba", "adversarial_search", simba_pixels, SCORES, images=True),
    Attack("art_pixel", "adversarial_search", pixels, SCORES, images=True),
    Attack("art_zoo", "adversarial_search", zoo, SCORES),
    Attack("art_label_only_boundary", "membership_inference", membership_distance, LABELS + SCORES),
    Attack("art_gap", "membership_inference", membership_gap, LABELS, budget=300),
    Attack("art_black_box_membership", "membership_inference", membership_black_box, SCORES, budget=400),
    Attack("art_attribute_membership", "attribute_inference", attribute_by_membership, SCORES, sensitive=True),
    Attack("art_copycat", "extraction", copycat),
    Attack("art_knockoff_adaptive", "extraction", _knockoff("adaptive"), SCORES, budget=400),
)
