"""Campaigns are a fold over the stream: neither batches nor restarts leave a trace, also where groups make room."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from detector.events import EventBatch
from detector.pipeline import Pipeline
from tests import crowds, pipelines, streams

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
HABITS = (streams.climb, streams.coordinates, streams.bisection)
cuts = st.lists(st.integers(0, 2000), min_size=1, max_size=12)


@cache
def stream(seed: int) -> EventBatch:
    """Return ordinary clients and several jobs over ids, on two partitions; some overlap."""
    rng = np.random.default_rng(seed)
    jobs = [
        crowds.job(
            HABITS[k % len(HABITS)],
            int(rng.integers(60, 160)),
            int(rng.integers(3, 7)),
            crowds.SPREADS[int(rng.integers(len(crowds.SPREADS)))],
            name=f"job{k}-",
            seed=100 * seed + k,
            at_s=1000 + 60 * k,
            partitions=2,
        )
        for k in range(12)
    ]
    return crowds.in_time(*crowds.ordinary(), *jobs)


def line(campaigns: int = 4) -> Pipeline:
    return crowds.pipeline(pipelines.sensitive_rules(), campaigns, clients=128)


@pytest.mark.parametrize("seed", range(2))
def test_batches_of_one_give_what_one_batch_gives(seed: int) -> None:
    events = stream(seed)
    whole, single = line(), line()
    alerts = pipelines.feed(whole, [events])
    assert any("clients acting as one" in alert for alert in alerts)
    assert whole.campaigns.dropped > 0
    assert pipelines.feed(single, pipelines.cut(events, range(len(events)))) == alerts
    assert pipelines.state_of(single) == pipelines.state_of(whole)


@settings(max_examples=5, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 3), at=cuts)
def test_any_split_gives_the_same_alerts_and_the_same_state(seed: int, at: list[int]) -> None:
    events = stream(seed)
    whole, split = line(), line()
    assert pipelines.feed(split, pipelines.cut(events, at)) == pipelines.feed(whole, [events])
    assert pipelines.state_of(split) == pipelines.state_of(whole)


@settings(max_examples=5, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 3), at=st.integers(300, 2000), campaigns=st.sampled_from([4, 16]))
def test_a_restart_from_a_snapshot_leaves_no_trace(seed: int, at: int, campaigns: int) -> None:
    events = stream(seed)
    at %= len(events)
    straight, before = line(campaigns), line(campaigns)
    alerts = pipelines.feed(straight, [events])
    first = pipelines.feed(before, [events.slice(0, at)])
    after = pipelines.move(before, line(campaigns))
    assert first + pipelines.feed(after, [events.slice(at, len(events))]) == alerts
    assert pipelines.state_of(after) == pipelines.state_of(straight)


@pytest.mark.parametrize("partition", pipelines.PARTITIONS)
def test_a_partition_that_leaves_takes_its_part_and_the_rest_goes_on(partition: int) -> None:
    events = stream(0)
    worker = line(16)
    pipelines.feed(worker, [events.slice(0, len(events) // 2)])
    worker.drop_partition(partition)
    world = worker.campaigns.world
    assert not (world.kin.key[world.kin.partition == partition] != 0).any()
    assert not (world.ring.owners[world.ring.partitions == partition] != 0).any()
    rest = np.flatnonzero(events.partition[len(events) // 2 :] != partition) + len(events) // 2
    pipelines.feed(worker, [events.take(rest)])
