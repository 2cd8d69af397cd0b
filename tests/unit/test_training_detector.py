"""Whoever asks for training records is found; whoever asks for as many as everybody else is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.alerts import Alert
from detector.detectors import View
from detector.detectors.training import DETECTOR, expected
from detector.events import F32, I32, U64, EventBatch, ModelRef
from detector.pipeline import Pipeline
from detector.rules import catalogue, default_folder, load_rules
from detector.settings import LimitSettings
from detector.training.index import NO_INDEXES, TrainingIndexes, usual_share
from tests import pipelines, streams, views

REF = ModelRef("m0", "1")
WIDTH = 9
MODEL = streams.Model.make(np.random.default_rng(5), WIDTH, 3)
LENS = views.Lens((6,))


def records(n: int, seed: int = 1) -> list[F32]:
    return list(np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32))


# --- the test ---------------------------------------------------------------------------------------------------------


def looked_up(trained: U64, canary: I32, usual: float) -> View:
    """Return a view of one client's fresh queries, far from each other, with these answers of an index."""
    like = streams.Query("a", None, None, LENS.refs[0])
    made = streams.queries(np.random.default_rng(0), LENS.models[0], streams.ordinary, len(trained), like)
    events = streams.batch(made)
    view = LENS.view(events, np.zeros(len(trained), np.int64), views.Memory.of(1))
    scales = view.scales._replace(trained_rate=np.full(len(view.scales.trained_rate), usual))
    return view._replace(trained=trained, canary=canary, scales=scales, joined=np.full(len(trained), 1.0, np.float32))


def none(n: int) -> I32:
    return np.full(n, -1, np.int32)


def signals(trained: U64, usual: float = 0.0, canary: I32 | None = None) -> dict[str, F32]:
    view = looked_up(trained, none(len(trained)) if canary is None else canary, usual)
    return dict(DETECTOR.observe(view, DETECTOR.state(1)))


def drawn(rng: np.random.Generator, n: int, p: float) -> U64:
    digests = rng.integers(1 << 20, 1 << 63, n).astype(np.uint64)
    return np.where(rng.random(n) < p, digests, np.uint64(1)).astype(np.uint64)


@pytest.mark.parametrize("usual", [0.0, 0.1, 0.45])
def test_under_its_null_evidence_rarely_ever_rises(usual: float) -> None:
    rng = np.random.default_rng(3)
    p0 = float(expected(np.array([usual]))[0])
    highest = np.array([np.nanmax(signals(drawn(rng, 400, p0), usual)["training.hits"]) for _ in range(300)])
    for level in (1.0, 1.5, 2.0):
        assert (highest >= level).mean() <= 10**-level + 3 * np.sqrt(10**-level / 300)


def test_half_training_records_are_enough_within_twenty_queries() -> None:
    rng = np.random.default_rng(4)
    found = [int(np.argmax(signals(drawn(rng, 100, 0.5))["training.hits"] >= 3)) + 1 for _ in range(100)]
    assert np.median(found) <= 12
    assert max(found) <= 30


def test_the_odds_of_a_hit_may_be_two_and_a_half_times_the_usual() -> None:
    np.testing.assert_allclose(expected(np.array([0.0, 0.1, 0.5, 1.0])), [0.02, 0.25 / 1.15, 1.25 / 1.75, 0.95])


def test_asking_for_one_record_again_and_again_is_no_evidence() -> None:
    again = np.full(300, 77_777, np.uint64)
    again[::2] = 1
    out = signals(again)
    assert np.nanmax(out["training.records"]) == 1
    assert np.nanmax(out["training.hits"]) < 1


def test_copies_of_own_queries_count_once() -> None:
    rng = np.random.default_rng(5)
    view = looked_up(drawn(rng, 40, 1.0), none(40), 0.0)
    near = view._replace(joined=np.where(np.arange(40) % 8, 0.1, np.nan).astype(np.float32))
    out = DETECTOR.observe(near, DETECTOR.state(1))
    assert np.nanmax(out["training.records"]) == 5
    assert np.isfinite(out["training.hits"]).sum() == 5


def test_each_canary_counts_once_and_the_first_is_enough() -> None:
    canary = np.array([0, 0, 3, 3, 0, 70, 3], np.int32)
    out = signals(np.ones(7, np.uint64), canary=canary)["training.canaries"]
    np.testing.assert_allclose(out, np.log10(0.5 + 0.5 * 10.0 ** np.array([0, 0, 4, 4, 4, 8, 8])), rtol=1e-6)


def test_without_an_index_it_says_nothing() -> None:
    assert all(np.isnan(column).all() for column in signals(np.zeros(20, np.uint64)).values())


# --- what is usual ----------------------------------------------------------------------------------------------------


def test_one_client_in_four_does_not_change_what_is_usual() -> None:
    clients = np.repeat(np.arange(8, dtype=np.uint64), 16)
    hits = (clients < 2).astype(np.uint8)
    assert usual_share(clients, hits, 0.0) == pytest.approx(1 / (8 * 16 + 2))
    assert usual_share(clients, (clients < 6).astype(np.uint8), 0.0) == 1.0


