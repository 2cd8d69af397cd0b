"""What an attack is here: a function that drives a public tool over a line to a model until its queries are spent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from detector.events import F64, I64
from replay.simulate.attacks.protocol import Family
from replay.simulate.data import Dataset, Part
from tests.foreign.served import Line, Spent

SCORES = ("scores", "rounded", "top1")
LABELS = ("label",)


@dataclass(slots=True)
class Scene:
    """What an attacker has. `found` is what it takes for records of a class, to tell later whether it succeeded."""

    line: Line
    rng: Generator
    found: list[tuple[int, F64]] = field(default_factory=list)  # (class, input [d])

    @property
    def data(self) -> Dataset:
        """Return the victim's data; attackers look at ranges, shape, classes and `public` only."""
        return self.line.data

    @property
    def seed(self) -> int:
        """Return a new seed for a tool."""
        return int(self.rng.integers(2**31))

    @property
    def span(self) -> F64:
        """Return [d] the range of every feature."""
        return np.where(self.data.high > self.data.low, self.data.high - self.data.low, 1.0)

    def unit(self, x: NDArray[np.floating]) -> F64:
        """Return records in 0..1 of every range."""
        return (np.asarray(x, np.float64) - self.data.low) / self.span

    def back(self, u: F64) -> F64:
        """Return records in the data's own units."""
        return self.data.low + np.asarray(u, np.float64) * self.span

    def act(self, run: Callable[[Scene], None]) -> None:
        """Let somebody act until it is done or its queries are spent."""
        with suppress(Spent):
            run(self)

    def suspects(self, n: int) -> Part:
        """Return n records under test: half of them members, shuffled."""
        half = min(n // 2, len(self.data.members.y))
        inside = self.data.members.take(self.rng.choice(len(self.data.members.y), half, replace=False))
        outside = self.data.held_out.take(self.rng.choice(len(self.data.held_out.y), half, replace=False))
        order = self.rng.permutation(2 * half)
        return Part(np.concatenate([inside.x, outside.x])[order], np.concatenate([inside.y, outside.y])[order])

    def some_public(self, n: int) -> Part:
        """Return n records that the attacker owns."""
        rows = self.rng.choice(len(self.data.public.y), min(n, len(self.data.public.y)), replace=False)
        return self.data.public.take(rows)

    def classes(self) -> I64:
        """Return the classes in a random order."""
        return self.rng.permutation(self.data.classes)


Run = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: how to run it, where it makes sense, and how many queries it may send."""

    name: str
    family: Family
    run: Run
    interfaces: tuple[str, ...] = SCORES + LABELS
    images: bool | None = None  # only images, only tables, both
    widest: int = 10_000  # features
    budget: int = 500
    sensitive: bool = False  # only data with a feature that attribute inference is after

    def suits(self, data: Dataset, interface: str) -> bool:
        """Return whether somebody would try it there."""
        shaped = self.images is None or self.images == (data.shape is not None)
        secret = not self.sensitive or data.sensitive is not None
        return shaped and secret and interface in self.interfaces and data.width <= self.widest
