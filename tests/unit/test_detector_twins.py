"""Every kernel gives what its slow twin gives."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from detector.detectors import View, discover
from detector.events import EventBatch, OutputLevel
from tests import streams, views
from tests.twins_answers import AnswersTwin
from tests.twins_detectors import TWINS, Twin

LENS = views.Lens((6, 40), classes=3)
MANY = views.Lens((8,), classes=60)


def whole(lens: views.Lens, events: EventBatch) -> View:
    """Return the view of a stream in one piece."""
    return lens.view(events, views.slots(events), views.Memory.of(8))


def compare(name: str, view: View) -> int:
    """Hold one detector against its twin; returns how many numbers were compared."""
    detector = next(d for d in discover() if d.name == name)
    fast = detector.observe(view, detector.state(8))
    twins: dict[int, Twin] = defaultdict(TWINS[name])
    slow = [twins[slot].observe(view, i) for i, slot in enumerate(view.slot.tolist())]
    compared = 0
    for signal in detector.signals:
        truth = np.array([row.get(signal.name, np.nan) for row in slow])
        np.testing.assert_allclose(fast[signal.name], truth, rtol=2e-5, atol=2e-5, err_msg=signal.name)
        compared += int(np.isfinite(truth).sum())
    return compared


def one_client(habit: streams.Habit, events: int, lens: views.Lens = LENS) -> EventBatch:
    rng = np.random.default_rng(3)
    like = streams.Query("a", None, None, lens.refs[0])
    return streams.batch(streams.queries(rng, lens.models[0], habit, events, like))


@pytest.mark.parametrize("name", sorted(TWINS))
@pytest.mark.parametrize("seed", range(6))
def test_a_kernel_equals_its_twin_on_spoiled_clients_interleaved(name: str, seed: int) -> None:
    assert compare(name, whole(LENS, views.mixed(seed, LENS, 400))) > 100


@pytest.mark.parametrize("name", sorted(TWINS))
@pytest.mark.parametrize("habit", streams.HABITS, ids=lambda habit: habit.__name__)
def test_a_kernel_equals_its_twin_on_every_habit(name: str, habit: streams.Habit) -> None:
    compared = compare(name, whole(LENS, one_client(habit, 160)))  # more would reach the cap of some products
    assert compared > 0 or habit is streams.constant  # of one input for ever most detectors say nothing


@pytest.mark.parametrize("name", sorted(TWINS))
def test_a_kernel_equals_its_twin_when_its_rings_wrap(name: str) -> None:
    habits = (streams.climb, streams.ordinary)
    assert sum(compare(name, whole(LENS, one_client(habit, 420))) for habit in habits) > 400


@pytest.mark.parametrize("seed", range(3))
def test_steering_equals_its_twin_with_more_classes_than_places(seed: int) -> None:
    events = views.mixed(seed, MANY, 300)
    assert len(set(events.label_key.tolist())) > 16
    assert compare("steering", whole(MANY, events)) > 100


@pytest.mark.parametrize("level", [OutputLevel.LABEL, OutputLevel.CONFIDENCE])
def test_steering_equals_its_twin_where_classes_are_replaced(level: OutputLevel) -> None:
    events = one_client(streams.ordinary, 300, MANY)
    events.output_level[:] = level
    events.scores = streams.batch([streams.Query("a", None, None)] * 300).scores
    view = whole(MANY, events)
    assert (view.replaced >= 0).sum() > 16
    assert compare("steering", view) > 100


@pytest.mark.parametrize("lens", [LENS, MANY], ids=["few classes", "many classes"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_become_the_numbers_that_their_twin_gives(lens: views.Lens, seed: int) -> None:
    events = views.mixed(seed, lens, 300)
    view = whole(lens, events)
    twins: dict[int, AnswersTwin] = defaultdict(AnswersTwin)
    for i, slot in enumerate(view.slot.tolist()):
        m = view.reference[i]
        values, labels, replaced = twins[slot].observe(
            events, i, int(view.scales.classes[m]), bool(view.scales.probability[m])
        )
        assert view.answer[i, : len(values)].tolist() == values
        assert view.places[i].tolist() == labels + [-1] * (16 - len(labels))
        assert view.replaced[i] == replaced


def test_probing_equals_its_twin_where_benign_rows_are_near_each_other() -> None:
    lens = views.Lens((6,))
    lens.baselines.scales.near_rate[0] = 0.3
    view = whole(lens, views.mixed(1, lens, 300))
    assert compare("probing", view) > 100
