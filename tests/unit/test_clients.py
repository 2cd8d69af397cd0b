"""The client table: bounded, in stream order, and it never gives up a client under suspicion for a fresh one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.clients import Clients
from detector.events import I64


class Count(NamedTuple):
    """Events of each client."""

    events: I64


def table(capacity: int = 16, admit_after: int = 1) -> Clients:
    return Clients(capacity, admit_after, {"count": Count(np.zeros(capacity, np.int64))})


def feed(clients: Clients, keys: list[int], cuts: tuple[int, ...] = (), hot: int = 0) -> list[int]:
    """Let keys come, count each client's events in its state, and suspect keys up to `hot`; returns the slots."""
    given = np.array(keys, np.uint64)
    edges = sorted({0, len(keys), *(cut for cut in cuts if cut < len(keys))})
    out: list[int] = []
    for a, b in pairwise(edges):
        for start, stop, slots in clients.chunks(given[a:b], np.zeros(b - a, np.int32)):
            part = given[a:b][start:stop]
            kept = slots >= 0
            np.add.at(clients.states["count"].events, slots[kept], 1)
            clients.suspect(slots[kept], np.where(part[kept] <= hot, 5, 0).astype(np.float32)[None])
            out += slots.tolist()
    return out


def events_of(clients: Clients) -> dict[int, int]:
    """Return the counted events of each client that has a slot."""
    slots = np.flatnonzero(clients.table.key)
    return {int(clients.table.key[s]): int(clients.states["count"].events[s]) for s in slots}


def test_everyone_gets_a_slot_of_its_own_while_there_is_room() -> None:
    clients = table(16, admit_after=99)
    slots = feed(clients, [k % 8 + 1 for k in range(80)])
    assert events_of(clients) == dict.fromkeys(range(1, 9), 10)
    assert slots[:8] == slots[8:16] == sorted(set(slots))
    assert clients.followed == 8


def test_a_client_has_to_knock_once_half_of_the_table_is_taken() -> None:
    clients = table(16, admit_after=3)
    feed(clients, list(range(1, 10)))
    assert clients.followed == 9
    assert feed(clients, [50, 50]) == [-1, -1]
    assert feed(clients, [50])[0] >= 0
    assert clients.turned_away == 2


def test_the_door_forgets_with_age() -> None:
    clients = table(16, admit_after=4)
    feed(clients, list(range(1, 10)))
    feed(clients, [50, 50])
    clients.age()
    assert feed(clients, [50, 50]) == [-1, -1]
    assert feed(clients, [50])[0] >= 0


def test_an_evicted_client_leaves_nothing_behind() -> None:
    clients = table(16)
    feed(clients, [1] * 5 + list(range(2, 200)))
    assert clients.evicted == 199 - 16
    assert set(events_of(clients).values()) == {1}


def test_a_quiet_client_goes_before_one_that_came_lately() -> None:
    clients = table(16)
    keys = [50]  # where the hand begins
    for fresh in range(100, 400):
        keys += [1, fresh]
    feed(clients, keys)
    assert events_of(clients)[1] == 300


@pytest.mark.parametrize("admit_after", [1, 4])
def test_a_flood_of_fresh_ids_does_not_evict_a_client_under_suspicion(admit_after: int) -> None:
    clients = table(32, admit_after)
    feed(clients, [1, 2, 3] * 4, hot=3)
    flood = np.random.default_rng(0).integers(1000, 1 << 60, 5000).tolist()
    feed(clients, flood + flood)
    assert {1, 2, 3} <= set(events_of(clients))
    assert clients.followed <= 32
    assert clients.evicted > 0 or admit_after > 2


def test_a_table_full_of_suspects_still_takes_one_in() -> None:
    clients = table(16)
    feed(clients, list(range(1, 17)), hot=100)
    feed(clients, [50], hot=100)
    assert 50 in events_of(clients)
    assert clients.followed == 16


keys = st.lists(st.integers(1, 60), min_size=1, max_size=300)
cuts = st.lists(st.integers(0, 300), max_size=8).map(tuple)


@settings(max_examples=100, deadline=None)
@given(keys=keys, at=cuts, hot=st.sampled_from([0, 3, 12, 60]), admit_after=st.sampled_from([1, 2, 4]))
def test_any_split_gives_every_event_the_same_slot(
    keys: list[int], at: tuple[int, ...], hot: int, admit_after: int
) -> None:
    whole, split = table(16, admit_after), table(16, admit_after)
    assert feed(split, keys, at, hot) == feed(whole, keys, (), hot)
    for name, array in whole.export(0).items():
        np.testing.assert_array_equal(split.export(0)[name], array, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(keys=keys, later=keys, hot=st.sampled_from([0, 3]), admit_after=st.sampled_from([1, 4]))
def test_a_restored_table_goes_on_like_the_old_one(
    keys: list[int], later: list[int], hot: int, admit_after: int
) -> None:
    old, new = table(16, admit_after), table(16, admit_after)
    feed(old, keys, (), hot)
    new.restore(0, old.export(0))
    assert feed(new, later, (), hot) == feed(old, later, (), hot)
    assert events_of(new) == events_of(old)


@settings(max_examples=60, deadline=None)
@given(keys=keys)
def test_every_key_in_the_table_is_found_under_its_slot(keys: list[int]) -> None:
    clients = table(16)
    slots = feed(clients, keys)
    last: dict[int, Any] = dict(zip(keys, slots, strict=True))
    for key in events_of(clients):
        assert clients.table.key[last[key]] == key
    assert clients.followed == len(events_of(clients)) == len(set(events_of(clients)))


def test_a_table_of_another_size_takes_the_clients_over() -> None:
    old, new = table(64), table(16)
    feed(old, [k % 12 + 1 for k in range(100)])
    new.restore(0, old.export(0))
    assert events_of(new) == events_of(old)
    feed(old, list(range(1, 64)))
    crowd = old.export(0)
    with pytest.raises(ValueError, match=r"raise limits\.clients"):
        table(16).restore(0, crowd)


def test_a_dropped_partition_is_forgotten_and_its_slots_are_free() -> None:
    clients = table(16)
    for _ in clients.chunks(np.array([1, 2, 3, 4], np.uint64), np.array([0, 1, 0, 1], np.int32)):
        pass
    clients.states["count"].events[:] = 7
    clients.drop(0)
    assert set(events_of(clients)) == {2, 4}
    assert clients.followed == 2
    assert not clients.export(0)["client.key"].size
    feed(clients, [1, 3])
    assert events_of(clients)[1] == events_of(clients)[3] == 1