def test_a_hundred_ids_with_few_rows_do_not_change_what_is_usual() -> None:
    clients = np.concatenate([np.repeat(np.arange(8), 16), np.arange(100, 200)]).astype(np.uint64)
    assert usual_share(clients, (clients >= 100).astype(np.uint8), 0.0) < 0.02


def test_the_first_client_alone_does_not_say_what_is_usual_and_two_do() -> None:
    one, two = np.zeros(16, np.uint64), np.repeat(np.arange(2, dtype=np.uint64), 16)
    assert usual_share(one, np.ones(16, np.uint8), 0.0) == pytest.approx(1 / 50)
    assert usual_share(one, np.ones(16, np.uint8), 0.5) == pytest.approx(0.5)
    assert usual_share(two, np.ones(32, np.uint8), 0.0) == 1.0


def test_a_rate_that_most_clients_share_is_usual() -> None:
    rng = np.random.default_rng(0)
    clients = np.repeat(np.arange(16, dtype=np.uint64), 16)
    assert 0.3 <= usual_share(clients, (rng.random(256) < 0.3).astype(np.uint8), 0.0) <= 0.5


# --- in the stream ----------------------------------------------------------------------------------------------------


def asking(name: str, x: list[F32], at_s: int) -> list[streams.Query]:
    like = streams.Query(name, None, None, REF, time_us=streams.START_US + at_s * streams.SECOND_US)
    return streams.queries(np.random.default_rng(0), MODEL, lambda _rng, _model, _n: x, len(x), like)


def traffic(*parts: list[streams.Query]) -> EventBatch:
    return streams.batch(sorted((query for part in parts for query in part), key=lambda query: query.time_us))


def background(share: float = 0.0) -> list[list[streams.Query]]:
    """Return twenty clients; a share of what they ask for are training records."""
    rng = np.random.default_rng(2)
    known = records(200)
    parts = []
    for k in range(20):
        x = [known[int(rng.integers(200))] if rng.random() < share else y for y in records(60, seed=100 + k)]
        parts.append(asking(f"benign{k}", x, k))
    return parts


def attack(share: float = 0.5, n: int = 150) -> list[streams.Query]:
    rng = np.random.default_rng(3)
    known, others = iter(records(200)), records(n, seed=9)
    return asking("attacker", [next(known) if rng.random() < share else y for y in others], 100)


def judged(events: EventBatch, indexes: TrainingIndexes) -> tuple[list[Alert], Pipeline]:
    limits = LimitSettings(clients=64, models=4, admit_after=1)
    line = Pipeline(load_rules(default_folder(), catalogue()), limits, b"tests", training=indexes)
    alerts = line.process(events) + line.close()
    return [alert for alert in alerts if alert.rule.id == "membership-training-records"], line


@pytest.fixture(scope="module")
def indexes() -> TrainingIndexes:
    return TrainingIndexes([pipelines.index_of(records(200), REF)])


def test_whoever_asks_for_training_records_is_named_early_and_nobody_else(indexes: TrainingIndexes) -> None:
    alerts, _ = judged(traffic(*background(), attack()), indexes)
    assert {alert.client_id for alert in alerts} == {"attacker"}
    assert alerts[0].queries <= 50
    assert alerts[0].rule.family == "membership_inference"
    assert alerts[0].contributions["training.hits"] >= 3
    assert {item.signal for item in alerts[0].evidence} == {"training.hits", "training.records", "training.canaries"}


def test_rounded_records_are_recognised(indexes: TrainingIndexes) -> None:
    events = traffic(*background(), [replace(q, x=np.round(q.x, 2)) for q in attack() if q.x is not None])
    assert {alert.client_id for alert in judged(events, indexes)[0]} == {"attacker"}


def test_without_an_index_or_with_one_for_another_model_nobody_is(indexes: TrainingIndexes) -> None:
    events = traffic(*background(), attack())
    other = TrainingIndexes([pipelines.index_of(records(200), ModelRef("other", ""))])
    assert judged(events, NO_INDEXES)[0] == judged(events, other)[0] == []
    fingerprints = {judged(events, some)[1].fingerprint for some in (NO_INDEXES, other, indexes)}
    assert len(fingerprints) == 3


def test_where_everybody_asks_for_training_records_that_is_usual(indexes: TrainingIndexes) -> None:
    alerts, _ = judged(traffic(*background(0.3), attack(0.3)), indexes)
    assert alerts == []
    alerts, _ = judged(traffic(*background(0.3), attack(0.95)), indexes)
    assert {alert.client_id for alert in alerts} == {"attacker"}


def test_fifteen_samples_of_the_training_data_are_no_alert(indexes: TrainingIndexes) -> None:
    first_steps = asking("newcomer", [*records(15), *records(60, seed=8)], 100)
    assert judged(traffic(*background(), first_steps), indexes)[0] == []


def test_inputs_that_cannot_be_looked_up_are_counted_for_models_with_an_index_only(indexes: TrainingIndexes) -> None:
    events = traffic(*background(), attack())
    blind = streams.batch([replace(query, x=None) for part in (*background(), attack()) for query in part])
    starved = [
        [(s.events, s.of) for s in judged(made, known)[1].shortages() if s.detector == "training"]
        for made, known in ((events, indexes), (blind, indexes), (blind, NO_INDEXES))
    ]
    assert starved == [[], [(len(blind), len(blind))], []]
