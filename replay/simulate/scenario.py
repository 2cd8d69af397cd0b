"""Scenarios: who asks which model, when. A preset and a seed give a plan of jobs, each of which can run by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from replay.simulate import attacks, benign, victims
from replay.simulate.attacks.protocol import Attack
from replay.simulate.benign.protocol import Kind
from replay.simulate.data import Dataset, load
from replay.simulate.evasion import EVASIONS, Evasion

T = TypeVar("T")

START = "2026-11-16T00:00:00Z"  # a Monday

MODELS = (
    *("digits-mlp", "digits-logistic-top1", "digits-mlp-label", "digits-forest", "digits-svm-noisy"),
    *(
        "breast-logistic",
        "breast-boosting-top1",
        "breast-mlp-label",
        "diabetes-mlp",
        "diabetes-tree",
        "diabetes-forest",
    ),
    *("wine-svm", "segments-forest-rounded", "segments-mlp-label", "phishing-tree", "phishing-mlp", "iris-logistic"),
)


class ScenarioError(ValueError):
    """A scenario that cannot be played; the message says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """One benign client, or one attack campaign. `models` has one name for an attack."""

    number: int
    name: str  # the benign kind or the attack
    hostile: bool
    models: tuple[str, ...]
    begin: float  # seconds since the start
    end: float
    queries: int  # benign: about how many; attack: the budget of own queries
    evasion: Evasion = EVASIONS["none"]
    snap: bool = False  # the attacker rounds to the grid of the data


@dataclass(frozen=True, slots=True)
class Scenario:
    """All jobs between the start and `hours` later."""

    seed: int
    hours: float
    models: tuple[str, ...]
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Preset:
    """What a scenario of this name holds, before options change it."""

    hours: float
    models: tuple[str, ...]
    clients: int
    queries: int  # mean number of queries of a benign client
    campaigns: int
    attacks: tuple[str, ...] = ()  # empty: all of them
    kinds: tuple[str, ...] = ()  # empty: all of them
    evasions: tuple[str, ...] = field(default=tuple(EVASIONS))
    ordinary: float = 0.5  # share of clients of an ordinary kind
    victims: tuple[str, ...] = ()  # the models that are attacked; empty: all of them


PRESETS: dict[str, Preset] = {
    "demo": Preset(
        1, ("digits-mlp", "breast-logistic"), 40, 60, 1, ("hill_climb",), evasions=("none",), victims=("digits-mlp",)
    ),
    "small": Preset(24, MODELS, 320, 260, 80),
    "full": Preset(168, MODELS, 1600, 520, 400),
    "benign": Preset(168, MODELS, 3000, 1050, 0),
}


def plan(preset: Preset, seed: int) -> Scenario:
    """Return the jobs of a scenario. Raises UnknownNameError or ScenarioError where they cannot be made."""
    for model in preset.models:
        victims.parts(model)
    kinds = _chosen(preset.kinds, benign.kind_named, benign.catalogue())
    wanted = _chosen(preset.attacks, attacks.attack_named, attacks.catalogue())
    unknown = [name for name in preset.evasions if name not in EVASIONS]
    if unknown:
        raise ScenarioError(f"unknown evasion {unknown[0]!r}: there are {', '.join(EVASIONS)}")
    rng = np.random.default_rng([seed, 1])
    data = {model: load(model.split("-")[0], seed) for model in preset.models}
    jobs = _benign_jobs(preset, kinds, data, rng)
    jobs += _attack_jobs(preset, wanted, data, rng, len(jobs))
    return Scenario(seed, preset.hours, preset.models, tuple(jobs))


def _chosen(names: tuple[str, ...], find: Callable[[str], T], everything: dict[str, T]) -> list[T]:
    return [find(name) for name in names] if names else list(everything.values())


def _benign_jobs(preset: Preset, kinds: list[Kind], data: dict[str, Dataset], rng: Generator) -> list[Job]:
    ordinary = [kind for kind in kinds if not kind.hard]
    hard = [kind for kind in kinds if kind.hard]
    plenty = round(preset.clients * preset.ordinary) if ordinary and hard else preset.clients * bool(ordinary)
    horizon, jobs = preset.hours * 3600, []
    for i in range(preset.clients):
        kind = ordinary[i % len(ordinary)] if i < plenty else hard[(i - plenty) % len(hard)]
        able = [model for model in preset.models if kind.suits(data[model])]
        if not able and preset.kinds:
            raise ScenarioError(f"none of the models {', '.join(preset.models)} suits {kind.name}")
        if not able:
            continue
        several = 1 + int(rng.geometric(0.6) - 1) if not kind.hard else 1
        models = rng.choice(able, min(several, len(able), 4), replace=False)
        begin = rng.uniform(0, 0.5 * horizon) if kind.hard else rng.choice([0.0, rng.uniform(0, 0.7 * horizon)])
        mean = preset.queries * (1.6 if not kind.hard else 0.8) / len(models)
        queries = int(np.clip(rng.lognormal(np.log(mean) - 0.32, 0.8), 8, 20 * mean))
        jobs.append(Job(i, kind.name, False, tuple(models.tolist()), float(begin), horizon, queries))
    return jobs


def _attack_jobs(
    preset: Preset, wanted: list[Attack], data: dict[str, Dataset], rng: Generator, first: int
) -> list[Job]:
    horizon, jobs, order = preset.hours * 3600, [], 0
    usable = [(attack, able) for attack in wanted if (able := _able(attack, preset, data))]
    if preset.campaigns and not usable:
        names = ", ".join(attack.name for attack in wanted)
        raise ScenarioError(f"none of the models {', '.join(preset.models)} suits {names}")
    for i in range(preset.campaigns):
        attack, able = usable[i % len(usable)]
        model = str(rng.choice(able))
        plain = rng.random() < 0.4 or preset.evasions == ("none",)
        evasion = EVASIONS["none" if plain else preset.evasions[order % len(preset.evasions)]]
        order += not plain
        begin = float(rng.uniform(0.1, 0.3 if evasion.pace == "slow" else 0.7) * horizon)
        snap = bool(rng.random() < 0.3) and bool((data[model].step > 0).any())
        budget = max(60, round(attack.budget * float(np.exp(np.clip(rng.normal(0, 0.4), -1, 1)))))
        jobs.append(Job(first + i, attack.name, True, (model,), begin, horizon, budget, evasion, snap))
    return jobs


def able_models(name: str, preset: Preset, seed: int) -> tuple[str, ...]:
    """Return the models of a preset that suit an attack or a benign kind. Raises ScenarioError if there is none."""
    data = {model: load(model.split("-")[0], seed) for model in preset.models}
    if name in attacks.catalogue():
        able = _able(attacks.attack_named(name), preset, data)
    else:
        able = [model for model in preset.models if benign.kind_named(name).suits(data[model])]
    if not able:
        raise ScenarioError(f"none of the models {', '.join(preset.models)} suits {name}")
    return tuple(able)


def _able(attack: Attack, preset: Preset, data: dict[str, Dataset]) -> list[str]:
    """Return the models on which somebody would try the attack."""
    chosen = [model for model in preset.victims if model in preset.models] or preset.models
    return [model for model in chosen if _suits(attack, model, data[model])]


def _suits(attack: Attack, model: str, data: Dataset) -> bool:
    _, kind, interface = victims.parts(model)
    return attack.suits(data) and interface in attack.interfaces and (not attack.kinds or kind in attack.kinds)
