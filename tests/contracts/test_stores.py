"""What every alert store must do. The suite is itself held against a store that does everything wrong."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from detector.alerts import Document
from detector.lifecycle import Change
from detector.settings import ElasticsearchSettings
from detector.stores import AlertQuery, AlertStore, Documents, Triaged, Written
from detector.stores.elastic import ElasticStore
from detector.stores.sqlite import SqliteStore
from tests.alert_samples import START_US, escalated, make_document
from tests.contracts import triage_suite
from tests.contracts.triage_suite import NOW_US, NS, Open, everything, identity


def check_an_alert_is_read_back_as_it_was_written(open_store: Open) -> None:
    document = make_document(NS)
    store = open_store()
    assert _counts(store.write([document])) == (1, 0, 0)
    (event,) = store.events(identity(document))
    ingested = event["event"].pop("ingested")
    assert ingested > document["event"]["created"]
    assert event == document
    state = store.get(identity(document))
    assert state is not None
    assert state["querywatch"]["status"] == "new"
    assert not {"pending", "written", "refused", "unwritten"} & set(state["querywatch"])
    assert state["event"]["reason"] == document["event"]["reason"]
    assert store.list(AlertQuery()) == [state]


def check_what_was_written_survives_a_restart(open_store: Open) -> None:
    store = open_store()
    store.write([make_document(NS)])
    store.close()
    store.close()
    assert [identity(s) for s in open_store().list(AlertQuery())] == [identity(make_document(NS))]


def check_an_event_that_comes_again_is_a_duplicate_and_changes_nothing(open_store: Open) -> None:
    first, second = make_document(NS), escalated(NS)
    store = open_store()
    assert _counts(store.write([first, second, first])) == (2, 1, 0)
    before = everything(store, first)
    again = [make_document(NS, created_s=5000), escalated(NS, created_s=5000)]
    assert _counts(open_store().write(again)) == (0, 2, 0)
    assert everything(store, first) == before


def check_events_in_any_order_give_the_same_state(open_store: Open) -> None:
    states = []
    for i, order in enumerate(itertools.permutations(range(3))):
        client: dict[str, Any] = {"client_id": f"key-{i}"}
        events = [
            make_document(NS, **client),
            escalated(NS, "high", 200, **client),
            escalated(NS, "critical", 300, **client),
        ]
        store = open_store()
        for k in order:
            store.write([events[k]])
        state = store.get(identity(events[0]))
        assert state is not None
        assert [e["querywatch"]["severity"] for e in store.events(identity(state))] == ["medium", "high", "critical"]
        assert state["@timestamp"] == events[2]["@timestamp"]
        states.append(_without_ids(state))
    assert states == [states[0]] * 6


def check_an_escalation_raises_severity_and_counters_of_the_same_alert(open_store: Open) -> None:
    store = open_store()
    store.write([make_document(NS)])
    store.write([escalated(NS)])
    (state,) = store.list(AlertQuery())
    assert state["querywatch"]["severity"] == "critical"
    assert state["event"]["severity"] == 99
    assert state["querywatch"]["queries"] == 900
    assert state["querywatch"]["episode"]["suppressed"] == 40
    assert state["querywatch"]["status"] == "new"


def check_the_list_is_newest_first_and_bounded(open_store: Open) -> None:
    store = open_store()
    store.write([make_document(NS, client_id=f"key-{i}", start_s=i * 0.000_003) for i in (2, 0, 4, 1, 3)])
    assert [s["user"]["id"] for s in store.list(AlertQuery())] == ["key-4", "key-3", "key-2", "key-1", "key-0"]
    assert [s["user"]["id"] for s in store.list(AlertQuery(limit=2))] == ["key-4", "key-3"]


def check_every_filter_keeps_what_matches_only(open_store: Open) -> None:
    store = open_store()
    store.write(
        [
            make_document(NS),
            make_document(NS, client_id="key-8", severity="high", start_s=3600),
            make_document(NS, client_id="key-9", model="face", start_s=7200, rule={"id": "other", "uuid": "u-2"}),
            make_document(NS, client_id="key-1", start_s=9000, members=("key-1", "key-2", "key-3")),
        ]
    )

    def clients(**filters: Any) -> list[str]:
        return [s["user"]["id"] for s in store.list(AlertQuery(**filters))]

    second_us = START_US + 3_660_000_000
    assert clients() == ["key-1", "key-9", "key-8", "key-7"]
    assert clients(severities=("high",)) == ["key-8"]
    assert clients(severities=("high", "critical")) == ["key-8"]
    assert clients(rule="other") == ["key-9"]
    assert clients(model="face") == ["key-9"]
    assert clients(client="key-7") == ["key-7"]
    assert clients(client="key-3") == ["key-1"], "a member of a campaign finds the campaign"
    assert clients(status="new") == ["key-1", "key-9", "key-8", "key-7"]
    assert clients(status="closed") == []
    assert clients(since_us=second_us) == ["key-1", "key-9", "key-8"]
    assert clients(since_us=second_us + 1) == ["key-1", "key-9"]
    assert clients(until_us=second_us) == ["key-7"]
    assert clients(until_us=second_us + 1, since_us=second_us, model="credit") == ["key-8"]
    assert clients(client="key' OR 1=1 --") == []
    assert clients(owner="anna") == []
    store.triage([identity(make_document(NS))], Change("ack", "anna", NOW_US))
    assert clients(owner="anna") == clients(status="acknowledged") == ["key-7"]


def check_an_alert_is_found_by_the_start_of_its_id_when_only_one_has_it(open_store: Open) -> None:
    store = open_store()
    documents = [make_document(NS, client_id=f"key-{i}") for i in range(3)]
    store.write(documents)
    whole = identity(documents[0])
    for start in (whole, whole[:8]):
        found = store.get(start)
        assert found is not None
        assert identity(found) == whole
    assert store.get(whole[:3]) is None, "too short"
    assert store.get("zzzz") is None
    assert store.get("%%%%") is None
    assert store.events("zzzz") == []
    common = _two_with_a_common_start(NS)
    store.write(common)
    assert store.get(identity(common[0])[:4]) is None, "two have it"
    assert store.get(identity(common[0])) is not None


def check_replayed_alerts_never_reach_the_live_ones(open_store: Open) -> None:
    live, replayed = make_document(NS), make_document(NS, "replay", client_id="key-8")
    store = open_store()
    assert _counts(store.write([live, replayed])) == (2, 0, 0)
    assert _counts(store.write([replayed])) == (0, 1, 0)
    assert [s["user"]["id"] for s in store.list(AlertQuery())] == ["key-7"]
    assert store.get(identity(replayed)) is None
    assert store.events(identity(replayed)) == []
    reader = open_store(replay=True)
    assert [s["user"]["id"] for s in reader.list(AlertQuery())] == ["key-8"]
    assert reader.list(AlertQuery(client="key-7")) == []
    assert reader.get(identity(live)) is None
    state = reader.get(identity(replayed)[:12])
    assert state is not None
    assert state["querywatch"]["status"] == "new"
    assert len(reader.events(identity(replayed))) == 1


def check_a_replay_with_a_changed_rule_replaces_the_older_result(open_store: Open) -> None:
    store, reader = open_store(), open_store(replay=True)
    store.write([make_document(NS, "replay", severity="high")])
    store.write([make_document(NS, "replay", created_s=60, rule={"hash": "tuned"}, reason="after tuning")])
    (state,) = reader.list(AlertQuery())
    assert state["querywatch"]["rule_hash"] == "tuned"
    assert state["querywatch"]["severity"] == "medium"
    assert [e["event"]["reason"] for e in reader.events(identity(state))] == ["after tuning"]


def check_a_document_that_is_no_unicode_is_rejected_and_the_others_stored(open_store: Open) -> None:
    store = open_store()
    bad = make_document(NS, client_id="key-8", reason="half a sign: \ud800")
    good = make_document(NS)
    written = store.write([bad, good])
    assert _counts(written) == (1, 0, 1)
    assert written.rejected[0].document is bad
    assert written.rejected[0].reason
    assert [s["user"]["id"] for s in store.list(AlertQuery())] == ["key-7"]


def check_hostile_texts_come_back_unchanged(open_store: Open) -> None:
    texts = ["'; DROP TABLE alert_state; --", "\x1b[31mred\x00\r\n", "ключ-💥", "x" * 5000]
    store = open_store()
    store.write([make_document(NS, client_id=text, start_s=i) for i, text in enumerate(texts)])
    assert [s["user"]["id"] for s in store.list(AlertQuery())] == texts[::-1]


def check_many_alerts_at_once_are_all_stored_and_listed(open_store: Open) -> None:
    documents = [make_document(NS, client_id=f"key-{i}", start_s=i // 2) for i in range(1203)]
    store = open_store()
    assert _counts(store.write(documents)) == (1203, 0, 0)
    found = store.list(AlertQuery(limit=5000))
    expected = sorted(documents, key=identity)
    expected.sort(key=lambda d: str(d["@timestamp"]), reverse=True)
    assert [identity(s) for s in found] == [identity(d) for d in expected]
    assert [identity(s) for s in store.list(AlertQuery(limit=600))] == [identity(d) for d in expected[:600]]


def check_writers_at_the_same_time_store_each_event_once(open_store: Open) -> None:
    documents = [f(NS, client_id=f"key-{i}") for i in range(20) for f in (make_document, escalated)]

    def write(shift: int) -> Written:
        store = open_store()
        total = Written()
        for k in range(len(documents)):
            part = store.write([documents[(k + shift) % len(documents)]])
            total.stored += part.stored
            total.duplicates += part.duplicates
        store.close()
        return total

    with ThreadPoolExecutor(3) as pool:
        totals = list(pool.map(write, (0, 1, 2)))
    store = open_store()
    states = store.list(AlertQuery())
    assert [s["querywatch"]["severity"] for s in states] == ["critical"] * 20
    assert all(len(store.events(identity(s))) == 2 for s in states)
    assert sum(t.stored + t.duplicates for t in totals) == 3 * len(documents)
    assert sum(t.stored for t in totals) <= len(documents)  # less, where one completed what another had begun


def check_setup_can_run_twice_and_dry_run_changes_nothing(open_store: Open) -> None:
    store = open_store()
    would = store.setup(dry_run=True)
    done = store.setup()
    assert would
    assert done
    store.write([make_document(NS)])
    assert store.setup()
    assert store.setup(dry_run=True)
    assert len(store.list(AlertQuery())) == 1


def check_an_empty_store_has_no_alerts(open_store: Open) -> None:
    store = open_store()
    assert store.list(AlertQuery()) == []
    assert store.get("0000") is None
    assert store.events("0" * 32) == []
    assert store.log() == []
    assert _counts(store.write([])) == (0, 0, 0)


CHECKS = [value for name, value in sorted({**globals(), **vars(triage_suite)}.items()) if name.startswith("check_")]


# -- the stores that are held to it --------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_sqlite(check: Callable[[Open], None], tmp_path: Path) -> None:
    _run(check, lambda replay=False: SqliteStore(tmp_path / "alerts.sqlite", NS, replay=replay))


@pytest.mark.integration
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_elasticsearch(check: Callable[[Open], None], elasticsearch_url: str, fresh_name: str) -> None:
    settings = ElasticsearchSettings(url=elasticsearch_url)
    _run(check, lambda replay=False: ElasticStore(settings, fresh_name, replay=replay))


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_a_wrong_store_fails_every_check(check: Callable[[Open], None]) -> None:
    store = WrongStore()
    with pytest.raises((AssertionError, ValueError, KeyError)):
        check(lambda replay=False: store)  # noqa: ARG005


class WrongStore:
    """Keeps whatever comes, forgets it when closed, filters nothing and has one alert too many."""

    def __init__(self) -> None:
        self.documents: Documents = [make_document(NS, client_id="ghost")]

    def setup(self, *, dry_run: bool = False) -> list[str]:
        return [] if dry_run else ["made"]

    def write(self, documents: Sequence[Document]) -> Written:
        self.documents.extend(copy.deepcopy(list(documents)))
        return Written(stored=max(1, len(documents)))

    def list(self, query: AlertQuery) -> Documents:
        return self.documents[: query.limit + 1]

    def get(self, alert_id: str) -> Document | None:
        return next(
            (d for d in self.documents if identity(d) >= alert_id), self.documents[0] if self.documents else None
        )

    def events(self, alert_id: str) -> Documents:
        return [d for d in self.documents if identity(d) <= alert_id]

    def triage(self, alert_ids: Sequence[str], change: Change) -> Sequence[Triaged]:
        del change
        return [Triaged(alert, self.documents[0]) for alert in alert_ids]

    def log(self, alert_id: str = "") -> Documents:
        return self.events(alert_id or "g")

    def close(self) -> None:
        self.documents.clear()


def _run(check: Callable[[Open], None], open_store: Open) -> None:
    opened: list[AlertStore] = []

    def remember(replay: bool = False) -> AlertStore:
        opened.append(open_store(replay=replay))
        return opened[-1]

    try:
        check(remember)
    finally:
        for store in opened:
            store.close()


def _counts(written: Written) -> tuple[int, int, int]:
    return written.stored, written.duplicates, len(written.rejected)


def _without_ids(state: Document) -> Document:
    """Return the state without what depends on the client's name."""
    slim = copy.deepcopy(state)
    slim["event"].pop("id")
    slim["querywatch"].pop("alert_id")
    for part, key in (("user", "id"), ("related", "user")):
        slim[part].pop(key)
    slim["querywatch"].pop("client")
    return slim


def _two_with_a_common_start(namespace: str) -> Documents:
    seen: dict[str, Document] = {}
    for i in itertools.count():
        document = make_document(namespace, client_id=f"twin-{i}")
        other = seen.setdefault(identity(document)[:4], document)
        if other is not document:
            return [other, document]
    raise AssertionError
