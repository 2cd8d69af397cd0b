"""The pipeline as a whole: warm-up, eviction, limits, partitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.alerts import Alert
from detector.detectors import View
from detector.events import EventBatch, ModelRef
from detector.pipeline import Columns, Pipeline
from detector.rules import catalogue, default_folder, load_rules
from detector.settings import LimitSettings
from tests import pipelines, streams

MODEL = streams.Model(np.random.default_rng(7).normal(size=(20, 3)) * 0.15)  # gentle slopes: a climb lasts


def traffic(
    client: str, habit: streams.Habit, n: int, seed: int = 0, at_s: int = 0, partition: int = 0
) -> list[streams.Query]:
    like = streams.Query(client, None, None, partition=partition, time_us=streams.START_US + at_s * streams.SECOND_US)
    return streams.queries(np.random.default_rng([seed, len(client), ord(client[-1])]), MODEL, habit, n, like)


def in_time(*parts: list[streams.Query]) -> EventBatch:
    return streams.batch(sorted((query for part in parts for query in part), key=lambda q: q.time_us))


def warm() -> list[list[streams.Query]]:
    """Return ordinary clients, enough to make the first reference."""
    return [traffic(f"benign{k}", streams.ordinary, 40, at_s=k) for k in range(20)]


def shipped(clients: int = 64) -> Pipeline:
    limits = LimitSettings(clients=clients, models=4, admit_after=2)
    return Pipeline(load_rules(default_folder(), catalogue()), limits, b"tests")


def alerts_of(line: Pipeline, events: EventBatch) -> list[Alert]:
    return line.process(events) + line.close()


def test_a_climber_is_named_and_harmless_clients_are_not() -> None:
    harmless = [traffic(f"h{k}", habit, 200, at_s=50 + k) for k, habit in enumerate(streams.HARMLESS)]
    events = in_time(*warm(), *harmless, traffic("attacker", streams.climb, 300, at_s=60))
    alerts = alerts_of(shipped(), events)
    assert {alert.client_id for alert in alerts if alert.severity != "low"} == {"attacker"}
    assert "inversion" in {alert.rule.family for alert in alerts}


def test_nothing_is_judged_before_the_reference_and_everything_after() -> None:
    seen: list[int] = []

    def watch(view: View, signals: Columns) -> None:
        assert set(signals) >= {"steering.chosen", "inversion.evidence"}
        seen.append(len(view.slot))

    line = Pipeline(pipelines.sensitive_rules(), LimitSettings(clients=64, models=4), b"tests", watch=watch)
    events = in_time(*warm())
    line.process(events.slice(0, 200))
    assert not seen
    line.process(events.slice(200, len(events)))
    assert sum(seen) == len(events)


def test_the_end_of_a_short_stream_is_judged_with_what_there_is() -> None:
    line = pipelines.pipeline()
    events = in_time(traffic("attacker", streams.bisection, 120), traffic("other", streams.ordinary, 60))
    assert line.process(events) == []
    assert "attacker" in {alert.client_id for alert in line.close()}
    assert line.close() == []


@pytest.mark.parametrize("last", ["a query", "a repeat", "a failed call", "a call without input"])
def test_a_flood_of_fresh_ids_does_not_evict_a_client_under_suspicion(last: str) -> None:
    line = pipelines.pipeline(clients=32, admit_after=1)
    attack = traffic("attacker", streams.climb, 200, at_s=60)
    finals = {
        "a query": attack[-1],
        "a repeat": attack[-2],
        "a failed call": replace(attack[-1], status=503),
        "a call without input": replace(attack[-1], x=None),
    }
    line.process(in_time(*warm(), [*attack[:-1], replace(finals[last], time_us=attack[-1].time_us)]))
    key = np.uint64(streams.key_of("attacker", *streams.MODEL))
    assert line.clients.table.suspicion[line.clients.table.key == key].max() > 1
    x = MODEL.scores(np.zeros(20, np.float32))
    flood = [
        streams.Query(f"f{k % 3000}", np.full(20, k % 7, np.float32), x, time_us=streams.START_US + 400_000_000 + k)
        for k in range(6000)
    ]
    line.process(streams.batch(flood))
    assert line.clients.evicted > 0
    assert key in line.clients.table.key


def test_models_beyond_the_limit_are_counted_and_harm_nobody() -> None:
    few = pipelines.pipeline(models=2)
    events = in_time(*warm(), traffic("attacker", streams.climb, 300, at_s=60))
    expected = [repr(alert) for alert in alerts_of(few, events)]
    crowded = pipelines.pipeline(models=2)
    extra = [
        replace(query, model=ModelRef(f"extra{k}", "1"), client=f"e{k}")
        for k in range(5)
        for query in traffic("e", streams.ordinary, 30, at_s=30 + k)
    ]
    both = streams.batch([*_queries(events), *extra])
    alerts = [repr(alert) for alert in alerts_of(crowded, both) if not alert.client_id.startswith("e")]
    assert crowded.baselines.overflow == 4 * 30
    assert len(alerts) == len(expected) > 0


def test_a_dropped_partition_is_forgotten_and_the_other_goes_on_undisturbed() -> None:
    parts = [traffic(f"c{k}", habit, 120, at_s=30 + k, partition=k % 2) for k, habit in enumerate(streams.HABITS)]
    events = in_time(*warm(), *parts)
    half = len(events) * 2 // 3
    straight, dropping = pipelines.pipeline(64), pipelines.pipeline(64)
    for line in (straight, dropping):
        line.process(events.slice(0, half))
    dropping.drop_partition(1)
    assert not dropping.export_partition(1)["client.key"].size
    assert dropping.export_partition(0)["client.key"].size
    rest = events.slice(half, len(events)).take(np.flatnonzero(events.partition[half:] == 0))
    ours = [repr(alert) for alert in dropping.process(rest)]
    assert ours == [repr(alert) for alert in straight.process(rest)]
    states = {key: array for key, array in straight.export_partition(0).items() if key.startswith("state.")}
    kept = {key: array for key, array in states.items() if "kinship" not in key}  # clients are kin across partitions
    assert all(dropping.export_partition(0)[key].tobytes() == array.tobytes() for key, array in kept.items())


def test_a_partition_can_move_while_its_model_still_waits_for_a_reference() -> None:
    events = in_time(*warm())
    early, late = events.slice(0, 100), events.slice(100, len(events))
    straight, old = pipelines.pipeline(64), pipelines.pipeline(64)
    straight.process(events)
    old.process(early)
    new = pipelines.move(old, pipelines.pipeline(64), [0])
    old.drop_partition(0)
    assert old.close() == []
    new.process(late)
    assert new.export_partition(0)["client.key"].tobytes() == straight.export_partition(0)["client.key"].tobytes()


def test_a_waiting_partition_is_counted_where_the_new_owner_has_no_room_for_its_model() -> None:
    old, full = pipelines.pipeline(), pipelines.pipeline(models=1)
    full.process(in_time(*warm()))
    old.process(streams.batch([replace(q, model=ModelRef("late", "1")) for q in traffic("a", streams.climb, 20)]))
    pipelines.move(old, full, [0])
    assert full.baselines.overflow == 20
    assert full.close() == []


def test_state_does_not_grow_with_the_stream() -> None:
    line = pipelines.pipeline(clients=16, admit_after=1)
    sizes = []
    for k in range(3):
        line.process(pipelines.stream(k, clients=60))
        sizes.append(sum(array.nbytes for p in pipelines.PARTITIONS for array in line.export_partition(p).values()))
    assert line.clients.followed <= 16
    assert sizes[2] < 1.5 * sizes[0]


def test_short_detail_is_counted_by_detector_and_model() -> None:
    line = pipelines.pipeline(64)
    bare = [replace(query, x=None) for query in traffic("bare", streams.ordinary, 25, at_s=90)]
    alerts_of(line, in_time(*warm(), bare))
    (steering,) = (s for s in line.shortages() if s.detector == "steering")
    assert (steering.events, steering.of, steering.missing) == (25, 825, ("inputs",))
    assert "volume" not in {s.detector for s in line.shortages()}


def _queries(events: EventBatch) -> list[streams.Query]:
    return [
        streams.Query(
            events.client_id[i], events.input.row(i), events.scores.row(i),
            events.models[events.model[i]], time_us=int(events.time_us[i]),
        )
        for i in range(len(events))
    ]  # fmt: skip
