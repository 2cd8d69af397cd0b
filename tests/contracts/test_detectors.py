"""Every detector that is found keeps the contract; detectors that break it are caught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.answers import answer_state
from detector.blocks import block_state
from detector.detectors import Detector, Need, Signal, View, discover
from detector.events import F32, F64, I64, InputLevel, OutputLevel
from detector.history import history_state
from tests.contracts import detector_suite
from tests.contracts.detector_suite import CHECKS, slot_bytes

BUDGET = 42 * 1024
cuts = st.lists(st.integers(0, 160), max_size=6)


@pytest.mark.parametrize("promise", CHECKS)
@pytest.mark.parametrize("detector", discover(), ids=lambda d: d.name)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=cuts)
def test_a_detector_keeps_its_promise(detector: Detector, promise: str, seed: int, cuts: list[int]) -> None:
    CHECKS[promise](detector, seed, cuts)


@pytest.mark.parametrize("detector", discover(), ids=lambda d: d.name)
def test_batches_of_one_give_the_bytes_of_one_batch(detector: Detector) -> None:
    detector_suite.does_not_see_batches(detector, 5, range(160))


def test_a_client_costs_at_most_42_kilobytes() -> None:
    states = [history_state(1), block_state(1), answer_state(1), *(d.state(1) for d in discover())]
    assert sum(slot_bytes(state) for state in states) <= BUDGET


def test_names_and_signals_are_unique_and_described() -> None:
    signals = [signal for d in discover() for signal in d.signals]
    assert len({d.name for d in discover()}) == len(discover())
    assert len({signal.name for signal in signals}) == len(signals)
    for signal in signals:
        assert signal.low < signal.high
        assert signal.unit
        assert signal.meaning


class CountState(NamedTuple):
    """Events of each client."""

    events: I64


class Honest:
    """Counts a client's events: the least that a detector can do right."""

    name = "honest"
    version = 1
    need = Need(InputLevel.NONE, OutputLevel.LABEL)
    signals: tuple[Signal, ...] = (Signal("honest.count", "events", 0, 1e9, "events so far"),)

    def state(self, capacity: int) -> CountState:
        return CountState(np.zeros(capacity, np.int64))

    def observe(self, view: View, state: CountState) -> Mapping[str, F32]:
        return {"honest.count": self.counted(view, state).astype(np.float32)}

    def counted(self, view: View, state: CountState) -> F64:
        out = np.full(len(view.slot), np.nan)
        for i, slot in enumerate(view.slot.tolist()):
            if view.batch.output_level[i] >= OutputLevel.LABEL:
                state.events[slot] += 1
                out[i] = state.events[slot]
        return out


class BatchBound(Honest):
    """Measures against the batch that happens to be there."""

    def observe(self, view: View, state: CountState) -> Mapping[str, F32]:
        out = self.counted(view, state)
        return {"honest.count": (out / np.nanmax(np.append(out, 1))).astype(np.float32)}


class Forgetful(Honest):
    """Says the right thing, but loses an event of its state at every end of a batch."""

    def observe(self, view: View, state: CountState) -> Mapping[str, F32]:
        columns = super().observe(view, state)
        state.events[view.slot[-1:]] -= 1
        return columns


class Leaky(Honest):
    """Counts for the neighbouring slot as well."""

    def counted(self, view: View, state: CountState) -> F64:
        out = super().counted(view, state)
        state.events[(view.slot + 1) % len(state.events)] += 1
        return out


class Hoarder(Honest):
    """Keeps its count in itself."""

    def __init__(self) -> None:
        self.total = 0

    def counted(self, view: View, state: CountState) -> F64:
        out = super().counted(view, state)
        self.total += len(view.slot)
        return out + self.total


class Misnamed(Honest):
    """Returns a column that it never declared."""

    def observe(self, view: View, state: CountState) -> Mapping[str, F32]:
        return {"honest.counts": super().observe(view, state)["honest.count"]}


class Wide(Honest):
    """Returns doubles."""

    def observe(self, view: View, state: CountState) -> Mapping[str, Any]:
        return {"honest.count": self.counted(view, state)}


class Short(Honest):
    """Leaves out the last event."""

    def observe(self, view: View, state: CountState) -> Mapping[str, F32]:
        return {"honest.count": super().observe(view, state)["honest.count"][:-1]}


class Talkative(Honest):
    """Says 0 where it knows nothing."""

    def counted(self, view: View, state: CountState) -> F64:
        return np.asarray(np.nan_to_num(super().counted(view, state)))


class Boundless(Honest):
    """Leaves the range that it declared."""

    def counted(self, view: View, state: CountState) -> F64:
        return -super().counted(view, state)


class Preset(Honest):
    """Begins with something else than zeros, so that a cleared slot is no new client."""

    def state(self, capacity: int) -> CountState:
        return CountState(np.ones(capacity, np.int64))


def test_an_honest_detector_passes_the_suite() -> None:
    for check in CHECKS.values():
        check(Honest(), 1, [40, 80])


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (BatchBound(), "does_not_see_batches"),
        (Forgetful(), "does_not_see_batches"),
        (Leaky(), "keeps_clients_apart"),
        (Hoarder(), "keeps_nothing_outside_its_state"),
        (Hoarder(), "starts_anew_in_a_cleared_slot"),
        (Misnamed(), "returns_its_signals"),
        (Wide(), "returns_its_signals"),
        (Short(), "returns_its_signals"),
        (Talkative(), "says_nan_where_starved"),
        (Boundless(), "stays_within_its_range"),
        (Preset(), "keeps_zeroed_rows_by_slot"),
        (Preset(), "starts_anew_in_a_cleared_slot"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_the_suite_catches_a_detector_that_breaks_its_promise(wrong: Detector, promise: str) -> None:
    with pytest.raises(AssertionError):
        CHECKS[promise](wrong, 1, [40, 80])
