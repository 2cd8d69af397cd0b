"""Who asks which model when: captures as lists of jobs, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from replay.simulate.data import Dataset
from tests.foreign import inversion, theft, toolbox
from tests.foreign.attack import Attack
from tests.foreign.benign import HARD, ORDINARY, Kind
from tests.foreign.explainers import EXPLAINERS
from tests.foreign.populations import population
from tests.foreign.timing import HOUR_S

DAY_S = 24 * HOUR_S
QUIET_S = 1.1 * HOUR_S  # until then there are ordinary clients only
REGULARS = 18  # ordinary clients of a model


@dataclass(frozen=True, slots=True)
class Evasion:
    """How an attacker hides."""

    name: str
    dummies: float = 0.0
    ids: int = 1
    block: int = 1  # queries that one id sends before it is the next one's turn
    slow: bool = False
    grid: bool = False


EVASIONS = (
    Evasion("none"),
    Evasion("dummies50", dummies=0.5),
    Evasion("none"),
    Evasion("ids10_turns", ids=10),
    Evasion("none"),
    Evasion("dummies80", dummies=0.8),
    Evasion("none"),
    Evasion("slow", slow=True),
    Evasion("ids10_blocks", ids=10, block=12),
    Evasion("rounded", grid=True),
)


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture: its models, and the attacks on them."""

    models: tuple[str, ...]
    attacks: tuple[Attack, ...]
    per_model: int  # attacks
    queries: tuple[int, int]  # of a benign client, least and most


CAPTURES = {
    "tabular": Capture(
        (
            *("narrow-gp-scores", "narrow-forest-label", "mixed-svm-scores", "baskets-boosting-top1"),
            *("broad-mlp-rounded", "broad-bayes-label", "wide-logistic-scores", "census-boosting-scores"),
            *("census-forest-rounded", "census-logistic-label", "breast-knn-scores", "wine-gp-top1"),
        ),
        inversion.DEVELOP + toolbox.DEVELOP + theft.DEVELOP,
        9,
        (80, 280),
    ),
    "images": Capture(
        ("digits16-mlp-scores", "digits16-knn-label", "faces24-logistic-top1", "spots28-forest-rounded"),
        inversion.DEVELOP + toolbox.DEVELOP + theft.DEVELOP,
        9,
        (60, 120),
    ),
    "holdout-tabular": Capture(
        (
            *("claims-boosting-scores", "claims-mlp-label", "claims-forest-top1", "machines-svm-rounded"),
            *("machines-forest-scores", "circles-gp-label", "circles-knn-scores", "words-bayes-scores"),
            *("words-logistic-label", "friedman-mlp-top1", "hastie-svm-scores", "iris-logistic-rounded"),
        ),
        inversion.HOLDOUT + toolbox.HOLDOUT + theft.HOLDOUT,
        9,
        (80, 280),
    ),
    "holdout-images": Capture(
        ("digits12-svm-rounded", "faces28-mlp-scores", "gratings20-knn-label", "shapes24-boosting-top1"),
        inversion.HOLDOUT + toolbox.HOLDOUT + theft.HOLDOUT,
        9,
        (60, 120),
    ),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One benign client or one attack on one model."""

    number: int
    model: str
    what: Kind | Attack
    queries: int
    begin: float
    pace: str
    evasion: Evasion = EVASIONS[0]


def jobs(capture: Capture, seed: int, *, quick: bool = False) -> list[Job]:
    """Return all jobs of a capture; `quick`: of its first and last model only, with few of everything."""
    rng = np.random.default_rng([seed, 1])
    models = tuple(dict.fromkeys((capture.models[0], capture.models[-1]))) if quick else capture.models
    found: list[Job] = []
    for model in models:
        for kind in _clients(population(model.split("-")[0], seed), rng, quick):
            begin = float(rng.uniform(QUIET_S, 0.9 * DAY_S)) if kind.hard else 0.0
            queries = int(rng.integers(*capture.queries))
            found.append(Job(len(found), model, kind, queries, begin, str(rng.choice(kind.paces))))
    return found + _attacks(capture, models, rng, len(found), seed, 4 if quick else capture.per_model)


def _clients(data: Dataset, rng: Generator, quick: bool) -> list[Kind]:
    hard = [kind for kind in HARD + EXPLAINERS if kind.suits(data)]
    if quick:
        hard = [hard[i] for i in rng.permutation(len(hard))[:6].tolist()]
    return [ORDINARY[i % len(ORDINARY)] for i in range(REGULARS)] + hard


def _attacks(
    capture: Capture, models: tuple[str, ...], rng: Generator, first: int, seed: int, per_model: int
) -> list[Job]:
    """Give each model attacks that suit it, those first that were used least."""
    used = dict.fromkeys(capture.attacks, 0)
    found: list[Job] = []
    disguises = rng.permutation(len(EVASIONS) * per_model) % len(EVASIONS)
    for model in models:
        data_name, _, interface = model.split("-")
        data = population(data_name, seed)
        able = [attack for attack in capture.attacks if attack.suits(data, interface)]
        order = sorted(rng.permutation(len(able)).tolist(), key=lambda i: used[able[i]])
        for attack in [able[i] for i in order[:per_model]]:
            used[attack] += 1
            evasion = EVASIONS[disguises[len(found) % len(disguises)]]
            budget = attack.budget if evasion.dummies < 0.8 else min(attack.budget, 300)
            begin = float(rng.uniform(QUIET_S, 0.4 * DAY_S if evasion.slow else 0.9 * DAY_S))
            pace = "slow" if evasion.slow else "script"
            found.append(Job(first + len(found), model, attack, budget, begin, pace, evasion))
    return found
