"""What analysts may do with an alert, whatever they try and in whatever order."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.alerts import Document
from detector.lifecycle import DISPOSITIONS, FIELDS, NEXT, STATUSES, Change, RefusedError, apply
from detector.stores import episodes
from tests.alert_samples import make_document

CHANGES = st.builds(
    Change,
    action=st.sampled_from(["ack", "assign", "note", "close", "reopen"]),
    who=st.sampled_from(["anna", "bob"]),
    time_us=st.integers(0, 10**15),
    status=st.sampled_from(["", "investigating", "contained"]),
    assignee=st.sampled_from(["anna", "bob", "cleo"]),
    taken_from=st.sampled_from(["", "anna", "bob"]),
    disposition=st.sampled_from(["", *DISPOSITIONS]),
)


def new() -> Document:
    return episodes.begin([make_document("default")])


def after(*changes: Change) -> Document:
    state = new()
    for change in changes:
        state, _ = apply(state, change)
    return state


ACK = Change("ack", "anna", 1_000_000)
CLOSE = Change("close", "anna", 2_000_000, disposition="false_positive.logic")


@given(st.lists(CHANGES, max_size=12))
def test_whatever_is_tried_only_allowed_steps_are_taken_and_each_has_its_entry(changes: list[Change]) -> None:
    state, log = new(), []
    for change in changes:
        before = copy.deepcopy(state)
        try:
            state, entry = apply(state, change)
        except RefusedError:
            assert state == before
            continue
        log.append(entry)
        step = entry["querywatch"]["triage"]
        assert step["from"] == before["querywatch"]["status"]
        assert step["to"] == state["querywatch"]["status"]
        assert step["to"] == step["from"] or step["to"] in NEXT[step["from"]]
        assert entry["user"]["id"] == change.who
        without = {k: v for k, v in state["querywatch"].items() if k not in FIELDS}
        assert without == {k: v for k, v in before["querywatch"].items() if k not in FIELDS}
    own = state["querywatch"]
    assert own.get("changes", 0) == len(log)
    assert [e["querywatch"]["triage"]["number"] for e in log] == list(range(1, len(log) + 1))
    assert (own["status"] == "closed") == ("disposition" in own) == ("closed_at" in own)
    assert own["status"] == "new" or own["assignee"]


def test_the_second_who_takes_an_alert_is_told_who_has_it_and_since_when() -> None:
    with pytest.raises(RefusedError, match=r"anna has it .acknowledged since 1970-01-01 00:00:01 UTC"):
        apply(after(ACK), Change("ack", "bob", 5))
    with pytest.raises(RefusedError, match="it is acknowledged already"):
        apply(after(ACK), ACK)


def test_an_alert_that_the_lead_assigned_is_acknowledged_by_its_owner_only() -> None:
    given_to_bob = Change("assign", "lead", 1, assignee="bob")
    with pytest.raises(RefusedError, match="bob has it"):
        apply(after(given_to_bob), ACK)
    state = after(given_to_bob, Change("ack", "bob", 2))
    assert state["querywatch"]["status"] == "acknowledged"


def test_an_alert_of_somebody_else_is_assigned_only_by_naming_who_has_it() -> None:
    take = Change("assign", "bob", 3, assignee="bob")
    with pytest.raises(RefusedError, match="anna has it"):
        apply(after(ACK), take)
    with pytest.raises(RefusedError, match="anna has it by now, not cleo"):
        apply(after(ACK), Change("assign", "bob", 3, assignee="bob", taken_from="cleo"))
    state, entry = apply(after(ACK), Change("assign", "bob", 3, assignee="bob", taken_from="anna"))
    assert state["querywatch"]["assignee"] == "bob"
    assert entry["message"] == "bob assigned to bob"
    assert apply(after(ACK), Change("assign", "anna", 3, assignee="bob"))[0]["querywatch"]["assignee"] == "bob"


def test_nothing_is_closed_without_a_disposition_or_before_anybody_acknowledged_it() -> None:
    with pytest.raises(RefusedError, match="closing needs a disposition: true_positive"):
        apply(after(ACK), Change("close", "anna", 2))
    with pytest.raises(RefusedError, match="from new it can become acknowledged"):
        apply(new(), CLOSE)


def test_a_reopened_alert_has_no_disposition_and_keeps_when_it_was_first_acknowledged() -> None:
    state, entry = apply(after(ACK, CLOSE), Change("reopen", "bob", 9_000_000, note="again"))
    own = state["querywatch"]
    assert (own["status"], own["assignee"], own["acknowledged_at"]) == (
        "acknowledged",
        "bob",
        "1970-01-01T00:00:01.000000Z",
    )
    assert entry["message"] == "bob reopened, closed → acknowledged"
    assert entry["querywatch"]["triage"]["reason"] == "again"


def test_every_status_can_be_reached_and_left() -> None:
    assert set(NEXT) == set(STATUSES)
    assert {step for steps in NEXT.values() for step in steps} == set(STATUSES) - {"new"}
