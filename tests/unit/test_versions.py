"""A new version of a known model: by what reference it goes, from when on, and that alerts say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector import baseline
from detector.baseline import Baselines
from detector.candidates import ROWS
from detector.events import ModelRef
from detector.pipeline import Pipeline
from tests import pipelines, streams

MODEL = streams.Model.make(np.random.default_rng(7), 6, 3)
OTHER = streams.Model.make(np.random.default_rng(8), 7, 3)
OLD, NEW = ModelRef("credit", "3"), ModelRef("credit", "4")
START = streams.START_US // streams.HOUR_US * streams.HOUR_US


def crowd(
    ref: ModelRef, clients: int, each: int, *, hour: int = 0, shift: float = 0.0, model: streams.Model = MODEL
) -> list[streams.Query]:
    """Return ordinary clients of one version; `shift` moves their inputs."""
    made = []
    for k in range(clients):
        like = streams.Query(f"c{k}", None, None, ref, time_us=START + hour * streams.HOUR_US + k * 1000)
        queries = streams.queries(np.random.default_rng([k, hour]), model, streams.ordinary, each, like)
        made += [replace(q, x=None if q.x is None else q.x + np.float32(shift)) for q in queries]
    return sorted(made, key=lambda query: query.time_us)


def learned() -> Baselines:
    baselines = Baselines(4, 1)
    list(baselines.admit(streams.batch(crowd(OLD, 40, 8))))
    assert baselines.names[0].startswith("cold start: first 256 rows")
    return baselines


def judged(baselines: Baselines, made: list[streams.Query]) -> int:
    return sum(len(part) for part in baselines.admit(streams.batch(made)))


def test_a_version_with_the_same_inputs_goes_by_the_older_reference_after_32_rows() -> None:
    baselines = learned()
    made = crowd(NEW, 8, 10)
    assert judged(baselines, made[: baseline.HEIR_ROWS - 1]) == 0
    assert judged(baselines, made[baseline.HEIR_ROWS - 1 :]) == len(made)
    assert baselines.names[1] == "inherited from version 3"
    for name in ("r0", "q95", "row_count", "width"):
        column = getattr(baselines.scales, name)
        assert column[1] == column[0], name
    assert baselines.scales.rows[1].tobytes() == baselines.scales.rows[0].tobytes()


@pytest.mark.parametrize("changed", ["another range", "another width"])
def test_a_version_whose_inputs_have_changed_waits_like_a_new_model(changed: str) -> None:
    baselines = learned()
    made = crowd(NEW, 40, 8, shift=25) if changed == "another range" else crowd(NEW, 40, 8, model=OTHER)
    assert judged(baselines, made[: ROWS - 1]) == 0
    assert judged(baselines, made[ROWS - 1 :]) == len(made)
    assert baselines.names[1] == "cold start: first 256 rows"
    assert baselines.heirs == {}


def test_another_model_inherits_nothing() -> None:
    baselines = learned()
    assert judged(baselines, crowd(ModelRef("debit", "4"), 8, 10)) == 0


def test_one_client_alone_cannot_make_a_version_inherit() -> None:
    baselines = learned()
    assert judged(baselines, crowd(NEW, 1, 200)) == 0


def line() -> Pipeline:
    return pipelines.pipeline(128, admit_after=1)


def test_its_own_rows_replace_the_inherited_ones_at_the_first_epoch_that_brings_enough() -> None:
    pipeline = line()
    pipeline.process(streams.batch(crowd(OLD, 40, 8)))
    pipeline.process(streams.batch(crowd(NEW, 30, 20)))
    baselines = pipeline.baselines
    inherited = {row.tobytes() for row in baselines.scales.rows[1].T[:256]}
    pipeline.process(streams.batch(crowd(NEW, 2, 2, hour=1)))
    assert baselines.names[1].startswith("up to ")
    assert baselines.heirs == {}
    count = int(baselines.scales.row_count[1])
    assert count >= baseline.OWN_ROWS
    assert not inherited & {row.tobytes() for row in baselines.scales.rows[1].T[:count]}


def test_few_rows_of_its_own_are_mixed_in_and_it_still_says_from_whom_it_inherits() -> None:
    pipeline = line()
    pipeline.process(streams.batch(crowd(OLD, 40, 8)))
    pipeline.process(streams.batch(crowd(NEW, 8, 5)))
    pipeline.process(streams.batch(crowd(NEW, 1, 1, hour=1)))
    assert pipeline.baselines.names[1].startswith("inherited from version 3, up to ")
    assert pipeline.baselines.heirs == {1: "3"}


def test_alerts_say_cold_start_and_inherited_and_cuts_and_restarts_change_nothing() -> None:
    attack = [replace(q, client="attacker") for q in crowd(NEW, 1, 1)]
    like = replace(attack[0], time_us=START + 30 * streams.SECOND_US)
    attack = streams.queries(np.random.default_rng(1), MODEL, streams.noise_copies, 200, like)
    early = streams.queries(np.random.default_rng(2), MODEL, streams.noise_copies, 200, replace(like, model=OLD))
    parts = [*crowd(OLD, 40, 8), *crowd(NEW, 8, 30), *attack, *early, *crowd(NEW, 4, 4, hour=1)]
    events = streams.batch(sorted(parts, key=lambda query: query.time_us))
    whole, split, before = line(), line(), line()
    alerts = whole.process(events)
    told = {doc["querywatch"]["model"]["version"]: doc["querywatch"]["baseline"] for doc in pipelines.documents(alerts)}
    assert told == {"3": "cold start: first 256 rows", "4": "inherited from version 3"}
    texts = [repr(alert) for alert in alerts]
    assert pipelines.feed(split, pipelines.cut(events, range(0, len(events), 7))) == texts
    assert pipelines.state_of(split) == pipelines.state_of(whole)
    for at in (20, 300, 500):
        before = line()
        first = pipelines.feed(before, [events.slice(0, at)])
        after = pipelines.move(before, line())
        assert first + pipelines.feed(after, [events.slice(at, len(events))]) == texts
        assert pipelines.state_of(after) == pipelines.state_of(whole)
