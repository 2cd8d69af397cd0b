"""The Elasticsearch store when networks, clusters and processes fail: in the end each event is there exactly once."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from detector.alerts import Document
from detector.settings import ElasticsearchSettings
from detector.stores import AlertQuery, StoreUnavailableError
from detector.stores.elastic import ElasticStore
from tests.alert_samples import escalated, make_document
from tests.servers import Server, hostile
from tests.servers.hostile import Fault, Hostile

pytestmark = pytest.mark.integration


@pytest.fixture
def proxy(elasticsearch_url: str) -> Iterator[Hostile]:
    with hostile.hostile(elasticsearch_url) as server:
        yield server


def _open(url: str, namespace: str, patience_s: float = 60.0) -> ElasticStore:
    return ElasticStore(ElasticsearchSettings(url=url, timeout_s=3.0), namespace, patience_s=patience_s)


def _documents(namespace: str, clients: int = 4) -> list[Document]:
    return [make(namespace, client_id=f"key-{i}") for i in range(clients) for make in (make_document, escalated)]


def _assert_each_stored_once(url: str, namespace: str, documents: list[Document]) -> None:
    """Look with a client of our own at what the cluster really holds."""
    with Elasticsearch(url, request_timeout=30) as client:
        stream, states = f"logs-querywatch.alert-{namespace}", f"querywatch-alerts-{namespace}"
        client.indices.refresh(index=f"{stream},{states}")
        hits = client.search(index=stream, size=1000)["hits"]["hits"]
        assert sorted(hit["_id"] for hit in hits) == sorted(d["event"]["id"] for d in documents)
        found = [hit["_source"]["querywatch"] for hit in client.search(index=states, size=1000)["hits"]["hits"]]
    alerts = {d["querywatch"]["alert_id"] for d in documents}
    assert sorted(own["alert_id"] for own in found) == sorted(alerts)
    assert [(own["unwritten"], own["pending"]) for own in found] == [(0, [])] * len(alerts)
    assert sorted(i for own in found for i in own["written"]) == sorted(d["event"]["id"] for d in documents)


@pytest.mark.parametrize("stage", ["states", "events", "marks"])
@pytest.mark.parametrize("fault", hostile.PASSING, ids=lambda f: f.__name__)
def test_a_passing_fault_of_any_bulk_request_loses_and_doubles_nothing(
    fault: Fault, stage: str, proxy: Hostile, elasticsearch_url: str, fresh_name: str
) -> None:
    documents = _documents(fresh_name)
    store = _open(proxy.url, fresh_name)
    proxy.at = {stage: iter([fault])}
    written = store.write(documents)
    store.close()
    assert proxy.bulk_requests > 3, "the request that met the fault was sent again"
    assert written.stored + written.duplicates == len(documents)
    assert written.rejected == []
    _assert_each_stored_once(elasticsearch_url, fresh_name, documents)


@pytest.mark.parametrize("seed", range(3))
def test_random_faults_and_restarts_lose_and_double_nothing(
    seed: int, proxy: Hostile, elasticsearch_url: str, fresh_name: str
) -> None:
    rng = random.Random(seed)  # noqa: S311
    quick = [f for f in hostile.PASSING if f is not hostile.hang] + [hostile.forbidden]
    faults = [rng.choice(quick) if rng.random() < 0.5 else None for _ in range(60)]
    proxy.plan = iter([None, hostile.forbidden, *faults])
    documents = _documents(fresh_name, 12)
    outages = 0
    for batch in (documents[i : i + 6] for i in range(0, len(documents), 6)):
        for attempt in itertools.count():
            assert attempt < 60
            store = _open(proxy.url, fresh_name, patience_s=0.2)  # a new one each time, as after a crash
            try:
                store.write(batch)
                break
            except StoreUnavailableError:
                outages += 1
            finally:
                store.close()
    assert outages > 0, "nothing was repeated: this test tested nothing"
    _assert_each_stored_once(elasticsearch_url, fresh_name, documents)


@pytest.mark.parametrize("never", ["events", "marks"])
def test_what_an_ended_writer_left_is_completed_by_the_next_one(
    never: str, proxy: Hostile, elasticsearch_url: str, fresh_name: str
) -> None:
    documents = _documents(fresh_name)
    store = _open(proxy.url, fresh_name)
    proxy.at = {never: itertools.repeat(hostile.forbidden)}
    with pytest.raises(StoreUnavailableError):
        store.write(documents)
    store.close()
    proxy.at = {}
    _rollover(elasticsearch_url, fresh_name)  # ids are unique only inside one backing index
    other = make_document(fresh_name, client_id="someone else")
    successor = _open(proxy.url, fresh_name)
    successor.write([other])  # sweeps first
    successor.close()
    _assert_each_stored_once(elasticsearch_url, fresh_name, [*documents, other])


@pytest.mark.parametrize("marked", [False, True], ids=["not marked", "marked"])
def test_an_event_that_comes_again_after_a_rollover_is_recognised(
    marked: bool, proxy: Hostile, elasticsearch_url: str, fresh_name: str
) -> None:
    documents = _documents(fresh_name)
    store = _open(proxy.url, fresh_name)
    if marked:
        store.write(documents)
    else:
        proxy.at = {"marks": itertools.repeat(hostile.forbidden)}
        with pytest.raises(StoreUnavailableError):
            store.write(documents)
        proxy.at = {}
    _rollover(elasticsearch_url, fresh_name)
    written = store.write(documents)
    store.close()
    assert (written.stored, written.duplicates) == (0, len(documents))
    _assert_each_stored_once(elasticsearch_url, fresh_name, documents)


def _rollover(url: str, namespace: str) -> None:
    stream = f"logs-querywatch.alert-{namespace}"
    with Elasticsearch(url, request_timeout=30) as client:
        if not client.indices.exists(index=stream):
            client.index(index=stream, op_type="create", id="first", document={"@timestamp": "2025-01-01T00:00:00Z"})
            client.indices.refresh(index=stream)
            hit = client.search(index=stream, query={"ids": {"values": ["first"]}})["hits"]["hits"][0]
            client.delete(index=hit["_index"], id="first")
        assert client.indices.rollover(alias=stream)["rolled_over"]


def test_a_refused_key_is_a_clear_error_and_nothing_is_dropped(
    proxy: Hostile, elasticsearch_url: str, fresh_name: str
) -> None:
    documents = _documents(fresh_name)
    store = _open(proxy.url, fresh_name)
    proxy.plan = iter([hostile.forbidden])
    with pytest.raises(StoreUnavailableError, match=r"403.*api_key.*action is unauthorized"):
        store.write(documents)
    store.write(documents)
    store.close()
    _assert_each_stored_once(elasticsearch_url, fresh_name, documents)


def test_an_overload_that_lasts_ends_as_unavailable_within_the_patience(proxy: Hostile, fresh_name: str) -> None:
    store = _open(proxy.url, fresh_name, patience_s=3.0)
    proxy.plan = itertools.repeat(hostile.too_many_requests)
    with pytest.raises(StoreUnavailableError, match=r"429.*tried for 3 s"):
        store.write(_documents(fresh_name))
    store.close()
    assert proxy.bulk_requests >= 3


def test_requests_that_a_proxy_finds_too_large_are_halved(
    proxy: Hostile, elasticsearch_url: str, fresh_name: str
) -> None:
    documents = _documents(fresh_name, 10)
    store = _open(proxy.url, fresh_name)
    proxy.plan = itertools.repeat(hostile.too_large)
    assert store.write(documents).stored == len(documents)
    store.close()
    _assert_each_stored_once(elasticsearch_url, fresh_name, documents)


def test_a_login_page_is_not_taken_for_elasticsearch(proxy: Hostile, fresh_name: str) -> None:
    store = _open(proxy.url, fresh_name, patience_s=1.0)
    proxy.plan = itertools.repeat(hostile.login_page)
    with pytest.raises(StoreUnavailableError, match=r"not Elasticsearch|not a JSON object"):
        store.write(_documents(fresh_name))
    store.close()


def test_a_document_that_does_not_fit_the_mapping_is_rejected_and_the_others_stored(
    elasticsearch_url: str, fresh_name: str
) -> None:
    documents = _documents(fresh_name)
    bad = make_document(fresh_name, client_id="bad")
    bad["rule"]["id"] = {"an": "object"}
    store = _open(elasticsearch_url, fresh_name)
    written = store.write([*documents, bad])
    assert [r.document for r in written.rejected] == [bad]
    assert "rule.id" in written.rejected[0].reason
    assert written.stored == len(documents)
    assert [s["user"]["id"] for s in store.list(AlertQuery(client="bad"))] == []
    store.close()
    _assert_each_stored_once(elasticsearch_url, fresh_name, documents)


def test_an_event_that_was_refused_is_refused_again_and_not_swept_for_ever(proxy: Hostile, fresh_name: str) -> None:
    document = make_document(fresh_name)
    store = _open(proxy.url, fresh_name)
    proxy.at = {"events": iter([hostile.refuse_documents])}
    assert len(store.write([document]).rejected) == 1
    assert len(store.write([document]).rejected) == 1
    assert store.sweep() == 0
    store.close()


def test_a_malformed_address_does_not_cost_the_alert(elasticsearch_url: str, fresh_name: str) -> None:
    store = _open(elasticsearch_url, fresh_name)
    assert store.write([make_document(fresh_name, client_ip="not-an-address")]).stored == 1
    store.close()


def test_a_dead_cluster_is_unavailable_and_takes_the_alerts_when_it_is_back(
    elasticsearch_server: Server, fresh_name: str
) -> None:
    documents = _documents(fresh_name)
    store = _open(elasticsearch_server.address, fresh_name)
    store.write(documents[:4])
    elasticsearch_server.kill()
    hasty = _open(elasticsearch_server.address, fresh_name, patience_s=1.0)
    with pytest.raises(StoreUnavailableError, match="no usable answer"):
        hasty.write(documents)
    hasty.close()
    elasticsearch_server.start()
    written = store.write(documents)
    assert (written.stored, written.duplicates) == (4, 4)
    store.close()
    _assert_each_stored_once(elasticsearch_server.address, fresh_name, documents)
