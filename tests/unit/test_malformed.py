"""Calls that the model cannot read: which they are, and what a client has to send to be noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.detectors import discover
from detector.events import F32, EventBatch, Flag
from detector.malformed import malformed
from tests import streams, views

MALFORMED = next(d for d in discover() if d.name == "malformed")
LENS = views.Lens((6,))


def calls(n: int, client: str = "a") -> list[streams.Query]:
    like = streams.Query(client, None, None, LENS.refs[0])
    return streams.queries(np.random.default_rng(n), LENS.models[0], streams.ordinary, n, like)


def signals(batch: EventBatch) -> dict[str, F32]:
    view = LENS.view(batch, views.slots(batch), views.Memory.of(8))
    return dict(MALFORMED.observe(view, MALFORMED.state(8)))


@pytest.mark.parametrize(
    ("status", "bad"),
    [(200, 0), (400, 1), (413, 1), (422, 1), (401, 0), (403, 0), (408, 0), (429, 0), (500, 0), (503, 0)],
)
def test_only_refusals_of_the_input_count(status: int, bad: int) -> None:
    batch = streams.batch([replace(calls(1)[0], status=status)])
    assert malformed(batch, np.array([6])).tolist() == [bad]


def test_another_width_or_no_numbers_count() -> None:
    good = calls(1)[0]
    assert good.x is not None
    batch = streams.batch([good, replace(good, x=good.x[:5]), good, replace(good, x=None)])
    batch.flags[2] = Flag.NOT_FINITE
    assert malformed(batch, np.full(4, 6)).tolist() == [0, 1, 1, 0]
    assert malformed(batch, np.zeros(4, np.int64)).tolist() == [0, 0, 1, 0]  # of an unknown model no width is wrong


def test_one_malformed_call_in_two_shows_soon() -> None:
    made = [replace(q, status=422) if i % 2 else q for i, q in enumerate(calls(60))]
    found = signals(streams.batch(made))
    assert found["malformed.calls"][-1] > 6
    assert found["malformed.share"][-1] > 0.3


def test_retries_after_faults_of_the_service_are_no_evidence() -> None:
    made = [replace(q, status=503) if i % 3 else q for i, q in enumerate(calls(200))]
    assert signals(streams.batch(made))["malformed.calls"].max() <= 0.5


def test_clients_under_the_null_are_rarely_accused() -> None:
    rng = np.random.default_rng(3)
    ever = []
    for k in range(200):
        made = [replace(q, status=400) if rng.random() < 0.05 else q for q in calls(300, f"c{k}")]
        ever.append(signals(streams.batch(made))["malformed.calls"].max())
    assert np.mean(np.array(ever) >= 1) <= 0.1


def test_a_model_whose_clients_all_send_faults_expects_them() -> None:
    lens = views.Lens((6,))
    lens.baselines.scales.malformed_rate[0] = 0.25
    made = [replace(q, status=400) if i % 3 == 0 else q for i, q in enumerate(calls(200))]
    batch = streams.batch(made)
    view = lens.view(batch, views.slots(batch), views.Memory.of(8))
    assert MALFORMED.observe(view, MALFORMED.state(8))["malformed.calls"].max() <= 0.5
