"""Analysts' changes on a real node when the network fails: no change without its entry in the log, none twice."""

from __future__ import annotations

import itertools

import pytest
from elasticsearch import Elasticsearch

from detector.lifecycle import Change
from detector.settings import ElasticsearchSettings
from detector.stores.elastic import ElasticStore
from tests.alert_samples import START_US, make_document
from tests.servers import hostile
from tests.servers.hostile import Fault

pytestmark = pytest.mark.integration

ACK = Change("ack", "anna", START_US)


def _open(url: str, namespace: str) -> ElasticStore:
    return ElasticStore(ElasticsearchSettings(url=url, timeout_s=3.0), namespace, patience_s=30.0)


def _entries(url: str, namespace: str) -> int:
    with Elasticsearch(url, request_timeout=30) as client:
        stream = f"logs-querywatch.triage-{namespace}"
        client.indices.refresh(index=stream, ignore_unavailable=True)
        return int(client.count(index=stream, ignore_unavailable=True)["count"])


@pytest.mark.parametrize("fault", hostile.PASSING, ids=lambda f: f.__name__)
def test_a_passing_fault_of_any_request_changes_an_alert_once(
    fault: Fault, elasticsearch_url: str, fresh_name: str
) -> None:
    document = make_document(fresh_name)
    identity = document["querywatch"]["alert_id"]
    direct = _open(elasticsearch_url, fresh_name)
    direct.write([document])
    with hostile.hostile(elasticsearch_url) as proxy:
        store = _open(proxy.url, fresh_name)
        proxy.plan = iter([fault, fault])
        (done,) = store.triage([identity], ACK)
        store.close()
    assert done.refused == ""
    assert [e["user"]["id"] for e in direct.log(identity)] == ["anna"]
    assert _entries(elasticsearch_url, fresh_name) == 1
    direct.close()


def test_an_entry_that_could_not_be_appended_is_read_from_the_state_and_completed_later(
    elasticsearch_url: str, fresh_name: str
) -> None:
    document = make_document(fresh_name)
    identity = document["querywatch"]["alert_id"]
    direct = _open(elasticsearch_url, fresh_name)
    direct.write([document])
    with hostile.hostile(elasticsearch_url) as proxy:
        store = _open(proxy.url, fresh_name)
        proxy.plan = itertools.chain([None], itertools.repeat(hostile.forbidden))  # the state, then nothing more
        (done,) = store.triage([identity], ACK)
        store.close()
    assert done.refused == ""
    assert _entries(elasticsearch_url, fresh_name) == 0
    assert [e["user"]["id"] for e in direct.log(identity)] == ["anna"], "the state holds it"
    direct.sweep()
    assert _entries(elasticsearch_url, fresh_name) == 1
    direct.triage([identity], Change("close", "anna", START_US + 1, disposition="duplicate"))
    assert [e["event"]["action"] for e in direct.log(identity)] == ["alert-acknowledged", "alert-closed"]
    direct.close()
