"""The protocol of attacks: a generator yields queries, is sent the answers, and returns what it has won.

    def run(rng, know, budget):
        answer = yield x          # x [n, d] in the data's own units; answer: victims.Answer to these n queries
        ...
        return Inverted(...)

So anything can stand between an attack and its victim: dummies, noise, rounding, a hundred client ids, any pace.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64, I64
from replay.simulate.data import Dataset, Part
from replay.simulate.victims import Answer

Family = Literal["inversion", "attribute_inference", "membership_inference", "extraction", "adversarial_search"]
TECHNIQUES: dict[Family, str] = {
    "inversion": "AML.T0024.001",
    "attribute_inference": "AML.T0024.001",
    "membership_inference": "AML.T0024.000",
    "extraction": "AML.T0024.002",
    "adversarial_search": "AML.T0043.001",
}


SCORED = ("scores", "top1", "rounded", "noisy")
LABEL_ONLY = ("label",)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the attacker knows of the victim: the form of its inputs, its interface, and public records."""

    low: F64
    high: F64
    step: F64
    category: Any  # [d] booleans
    shape: tuple[int, int] | None
    classes: int
    interface: str
    public: Part  # records of the same population that the attacker owns
    other: F64 | None  # [n, d] records of another population, fitted into this input space
    subjects: Part  # records under test: membership and attribute inference; seeds of adversarial search
    sensitive: int | None
    sensitive_values: F64 | None
    targets: I64  # classes to invert, in the attacker's order

    @property
    def width(self) -> int:
        """Return the number of features."""
        return len(self.low)

    @property
    def span(self) -> F64:
        """Return [d] the range of every feature."""
        return np.where(self.high > self.low, self.high - self.low, 1.0)

    def clip(self, x: F64) -> F64:
        """Return x inside the valid range."""
        return np.clip(x, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Inverted:
    """Inputs [n, d] that stand for the classes `targets` [n] in the attacker's eyes."""

    x: F64
    targets: I64


@dataclass(frozen=True, slots=True)
class Suspected:
    """For every subject [n] how strongly the attacker believes that it was a training record; NaN = not tested."""

    belief: F64


@dataclass(frozen=True, slots=True)
class Guessed:
    """For every subject [n] the sensitive value that the attacker infers; NaN = not tested."""

    value: F64


@dataclass(frozen=True, slots=True)
class Cloned:
    """A surrogate that predicts labels [n] for inputs [n, d]."""

    predict: Callable[[F64], I64]


@dataclass(frozen=True, slots=True)
class Moved:
    """Pairs of a genuine input and its adversarial example, [n, d] each."""

    start: F64
    end: F64


Outcome = Inverted | Suspected | Guessed | Cloned | Moved
Run = Generator[F64, Answer, Outcome]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: `run(rng, know, budget)` starts it; `budget` bounds its own queries."""

    name: str
    family: Family
    run: Callable[[Random, Knowledge, int], Run]
    budget: int = 600  # queries that it usually needs
    interfaces: tuple[str, ...] = ("scores", "top1", "rounded", "noisy", "label")  # where somebody would use it
    kinds: tuple[str, ...] = ()  # the kinds of models that it is made for; empty: all of them
    suits: Callable[[Dataset], bool] = lambda _: True  # the data sets on which it makes sense
    batch: int = 1  # how many queries it sends without waiting for an answer

    @property
    def technique(self) -> str:
        """Return the id of the technique in MITRE ATLAS."""
        return TECHNIQUES[self.family]
