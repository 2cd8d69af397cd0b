"""Models behind an interface, and the log of what one caller asked: the only place where queries are answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from detector.events import F32, F64, I16, I64
from replay.simulate.data import Dataset
from replay.simulate.models import Model
from replay.simulate.play import joined
from replay.simulate.victims import Answer, Victim
from tests.foreign.populations import population

_GP_ROWS = 150

ESTIMATORS: dict[str, Callable[[int], Any]] = {
    "bayes": lambda _: GaussianNB(var_smoothing=1e-2),
    "boosting": lambda seed: HistGradientBoostingClassifier(max_iter=30, random_state=seed),
    "forest": lambda seed: RandomForestClassifier(20, min_samples_leaf=2, random_state=seed),
    "gp": lambda seed: GaussianProcessClassifier(RBF(3.0), optimizer=None, random_state=seed),
    "knn": lambda _: KNeighborsClassifier(9, weights="distance"),
    "logistic": lambda seed: LogisticRegression(C=0.3, max_iter=2000, random_state=seed),
    "mlp": lambda seed: MLPClassifier((48,), alpha=1e-2, max_iter=300, random_state=seed, tol=1e-3),
    "svm": lambda _: CalibratedClassifierCV(SVC(C=3.0), ensemble=False, cv=4),
}


@cache
def serve(name: str, seed: int) -> Victim:
    """Fit and return the victim of the name DATA-KIND-INTERFACE."""
    data_name, kind, interface = name.split("-")
    data = population(data_name, seed)
    rows = np.arange(len(data.members.y))[: _GP_ROWS if kind == "gp" else None]
    pipe = make_pipeline(StandardScaler(), ESTIMATORS[kind](seed)).fit(data.members.x[rows], data.members.y[rows])
    pipe.steps[-1][1].verbose = False

    def forward(x: F32) -> F64:
        return np.asarray(pipe.predict_proba(x), np.float64)

    return Victim(name, "1", data, kind, interface, Model(pipe, forward))


class Spent(Exception):  # noqa: N818  # not an error: the budget is used up
    """The caller has sent all queries that it may."""


class Asked(NamedTuple):
    """What one caller asked: queries x [n, d], answers [n], HTTP status [n], and the call of each [n]."""

    x: F32
    answer: Answer
    status: I16
    call: I64


class Line:
    """What a caller has of a model: answers as the interface gives them, up to a number of queries."""

    def __init__(self, victim: Victim, rng: Generator, budget: int, *, grid: bool = False) -> None:
        self.victim, self.budget, self.grid = victim, budget, grid
        self._rng = rng
        self._x: list[F32] = []
        self._answers: list[Answer] = []
        self._status: list[int] = []
        self.count = 0

    @property
    def data(self) -> Dataset:
        """Return the victim's data."""
        return self.victim.data

    def ask(self, x: Any, status: int = 200) -> Answer:
        """Send queries of d values each. Raises Spent when the budget ends, after what it still allows."""
        given = np.asarray(x, np.float64).reshape(-1, self.data.width)
        rows = self.data.on_grid(given) if self.grid else np.ascontiguousarray(given, dtype=np.float32)
        left = self.budget - self.count
        if left <= 0:
            raise Spent
        answer = self.victim.serve(rows[:left], self._rng)
        self._x.append(rows[:left])
        self._answers.append(answer)
        self._status.append(status)
        self.count += len(rows[:left])
        if len(rows) > left:
            raise Spent
        return answer

    def proba(self, x: Any) -> F64:
        """Return [n, classes] scores as far as the interface tells: one-hot where it gives labels only."""
        answer = self.ask(x)
        return np.stack([answer.score(k) for k in range(answer.classes)], 1)

    def label(self, x: Any) -> I64:
        """Return [n] answered classes."""
        return self.ask(x).label

    def part(self, queries: int) -> Line:
        """Return this line for so many more queries only; what is sent goes into one log."""
        part = Line(self.victim, self._rng, min(self.budget, self.count + queries), grid=self.grid)
        part.count, part._x, part._answers, part._status = self.count, self._x, self._answers, self._status
        return part

    def asked(self) -> Asked:
        """Return everything that was asked."""
        sizes = [len(x) for x in self._x]
        call, status = np.repeat(np.arange(len(sizes)), sizes), np.repeat(np.array(self._status, np.int16), sizes)
        return Asked(np.concatenate(self._x), joined(self._answers), status, call)
