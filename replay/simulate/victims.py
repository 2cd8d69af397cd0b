"""A victim = data set × kind of model × interface, named `digits-mlp-scores`, answered as its callers see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator

from detector.events import F32, F64, I64
from replay.simulate.data import LOADERS, Dataset, UnknownNameError, load
from replay.simulate.models import KINDS, Model, fit

INTERFACES = ("scores", "top1", "label", "rounded", "noisy")
_NOISE = 0.03


@dataclass(frozen=True, slots=True)
class Answer:
    """What the callers of n queries got back."""

    label: I64  # [n] the answered class
    confidence: F64 | None  # [n] of that class; None where the interface gives labels only
    scores: F64 | None  # [n, classes]; None where the interface hides them
    classes: int

    def score(self, target: int | I64) -> F64:
        """Return [n] the score of a class as well as the interface tells it (1 or 0 for labels)."""
        if self.scores is not None:
            return np.asarray(self.scores[np.arange(len(self.label)), target])
        hit = self.label == target
        if self.confidence is None:
            return np.asarray(hit, np.float64)
        return np.asarray(np.where(hit, self.confidence, (1 - self.confidence) / (self.classes - 1)))

    def log_odds(self, target: int | I64) -> F64:
        """Return [n] the log-odds of a class."""
        p = np.clip(self.score(target), 1e-9, 1 - 1e-9)
        return np.asarray(np.log(p / (1 - p)))

    def take(self, rows: I64) -> Answer:
        """Return the answers to some of the queries."""
        confidence = None if self.confidence is None else self.confidence[rows]
        return Answer(self.label[rows], confidence, None if self.scores is None else self.scores[rows], self.classes)


@dataclass(frozen=True, slots=True)
class Victim:
    """One served model."""

    name: str
    version: str
    data: Dataset
    kind: str
    interface: str
    model: Model

    def scores(self, x: F32) -> F64:
        """Return [n, classes] the true scores, which only judges may see whatever the interface."""
        return self.model.forward(x)

    def serve(self, x: F32, rng: Generator) -> Answer:
        """Answer n queries as the interface does; `rng` makes the noise of the noisy one."""
        scores = self.scores(x)
        if self.interface == "noisy":
            scores = np.abs(scores + _NOISE * rng.standard_normal(scores.shape))
            scores /= scores.sum(1, keepdims=True)
        label = scores.argmax(1)
        scores = np.round(scores, 2 if self.interface == "rounded" else 6)
        if self.interface == "label":
            return Answer(label, None, None, self.data.classes)
        confidence = scores[np.arange(len(label)), label]
        return Answer(label, confidence, None if self.interface == "top1" else scores, self.data.classes)

    def output(self, answer: Answer) -> list[dict[str, Any]]:
        """Return the `output` objects of prediction events."""
        labels = answer.label.tolist()
        if answer.scores is not None:
            pairs = zip(labels, answer.scores.tolist(), strict=True)
            return [{"label": label, "scores": scores} for label, scores in pairs]
        if answer.confidence is None:
            return [{"label": label} for label in labels]
        both = zip(labels, answer.confidence.tolist(), strict=True)
        return [{"label": label, "confidence": confidence} for label, confidence in both]


@cache
def build(name: str, seed: int) -> Victim:
    """Fit and return the victim of that name. Raises UnknownNameError where a part of the name is unknown."""
    data_name, kind, interface = parts(name)
    data = load(data_name, seed)
    return Victim(name, "1", data, kind, interface, _model(data_name, kind, seed))


@cache
def _model(data_name: str, kind: str, seed: int) -> Model:
    return fit(kind, load(data_name, seed).members, seed % 2**31)


def parts(name: str) -> tuple[str, str, str]:
    """Return data set, kind and interface. Raises UnknownNameError unless the name is that of a victim."""
    given = name.split("-")
    if len(given) == 2:
        given.append("scores")
    known: tuple[tuple[str, ...], ...] = (tuple(LOADERS), tuple(KINDS), INTERFACES)
    if len(given) != 3 or any(part not in names for part, names in zip(given, known, strict=True)):
        choices = " ".join(
            f"{part} = {'|'.join(names)};" for part, names in zip(("DATA", "KIND", "INTERFACE"), known, strict=True)
        )
        raise UnknownNameError(f"unknown model {name!r}: a name is DATA-KIND[-INTERFACE] with {choices.rstrip(';')}")
    return given[0], given[1], given[2]
