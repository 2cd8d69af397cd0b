"""The tests inside membership-training-records, run on simulated traffic among ordinary clients, with a real index."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from pydantic import SecretStr

from detector.commands.training_index import default_file
from detector.events import Records
from detector.formats import native
from detector.rules import Rule, Ruleset, RuleTest, default_folder, load_rules, verdict
from detector.rules import catalogue as signals
from detector.settings import LimitSettings, Settings, SettingsError, TrainingSettings
from detector.training.build import build
from detector.training.fingerprints import Key
from detector.training.index import NO_INDEXES, TrainingIndex, save
from detector.training.records import Records as TrainingRecords
from detector.wiring import build_pipeline
from replay.simulate import victims
from replay.simulate.run import perform
from replay.simulate.scenario import Preset, plan

MODEL = "digits-mlp"
ORDINARY = 16
SECRET = b"of our own"


@cache
def rules() -> Ruleset:
    return load_rules(default_folder(), signals())


def rule() -> Rule:
    return next(rule for rule in rules().rules if rule.id == "membership-training-records")


@cache
def index(seed: int) -> TrainingIndex:
    """Return the index of the records that trained the simulated model."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "members.npy"
        np.save(path, victims.build(MODEL, seed).data.members.x)
        return build(TrainingRecords(path), Key(SECRET, MODEL, ""), MODEL)


@cache
def lines(attack: str, benign: str, queries: int, seed: int) -> list[bytes]:
    """Return the events of one client of that kind, after and among those of ordinary clients."""
    kinds = ("human", benign) if benign else ("human",)
    wanted = (attack,) if attack else ()
    preset = Preset(4, (MODEL,), ORDINARY + bool(benign), 60, bool(attack), wanted, kinds, ("none",), ordinary=1.0)
    scenario = plan(preset, seed)
    jobs = [job if job.name == "human" else replace(job, queries=queries, snap=False) for job in scenario.jobs]
    played = [perform(scenario, job) for job in jobs]
    order = np.argsort(np.concatenate([part.time_us for part in played]), kind="stable")
    every = [line for part in played for line in part.lines]
    return [every[i] for i in order.tolist()]


@pytest.mark.parametrize("test", rule().tests, ids=lambda test: test.name)
def test_a_test_of_the_rule_passes(test: RuleTest, tmp_path: Path) -> None:
    given = test.given
    settings = Settings(secret=SecretStr(SECRET.decode()), training=TrainingSettings(folder=str(tmp_path)))
    if given.training:
        save(index(given.seed), default_file(settings, MODEL, ""))
    line = build_pipeline(settings, rules())
    values = lines(given.attack or "", given.benign or "", given.queries, given.seed)
    records = Records("test", [0] * len(values), list(range(len(values))), values)
    batch = native.decode(records, limits=LimitSettings(), secret=SECRET).batch
    assert not verdict(test, rule(), line.process(batch) + line.close())


def test_an_index_that_cannot_be_used_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "m.qwi").write_bytes(b"nonsense")
    with pytest.raises(SettingsError, match=r"\[training\] folder: .*m\.qwi: not a training index"):
        build_pipeline(Settings(training=TrainingSettings(folder=str(tmp_path))), rules())
    with pytest.raises(SettingsError, match="no such folder"):
        build_pipeline(Settings(training=TrainingSettings(folder=str(tmp_path / "none"))), rules())


def test_without_a_folder_there_are_no_indexes() -> None:
    assert build_pipeline(Settings(), rules()).training is NO_INDEXES
