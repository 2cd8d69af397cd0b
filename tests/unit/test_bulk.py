"""The bulk protocol: bounded requests, and every item's answer read for what it means."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.stores import StoreUnavailableError, bulk

SEQ = {"_seq_no": 3, "_primary_term": 1}


def _actions(sizes: list[int]) -> list[bulk.Action]:
    return [bulk.Action("create", "i", str(n), b'"' + b"x" * size + b'"') for n, size in enumerate(sizes)]


def _patience(limit_s: float = 60.0) -> bulk.Patience:
    return bulk.Patience(limit_s, sleep=lambda _: None)


@given(st.lists(st.sampled_from([10, 1000, bulk.MAX_BYTES // 3, bulk.MAX_BYTES + 1]), max_size=12), st.data())
def test_every_action_gets_its_own_outcome_whatever_is_refused_or_retried(
    sizes: list[int], data: st.DataObject
) -> None:
    actions = _actions(sizes)
    fate = {a.id: data.draw(st.sampled_from([201, 409, 400])) for a in actions}
    full = {a.id: data.draw(st.integers(0, 3)) for a in actions}  # so many times overloaded before that

    def send(lines: list[bytes]) -> list[dict[str, Any]]:
        assert len(lines) <= 2 * bulk.MAX_ACTIONS
        assert len(lines) == 2 or sum(map(len, lines)) <= bulk.MAX_BYTES
        items = []
        for head in lines[::2]:
            identity = orjson.loads(head)["create"]["_id"]
            status = 429 if full[identity] > 0 else fate[identity]
            full[identity] -= 1
            items.append({"create": {"status": status, "error": {"type": "mapper_parsing_exception"}, **SEQ}})
        return items

    outcomes = bulk.run(actions, send, _patience())
    assert [o.status for o in outcomes] == [fate[a.id] for a in actions]


def test_many_actions_are_sent_in_several_requests() -> None:
    sent: list[int] = []

    def send(lines: list[bytes]) -> list[dict[str, Any]]:
        sent.append(len(lines) // 2)
        return [{"create": {"status": 201, **SEQ}}] * (len(lines) // 2)

    bulk.run(_actions([10] * (2 * bulk.MAX_ACTIONS + 7)), send, _patience())
    assert sent == [bulk.MAX_ACTIONS, bulk.MAX_ACTIONS, 7]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "index_closed_exception"),
        (400, "validation_exception"),  # the cluster has its maximum of shards
        (401, "security_exception"),
        (403, "cluster_block_exception"),
        (404, "index_not_found_exception"),
    ],
)
def test_a_fault_that_is_not_the_documents_makes_the_store_unavailable(status: int, kind: str) -> None:
    item = {"create": {"_index": "i", "status": status, "error": {"type": kind, "reason": "because"}}}
    with pytest.raises(StoreUnavailableError, match=f"{status}.*{kind}: because"):
        bulk.run(_actions([1]), lambda _: [item], _patience())


def test_a_document_that_is_too_large_by_itself_is_refused_alone() -> None:
    def send(lines: list[bytes]) -> list[dict[str, Any]]:
        if any(len(line) > 5000 for line in lines):
            raise bulk.RequestTooLargeError("limit is 5000")
        return [{"create": {"status": 201, **SEQ}}] * (len(lines) // 2)

    outcomes = bulk.run(_actions([1, 2, 6000, 3, 4]), send, _patience())
    assert [o.status for o in outcomes] == [201, 201, 413, 201, 201]
    assert outcomes[2].reason == "limit is 5000"


def test_an_answer_with_too_few_items_is_not_believed() -> None:
    with pytest.raises(StoreUnavailableError, match="1 items to 2 actions"):
        bulk.run(_actions([1, 1]), lambda _: [{"create": {"status": 201, **SEQ}}], _patience(0.0))


def test_pauses_grow_with_jitter_and_end_with_the_patience() -> None:
    pauses: list[float] = []
    patience = bulk.Patience(3600, sleep=pauses.append)
    for _ in range(9):
        patience.wait("down")
    assert all(
        0.5 * nominal <= p <= nominal for p, nominal in zip(pauses, [0.1 * 2**i for i in range(6)], strict=False)
    )
    assert max(pauses) <= 5.0
    assert len(set(pauses)) == len(pauses)
    with pytest.raises(StoreUnavailableError, match=r"down \(tried for 0 s\)"):
        bulk.Patience(0, sleep=pauses.append).wait("down")
