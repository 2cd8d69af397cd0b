"""The pipeline is a fold over the stream: where batches are cut and where it is restarted leaves no trace."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests import pipelines

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking a stream takes minutes; its seed says it all
cuts = st.lists(st.integers(0, 900), min_size=1, max_size=12)
seeds = st.integers(0, 1000)
tables = st.sampled_from([16, 32])  # with 40 clients, the small one evicts all the time


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_one_give_what_one_batch_gives(seed: int) -> None:
    events = pipelines.stream(seed, clients=40)
    whole, single = pipelines.pipeline(16), pipelines.pipeline(16)
    alerts = pipelines.feed(whole, [events])
    assert alerts
    assert pipelines.feed(single, pipelines.cut(events, range(len(events)))) == alerts
    assert pipelines.state_of(single) == pipelines.state_of(whole)
    assert whole.clients.evicted > 0
    assert pipelines.end(single) == pipelines.end(whole)


@settings(max_examples=8, deadline=None, phases=PHASES)
@given(seed=seeds, at=cuts, clients=st.sampled_from([12, 40]), table=tables)
def test_any_split_gives_the_same_alerts_and_the_same_state(seed: int, at: list[int], clients: int, table: int) -> None:
    events = pipelines.stream(seed, clients=clients)
    whole, split = pipelines.pipeline(table), pipelines.pipeline(table)
    assert pipelines.feed(split, pipelines.cut(events, at)) == pipelines.feed(whole, [events])
    assert pipelines.state_of(split) == pipelines.state_of(whole)
    assert split.shortages() == whole.shortages()
    assert pipelines.end(split) == pipelines.end(whole)


@settings(max_examples=8, deadline=None, phases=PHASES)
@given(seed=seeds, at=st.integers(0, 900), clients=st.sampled_from([12, 40]), table=tables)
def test_a_restart_from_a_snapshot_leaves_no_trace(seed: int, at: int, clients: int, table: int) -> None:
    events = pipelines.stream(seed, clients=clients)
    at %= len(events)
    straight, before = pipelines.pipeline(table), pipelines.pipeline(table)
    alerts = pipelines.feed(straight, [events])
    first = pipelines.feed(before, pipelines.cut(events.slice(0, at), [at // 2]))
    after = pipelines.move(before, pipelines.pipeline(table))
    assert first + pipelines.feed(after, [events.slice(at, len(events))]) == alerts
    assert pipelines.state_of(after) == pipelines.state_of(straight)
    assert pipelines.end(after) == pipelines.end(straight)


@settings(max_examples=5, deadline=None, phases=PHASES)
@given(seed=seeds, at=st.integers(0, 900))
def test_export_changes_nothing_and_import_gives_the_same_export(seed: int, at: int) -> None:
    events = pipelines.stream(seed)
    line = pipelines.pipeline()
    pipelines.feed(line, [events.slice(0, at % len(events))])
    before = pipelines.state_of(line)
    assert pipelines.state_of(line) == before
    assert pipelines.state_of(pipelines.move(line, pipelines.pipeline())) == before
