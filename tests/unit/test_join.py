"""Requests and responses become whole calls, in either order, bounded, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.events import Flag, ModelRef
from detector.formats.calls import Call
from detector.formats.join import TTL_US, Joiner, Place, Placed

M = ModelRef("m", "1")


def half(side: Literal["request", "response"], time_us: int, join: str = "a", model: ModelRef = M) -> Call:
    body = {"request": None, "response": None, side: [[time_us]]}
    return Call(time_us, model, half=side, join=join, request=body["request"], response=body["response"])


def run(halves: list[Call], joiner: Joiner) -> list[Placed]:
    left = [placed for k, call in enumerate(halves) for placed in joiner.add(call, Place(0, k), 100)]
    return left + joiner.rest()


def test_either_order_gives_the_call_at_the_place_of_its_request() -> None:
    for order in ((0, 1), (1, 0)):
        halves = [half("request", 1_000), half("response", 4_000)]
        (found,) = run([halves[k] for k in order], Joiner())
        assert found.call.request == [[1_000]]
        assert found.call.response == [[4_000]]
        assert found.call.latency_ms == 3.0
        assert found.call.time_us == 1_000
        assert found.place == Place(0, order.index(0))
        assert found.call.flags == 0


def test_a_request_waits_for_thirty_seconds_of_event_time() -> None:
    on_time = run([half("request", 0), half("request", TTL_US, "b"), half("response", TTL_US)], Joiner())
    assert [placed.call.flags for placed in on_time] == [0, Flag.NO_RESPONSE]
    late = run([half("request", 0), half("request", TTL_US + 1, "b"), half("response", TTL_US + 1)], Joiner())
    assert [placed.call.flags for placed in late] == [Flag.NO_RESPONSE, Flag.NO_RESPONSE, Flag.ORPHAN]


def test_two_requests_with_one_id_are_kept_and_flagged() -> None:
    left = run([half("request", 1), half("request", 2), half("response", 3)], Joiner())
    assert [placed.call.flags for placed in left] == [Flag.ID_REUSE, Flag.ID_REUSE | Flag.NO_RESPONSE]
    assert left[0].call.request == [[1]]


def test_halves_of_two_models_are_not_joined_and_a_nameless_half_is() -> None:
    other, nameless = ModelRef("other", ""), ModelRef("", "")
    assert len(run([half("request", 1), half("response", 2, model=other)], Joiner())) == 2
    (found,) = run([half("request", 1, model=nameless), half("response", 2)], Joiner())
    assert found.call.model == M


def test_a_half_without_an_id_leaves_at_once() -> None:
    joiner = Joiner()
    (found,) = joiner.add(half("response", 1, join=""), Place(0, 0), 1)
    assert found.call.flags == Flag.ORPHAN
    assert len(joiner) == 0


def test_what_waits_is_bounded_by_number_bytes_and_id() -> None:
    fresh = [half("request", k, join=str(k)) for k in range(500)]
    for joiner in (Joiner(max_waiting=10), Joiner(max_bytes=1000)):
        left = [x for k, call in enumerate(fresh) for x in joiner.add(call, Place(0, k), 100)]
        assert len(joiner) == 10
        assert [placed.place.offset for placed in left] == list(range(490))  # the oldest first
        assert joiner.counts.evicted == 490
    joiner = Joiner()
    for k in range(500):
        joiner.add(half("request", k), Place(0, k), 100)
    assert len(joiner) == 64


halves = st.builds(
    half,
    st.sampled_from(["request", "response"]),
    st.integers(0, 3 * TTL_US),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from([M, ModelRef("n", ""), ModelRef("", "")]),
)


@settings(max_examples=200, deadline=None)
@given(calls=st.lists(halves, max_size=30))
def test_every_half_leaves_exactly_once(calls: list[Call]) -> None:
    joiner = Joiner(max_waiting=8)
    left = run(calls, joiner)
    out = Counter(str(body) for x in left for body in (x.call.request, x.call.response) if body is not None)
    assert out == Counter(str(call.request or call.response) for call in calls)
    joined = sum(x.call.request is not None and x.call.response is not None for x in left)
    assert (joined, len(left)) == (joiner.counts.joined, len(calls) - joined)
    assert all(
        bool(x.call.flags & (Flag.NO_RESPONSE | Flag.ORPHAN)) == (not x.call.request or not x.call.response)
        for x in left
    )
    assert len(joiner) == 0
