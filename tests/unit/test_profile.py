"""What alerts explain themselves by: quantiles of other clients, and the queries at which evidence rose most."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.alerts import Alert
from detector.detectors import View
from detector.families import FAMILIES
from detector.pipeline import Columns, Pipeline
from detector.profile import LEAST_CLIENTS, RISES, Profile
from detector.settings import LimitSettings
from tests import pipelines, streams
from tests.unit.rules_support import batch_of, column

MODEL = streams.Model.make(np.random.default_rng(7), 6, 3)
PROFILE = Profile(pipelines.sensitive_rules())
FAMILY = FAMILIES[0].name
VALUES = st.lists(
    st.tuples(st.integers(0, 2), st.one_of(st.just(math.nan), st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.25, 3.0, 9.0]))),
    min_size=1,
    max_size=60,
)


def naive_steepest(values: list[tuple[float, int]]) -> list[tuple[int, float]]:
    """Every rise since the evidence last stood at nothing: one pass, and a list of all; (value, offset) a query."""
    rises: list[tuple[int, float]] = []
    before = 0.0
    for value, offset in values:
        if math.isnan(value):
            continue
        if value <= 0:
            rises = []
        elif value > before:
            rises.append((offset, value - before))
        before = max(value, 0.0)
    return sorted(rises, key=lambda rise: (-rise[1], rise[0]))


@settings(deadline=None)
@given(VALUES, st.integers(0, 59))
def test_the_steepest_rises_are_those_of_a_list_of_all(rows: list[tuple[int, float]], cut: int) -> None:
    state = PROFILE.state(3)
    slot = np.array([client for client, _ in rows], np.int64)
    batch = batch_of([0] * len(rows), start=500)
    stacked = PROFILE.stack({f"{FAMILY}.evidence": column([value for _, value in rows])}, len(rows))
    cut = min(cut, len(rows) - 1)
    before = slice(0, cut)
    PROFILE.observe(slot[before], slot[before].astype(np.int32), batch.slice(0, cut), stacked[:, before], state)
    last = len(rows) - 1
    rest = slice(cut, len(rows))
    got = PROFILE.steepest(FAMILY, last - cut, slot[rest], batch.slice(cut, len(rows)), stacked[:, rest], state)
    truth = naive_steepest([(v, 500 + i) for i, (client, v) in enumerate(rows) if client == rows[last][0]])
    assert [gain for _, gain in got] == pytest.approx([gain for _, gain in truth[:RISES]])
    assert set(got) <= set(truth)


def test_rows_of_one_record_count_as_one_query() -> None:
    batch = batch_of([0] * 4)
    batch.offset[:] = [7, 7, 8, 8]
    stacked = PROFILE.stack({f"{FAMILY}.evidence": column([1, 2, 2, 2.5])}, 4)
    found = PROFILE.steepest(FAMILY, 3, np.zeros(4, np.int64), batch, stacked, PROFILE.state(1))
    assert found == ((7, 2.0), (8, 0.5))


def hour(clients: int, n: int, at_h: int, habit: streams.Habit = streams.ordinary) -> list[streams.Query]:
    start = streams.START_US // streams.HOUR_US * streams.HOUR_US
    made = []
    for k in range(clients):
        like = streams.Query(f"{habit.__name__}{k}", None, None, time_us=start + at_h * streams.HOUR_US + k * 1000)
        made += streams.queries(np.random.default_rng([k, at_h]), MODEL, habit, n, like)
    return sorted(made, key=lambda query: query.time_us)


def line(seen: dict[str, dict[str, float]] | None = None) -> Pipeline:
    """Return a pipeline that writes each client's newest signals into `seen`."""

    def watch(view: View, signals: Columns) -> None:
        for i, client in enumerate(view.batch.client_id):
            newest = {name: float(c[i]) for name, c in signals.items() if not np.isnan(c[i])}
            if seen is not None:
                seen.setdefault(client, {}).update(newest)

    limits = LimitSettings(clients=64, models=2, admit_after=1)
    return Pipeline(pipelines.sensitive_rules(), limits, b"tests", watch=watch)


