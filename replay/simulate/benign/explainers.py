"""Explainers: many perturbed copies of one record, by design. They are to be named as explainers, not as attacks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from detector.events import F32, F64
from replay.simulate import pace
from replay.simulate.benign.protocol import Kind, Setting, Trace, trace

Explain = Callable[[Generator, Setting, F64, int], F64]


def _session(explain: Explain, samples: tuple[int, int]) -> Callable[[Generator, Setting], Trace]:
    """Return a kind that explains one record after another, each in a burst, with pauses between them."""

    def run(rng: Generator, at: Setting) -> Trace:
        n = int(rng.integers(*samples))
        records = at.source.draw(rng, max(1, at.queries // n + 1)).x.astype(np.float64)
        rows: list[F32] = []
        group: list[int] = []
        for i, x in enumerate(records):
            asked = explain(rng, at, x, n)
            rows.append(np.clip(asked, at.victim.data.low, at.victim.data.high).astype(np.float32))
            group += [i] * len(asked)
        x_all, which = np.concatenate(rows)[: at.queries], np.array(group)[: at.queries]
        starts = pace.human(rng, int(which[-1]) + 1, at.begin, at.end)
        times = starts[which] + 0.005 * np.arange(len(which))
        return trace(pace.fit_between(times, at.begin, at.end), x_all)

    return run


def _lime(rng: Generator, at: Setting, x: F64, n: int) -> F64:
    """Tables: normal samples with the training spread around the record; images: blocks of pixels blanked out.

    Ribeiro, Singh & Guestrin, "Why Should I Trust You?" (KDD 2016), arXiv:1602.04938.
    """
    data = at.victim.data
    if data.shape is not None:
        side = max(1, data.shape[0] // 4)
        keep = np.kron(rng.random((n, 4, 4)) < 0.5, np.ones((1, side, side))).reshape(n, -1)
        return np.concatenate([x[None], np.where(keep, x, 0.0)])[:n]
    public = data.public.x
    sample = x + public.std(0) * rng.standard_normal((n, data.width))
    taken = public[rng.integers(0, len(public), (n, data.width)), np.arange(data.width)]
    return np.concatenate([x[None], np.where(data.category, taken, sample)])[:n]


def _kernel_shap(rng: Generator, at: Setting, x: F64, n: int) -> F64:
    """Coalitions: absent features come from a background of a few records, small and large coalitions first.

    Lundberg & Lee, A Unified Approach to Interpreting Model Predictions (NIPS 2017), arXiv:1705.07874.
    """
    data = at.victim.data
    background = data.public.x[:5].astype(np.float64)
    size = np.minimum(rng.geometric(0.35, n), data.width - 1)
    size = np.where(rng.random(n) < 0.5, size, data.width - size)
    present = rng.random((n, data.width)).argsort(1).argsort(1) < size[:, None]
    return np.where(present, x, background[np.arange(n) % len(background)])


def _occlusion(rng: Generator, at: Setting, x: F64, n: int) -> F64:  # noqa: ARG001 - a fixed grid has no chance in it
    """A patch slides over the image; in tables one feature after another takes its mean.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks (ECCV 2014), arXiv:1311.2901.
    """
    data = at.victim.data
    if data.shape is None:
        changed = np.repeat(x[None], data.width + 1, 0)
        index = np.arange(data.width)
        changed[1 + index, index] = data.public.x.mean(0)
        return changed[:n]
    height, width = data.shape
    patch, stride = max(2, height // 4), max(1, height // 8)
    rows = [x]
    for top in range(0, height - patch + 1, stride):
        for left in range(0, width - patch + 1, stride):
            image = x.reshape(height, width).copy()
            image[top : top + patch, left : left + patch] = data.high.max() / 2
            rows.append(image.ravel())
    return np.array(rows)[:n]


KINDS = (
    Kind("lime", _session(_lime, (60, 400)), explainer=True),
    Kind("kernel_shap", _session(_kernel_shap, (60, 400)), explainer=True),
    Kind("occlusion", _session(_occlusion, (400, 401)), explainer=True),
)
