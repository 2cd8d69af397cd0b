"""What every detector promises, as checks that any detector can be put through; each raises AssertionError.

`CHECKS` maps a promise to its check. A check takes the detector, a seed for the stream, and rows at which to cut it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detector.detectors import Detector, State, starved
from detector.events import EventBatch
from tests import streams, views

SLOTS = 8
LENS = views.Lens((6, 40), classes=3)
Columns = dict[str, Any]


def run(
    detector: Detector,
    batches: Sequence[EventBatch],
    slots: Any,
    state: State | None = None,
    memory: views.Memory | None = None,
) -> tuple[Columns, State]:
    """Let a detector read a stream batch by batch; returns whole columns and the state after it."""
    state = detector.state(SLOTS) if state is None else state
    memory = memory or views.Memory.of(SLOTS)
    parts: list[Mapping[str, Any]] = []
    start = 0
    for batch in batches:
        view = LENS.view(batch, slots[start : start + len(batch)], memory)
        parts.append(detector.observe(view, state))
        start += len(batch)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, state


def same_bytes(a: Columns, b: Columns, what: str) -> None:
    assert list(a) == list(b), f"{what}: {list(a)} is not {list(b)}"
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), f"{what}: {name} differs"


def rows_of(state: State, slots: Any) -> Columns:
    return {name: getattr(state, name)[slots] for name in state._fields}


def returns_its_signals(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """Exactly the declared signals, one float32 an event."""
    for batch in streams.splits(views.mixed(seed, LENS), cuts):
        view = LENS.view(batch, views.slots(batch), views.Memory.of(SLOTS))
        columns = detector.observe(view, detector.state(SLOTS))
        assert set(columns) == {signal.name for signal in detector.signals}
        for name, column in columns.items():
            assert name.startswith(f"{detector.name}."), name
            assert column.dtype == np.float32, f"{name} is {column.dtype}"
            assert column.shape == (len(batch),), f"{name} has shape {column.shape}"


def says_nan_where_starved(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """Nothing is said of an event that holds less detail than needed."""
    events = views.mixed(seed, LENS)
    columns, _ = run(detector, streams.splits(events, cuts), views.slots(events))
    short = starved(LENS.view(events, views.slots(events), views.Memory.of(SLOTS)), detector.need)
    for name, column in columns.items():
        assert np.isnan(column[short]).all(), f"{name} speaks where it is starved"


def does_not_see_batches(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """Any split gives the same bytes, in columns and in state."""
    events = views.mixed(seed, LENS)
    slots = views.slots(events)
    whole, state = run(detector, [events], slots)
    cut, cut_state = run(detector, streams.splits(events, cuts), slots)
    same_bytes(cut, whole, "columns")
    same_bytes(rows_of(cut_state, slice(None)), rows_of(state, slice(None)), "state")


def starts_anew_in_a_cleared_slot(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """A row of zeros is a new client, whoever had the slot before."""
    first, then = views.mixed(seed, LENS), views.mixed(seed + 1, LENS)
    memory = views.Memory.of(SLOTS)
    _, used = run(detector, [first], views.slots(first), memory=memory)
    for array in (*used, *memory.history, *memory.blocks, *memory.answers):
        array[:] = 0
    again, used = run(detector, streams.splits(then, cuts), views.slots(then), used, memory)
    fresh, state = run(detector, streams.splits(then, cuts), views.slots(then))
    same_bytes(again, fresh, "columns")
    same_bytes(rows_of(used, slice(None)), rows_of(state, slice(None)), "state")


def keeps_clients_apart(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """A client alone, in any slot, gets what it gets in company."""
    events = views.mixed(seed, LENS)
    slots = views.slots(events)
    together, state = run(detector, streams.splits(events, cuts), slots)
    for slot in np.unique(slots).tolist():
        mine = np.flatnonzero(slots == slot)
        elsewhere = np.full(len(mine), SLOTS - 1 - slot)
        alone, own = run(detector, [events.take(mine)], elsewhere)
        same_bytes({name: column[mine] for name, column in together.items()}, alone, f"columns of slot {slot}")
        same_bytes(rows_of(state, [slot]), rows_of(own, [SLOTS - 1 - slot]), f"state of slot {slot}")
    idle = np.setdiff1d(np.arange(SLOTS), slots)
    for name, rows in rows_of(state, idle).items():
        assert not rows.any(), f"{name} of a slot that nobody has"


def stays_within_its_range(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """Values lie between the declared low and high, or are NaN."""
    events = views.mixed(seed, LENS)
    columns, _ = run(detector, streams.splits(events, cuts), views.slots(events))
    for signal in detector.signals:
        values = columns[signal.name]
        values = values[~np.isnan(values)].astype(np.float64)
        outside = values[(values < signal.low) | (values > signal.high)]
        assert not len(outside), f"{signal.name}: {outside[:3]} outside {signal.low}..{signal.high}"


def keeps_nothing_outside_its_state(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """Two runs of the same instance, and one that goes on from a copy of the state, agree."""
    events = views.mixed(seed, LENS)
    slots = views.slots(events)
    first, state = run(detector, [events], slots)
    second, again = run(detector, [events], slots)
    same_bytes(second, first, "second run")
    half = cuts[0] % len(events) if cuts else len(events) // 2
    memory = views.Memory.of(SLOTS)
    if half:
        _, halfway = run(detector, [events.slice(0, half)], slots[:half], memory=memory)
        halfway = type(halfway)(*(array.copy() for array in halfway))
        rest, moved = run(detector, [events.slice(half, len(events))], slots[half:], halfway, memory)
        same_bytes(rest, {name: column[half:] for name, column in first.items()}, "rest")
        same_bytes(rows_of(moved, slice(None)), rows_of(again, slice(None)), "state")
    del state


def keeps_zeroed_rows_by_slot(detector: Detector, seed: int, cuts: Sequence[int]) -> None:
    """State is a NamedTuple of arrays, first axis the slot, all zero, of a size that does not grow."""
    del seed, cuts
    state = detector.state(SLOTS)
    for name in state._fields:
        array = getattr(state, name)
        assert array.shape[0] == SLOTS, name
        assert not array.any(), f"{name} does not begin with zeros"
        assert array.flags.writeable, name


Check = Callable[[Detector, int, Sequence[int]], None]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        returns_its_signals,
        says_nan_where_starved,
        does_not_see_batches,
        starts_anew_in_a_cleared_slot,
        keeps_clients_apart,
        stays_within_its_range,
        keeps_nothing_outside_its_state,
        keeps_zeroed_rows_by_slot,
    )
}


def slot_bytes(state: State) -> int:
    """Return how many bytes a client costs."""
    return sum(getattr(state, name)[:1].nbytes for name in state._fields)