def test_quantiles_are_those_of_the_clients_newest_values_and_hold_for_the_next_hour() -> None:
    seen: dict[str, dict[str, float]] = {}
    pipeline = line(seen)
    pipeline.process(streams.batch(hour(30, 40, 0)))
    assert pipeline.baselines.quantiles == {}
    newest = {client: dict(values) for client, values in seen.items()}
    pipeline.process(streams.batch(hour(1, 10, 1)))
    alerted = {int(s) for s in np.flatnonzero(pipeline.episodes.open_until_us)}
    keys = {int(pipeline.clients.table.key[s]) for s in alerted}
    counted = [v for c, v in newest.items() if streams.key_of(c, *streams.MODEL) not in keys]
    assert len(counted) >= LEAST_CLIENTS
    quantiles = pipeline.baselines.quantiles[0]
    spoken = {name: [v[name] for v in counted if name in v] for name in pipeline.profile.signals}
    assert set(quantiles) == {name for name, values in spoken.items() if len(values) >= LEAST_CLIENTS}
    for name, found in quantiles.items():
        assert found == pytest.approx(np.quantile(spoken[name], (0.5, 0.95, 0.99)), rel=1e-6), name
    frozen = dict(quantiles)
    pipeline.process(streams.batch(hour(30, 10, 1, streams.climb)))
    assert pipeline.baselines.quantiles[0] == frozen


def test_a_young_model_has_quantiles_after_ten_minutes_and_keeps_them_for_the_hour() -> None:
    pipeline = line()
    events = streams.batch(hour(30, 1000, 0))  # a thousand seconds
    pipeline.process(events)
    frozen = dict(pipeline.baselines.quantiles[0])
    assert frozen["trajectory.queries"][0] == pytest.approx(600, abs=2)
    later = streams.batch(hour(12, 2400, 0))
    pipeline.process(later)
    assert pipeline.baselines.quantiles[0] == frozen


def test_alerted_clients_do_not_move_the_quantiles_and_few_clients_leave_them_as_they_were() -> None:
    pipeline = line()
    pipeline.process(streams.batch(hour(30, 40, 0)))
    pipeline.process(streams.batch(hour(30, 40, 1)))
    alerts = pipeline.process(streams.batch(hour(10, 200, 2, streams.noise_copies)))
    assert len({alert.client_id for alert in alerts}) >= LEAST_CLIENTS
    before = dict(pipeline.baselines.quantiles[0])
    pipeline.process(streams.batch(hour(LEAST_CLIENTS - 1, 20, 3)))
    assert pipeline.baselines.quantiles[0] == before, "in the hour that closed, everybody had an alert"
    pipeline.process(streams.batch(hour(1, 1, 4)))
    assert pipeline.baselines.quantiles[0] == before, "too few clients"


def test_alerts_carry_quantiles_and_positions_and_both_survive_a_restart() -> None:
    early = [*hour(30, 40, 0), *hour(12, 20, 1)]
    late = hour(2, 120, 2, streams.noise_copies)
    straight, before = line(), line()
    straight.process(streams.batch(early))
    before.process(streams.batch([*early]).slice(0, 1300))
    after = pipelines.move(before, line(), [0])
    after.process(streams.batch(early).slice(1300, len(early)))
    events = streams.batch(late)
    events.offset += len(early)
    alerts = straight.process(events)
    assert [repr(a) for a in after.process(events)] == [repr(a) for a in alerts]
    raised = next(a for a in alerts if a.rule.family == "membership_inference")
    assert all(item.baseline is not None for item in raised.evidence)
    assert 0 < len(raised.steepest) <= RISES
    assert len(early) <= min(offset for offset, _ in raised.steepest) <= raised.span.last_offset
    assert raised.steepest[0][1] == max(gain for _, gain in raised.steepest)


def test_positions_point_to_queries_of_the_alerted_client_only() -> None:
    made = [*hour(30, 12, 0), *hour(3, 90, 0, streams.climb), *hour(3, 90, 0, streams.noise_copies)]
    events = streams.batch(sorted(made, key=lambda query: query.time_us))
    alerts: list[Alert] = [*line().process(events)]
    assert alerts
    for alert in alerts:
        for offset, _ in alert.steepest:
            assert events.client_id[offset] == alert.client_id


@pytest.mark.parametrize("cuts", [[900, 901, 1000], list(range(0, 1700, 3))])
def test_cutting_the_stream_elsewhere_changes_neither_quantiles_nor_positions(cuts: list[int]) -> None:
    made = [*hour(20, 40, 0), *hour(3, 90, 0, streams.climb), *hour(12, 30, 1), *hour(3, 90, 1, streams.noise_copies)]
    events = streams.batch(sorted(made, key=lambda query: query.time_us))
    whole, split = line(), line()
    assert pipelines.feed(split, pipelines.cut(events, cuts)) == pipelines.feed(whole, [events])
    assert split.baselines.quantiles == whole.baselines.quantiles != {}
    assert pipelines.state_of(split) == pipelines.state_of(whole)
