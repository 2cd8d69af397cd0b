"""What every alert store must do with the changes that analysts make, and with the log of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from detector.alerts import Document, rfc3339
from detector.lifecycle import Change
from detector.stores import AlertQuery, AlertStore, Documents, Triaged
from tests.alert_samples import START_US, escalated, make_document

NS = "contract"
NOW_US = START_US + 7_200_000_000
Open = Callable[..., AlertStore]  # open(replay=False): another handle on the same alerts, as a restart would take


def identity(document: Document) -> str:
    return str(document["querywatch"]["alert_id"])


def everything(store: AlertStore, document: Document) -> tuple[Documents, Document | None, Documents]:
    return store.list(AlertQuery()), store.get(identity(document)), store.events(identity(document))


def check_a_change_is_in_the_state_and_in_the_log(open_store: Open) -> None:
    store = open_store()
    document = make_document(NS)
    store.write([document])
    assert store.log(identity(document)) == []
    changes = [
        Change("assign", "lead", NOW_US, assignee="anna"),
        Change("ack", "anna", NOW_US + 1),
        Change("note", "anna", NOW_US + 2, note="\x1b[31m' OR 1=1", status="investigating"),
        Change("close", "anna", NOW_US + 3, note="a job", disposition="benign_positive"),
        Change("reopen", "bob", NOW_US + 4, note="not a job"),
    ]
    for change in changes:
        (done,) = store.triage([identity(document)], change)
        assert done.refused == ""
        assert done.state == store.get(identity(document))
    entries = open_store().log(identity(document))
    assert [e["user"]["id"] for e in entries] == ["lead", "anna", "anna", "anna", "bob"]
    assert [e["@timestamp"] for e in entries] == [rfc3339(change.time_us) for change in changes]
    steps = [e["querywatch"]["triage"] for e in entries]
    assert [(s["from"], s["to"]) for s in steps] == [
        ("new", "new"),
        ("new", "acknowledged"),
        ("acknowledged", "investigating"),
        ("investigating", "closed"),
        ("closed", "acknowledged"),
    ]
    assert steps[2]["reason"] == "\x1b[31m' OR 1=1"
    assert steps[3]["disposition"] == "benign_positive"
    assert store.log() == entries
    own = open_store().list(AlertQuery(owner="bob", status="acknowledged"))[0]["querywatch"]
    assert not {"disposition", "closed_at", "unlogged", "pending"} & set(own)
    assert own["acknowledged_at"] == rfc3339(NOW_US + 1)
    assert own["raised_at"] == document["event"]["created"]


def check_a_list_of_some_fields_is_that_part_of_the_whole(open_store: Open) -> None:
    store = open_store()
    store.write([make_document(NS, client_id=f"key-{i}", start_s=i) for i in range(3)])
    store.write([make_document(NS, "replay")])
    fields = ("rule.id", "related.user", "querywatch.disposition", "querywatch.episode.suppressed")
    parts = [
        {
            "rule": {"id": "inversion-ascent"},
            "related": {"user": [f"key-{i}"]},
            "querywatch": {"episode": {"suppressed": 0}},
        }
        for i in (2, 1, 0)
    ]
    assert store.list(AlertQuery(fields=fields)) == parts
    assert store.list(AlertQuery(fields=fields, client="key-1", limit=1)) == parts[1:2]
    assert store.list(AlertQuery(fields=("rule.id",), limit=2)) == [{"rule": {"id": "inversion-ascent"}}] * 2
    (replayed,) = open_store(replay=True).list(AlertQuery(fields=("user.id",)))
    assert replayed == {"user": {"id": "key-7"}}


def check_a_refused_change_leaves_no_trace(open_store: Open) -> None:
    store = open_store()
    document, other = make_document(NS), make_document(NS, client_id="key-8")
    store.write([document, other])
    before = everything(store, document)
    close = Change("close", "anna", NOW_US, disposition="true_positive")
    refused, unknown = store.triage([identity(document), "0" * 32], close)
    assert "it is new and cannot become closed" in refused.refused
    assert "no such alert" in unknown.refused
    assert refused.state is unknown.state is None
    assert everything(store, document) == before
    assert store.log() == []
    assert store.triage([], close) == []


def check_analysts_at_the_same_time_take_an_alert_once(open_store: Open) -> None:
    documents = [make_document(NS, client_id=f"key-{i}") for i in range(8)]
    ids = [identity(d) for d in documents]
    open_store().write(documents)

    def take(who: str) -> list[Triaged]:
        store = open_store()
        return [done for alert in ids for done in store.triage([alert], Change("ack", who, NOW_US))]

    names = ("anna", "bob", "cleo")
    with ThreadPoolExecutor(3) as pool:
        results = dict(zip(names, pool.map(take, names), strict=True))
    store = open_store()
    for k, alert in enumerate(ids):
        winners = [who for who in names if not results[who][k].refused]
        state = store.get(alert)
        assert state is not None
        assert winners == [state["querywatch"]["assignee"]]
        assert [e["user"]["id"] for e in store.log(alert)] == winners
        for who in set(names) - set(winners):
            assert results[who][k].refused.startswith(f"{winners[0]} has it (acknowledged since 20")


def check_many_alerts_change_at_once_each_with_its_entry(open_store: Open) -> None:
    documents = [make_document(NS, client_id=f"key-{i}") for i in range(620)]
    ids = [identity(d) for d in documents]
    store = open_store()
    store.write(documents)
    store.triage(ids[:1], Change("ack", "bob", NOW_US))
    done = store.triage([*ids, ids[3]], Change("ack", "anna", NOW_US + 1))
    assert [d.alert_id for d in done] == ids
    assert [d.alert_id for d in done if d.refused] == ids[:1]
    assert len(store.list(AlertQuery(owner="anna", limit=1000))) == 619
    assert len(store.log()) == 620


def check_what_comes_later_keeps_what_analysts_said(open_store: Open) -> None:
    store = open_store()
    document = make_document(NS)
    store.write([document])
    store.triage([identity(document)], Change("ack", "anna", NOW_US))
    before = store.get(identity(document))
    store.write([escalated(NS, created_s=5000)])
    (state,) = store.list(AlertQuery(owner="anna", severities=("critical",)))
    assert before is not None
    names = ("status", "assignee", "acknowledged_at", "raised_at", "changed", "changes")
    assert [state["querywatch"][n] for n in names] == [before["querywatch"][n] for n in names]
    assert len(store.log(identity(document))) == 1


def check_results_of_replays_are_not_triaged(open_store: Open) -> None:
    document = make_document(NS, "replay")
    open_store().write([document])
    reader = open_store(replay=True)
    (done,) = reader.triage([identity(document)], Change("ack", "anna", NOW_US))
    assert "not triaged" in done.refused
    assert reader.log() == []
