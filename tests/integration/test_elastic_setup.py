"""Setup on a real node that has no index lifecycle management, and what the streams look like afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from detector.settings import ElasticsearchSettings
from detector.stores.elastic import ElasticStore
from tests.alert_samples import make_document
from tests.servers import hostile

pytestmark = pytest.mark.integration


@pytest.fixture
def store(elasticsearch_url: str, fresh_name: str) -> Iterator[ElasticStore]:
    store = ElasticStore(ElasticsearchSettings(url=elasticsearch_url), fresh_name)
    yield store
    store.close()


def test_setup_installs_once_and_says_what_the_cluster_lacks(store: ElasticStore, fresh_name: str) -> None:
    states = f"index_template querywatch-alerts-{fresh_name}"
    assert f"{states}: would be installed" in store.setup(dry_run=True)
    assert f"{states}: would be installed" in store.setup(dry_run=True), "a dry run installs nothing"
    assert f"{states}: installed" in store.setup()
    again = store.setup()
    assert f"{states}: unchanged" in again
    assert all(line.endswith(": unchanged") for line in again if not line.startswith("index lifecycle"))


def test_a_cluster_with_lifecycle_management_gets_a_policy(elasticsearch_url: str, fresh_name: str) -> None:
    with hostile.hostile(elasticsearch_url) as proxy:
        api = hostile.LifecycleApi()
        proxy.paths = {"/_ilm": api, "/_component_template/querywatch-lifecycle": api}
        store = ElasticStore(ElasticsearchSettings(url=proxy.url), fresh_name)
        done = store.setup()
        assert "ilm_policy querywatch-events: installed" in done
        assert "component_template querywatch-lifecycle: installed" in done
        assert all(line.endswith(": unchanged") for line in store.setup())
        store.close()
    policy = json.loads(api.kept["/_ilm/policy/querywatch-events"])["policy"]
    assert policy["phases"]["hot"]["actions"]["rollover"]["max_age"] == "30d"
    assert b"querywatch-events" in api.kept["/_component_template/querywatch-lifecycle"]


def test_documents_go_where_the_layout_says(store: ElasticStore, elasticsearch_url: str, fresh_name: str) -> None:
    store.write([make_document(fresh_name), make_document(fresh_name, start_s=30 * 86_400)])
    store.write([make_document(fresh_name, "replay")])
    with Elasticsearch(elasticsearch_url) as client:
        alias = client.indices.get_alias(name=f"querywatch-alerts-{fresh_name}")
        assert sorted(alias) == [f"querywatch-alerts-{fresh_name}-2025.{month}" for month in (11, 12)]
        for kind in ("alert", "replay"):
            (backing,) = client.indices.get(index=f"logs-querywatch.{kind}-{fresh_name}")
            assert backing.startswith(f".ds-logs-querywatch.{kind}-{fresh_name}-")


def test_what_kibana_asks_works_on_the_mapping(store: ElasticStore, elasticsearch_url: str, fresh_name: str) -> None:
    store.write([make_document(fresh_name), make_document(fresh_name, client_id="key-8", severity="high")])
    stream = f"logs-querywatch.alert-{fresh_name}"
    met = {
        "bool": {"filter": [{"term": {"querywatch.evidence.met": True}}, _over("querywatch.evidence.observed", 100)]}
    }
    wrong = {"bool": {"filter": [_term("signal", "inversion.evidence"), _over("querywatch.evidence.observed", 100)]}}
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=stream)

        def count(query: dict[str, object]) -> int:
            return int(client.count(index=stream, query=query)["count"])

        assert count({"nested": {"path": "querywatch.evidence", "query": met}}) == 2
        assert count({"nested": {"path": "querywatch.evidence", "query": wrong}}) == 0, (
            "each item of evidence by itself"
        )
        assert count({"range": {"event.ingested": {"gte": "now-5m"}}}) == 2
        assert count({"term": {"event.severity": 73}}) == 1
        assert count({"term": {"source.ip": "192.0.2.0/24"}}) == 2
        assert count({"term": {"threat.technique.subtechnique.id": "AML.T0024.001"}}) == 2
        assert count({"match": {"message": "climbs"}}) == 2
        assert count({"term": {"querywatch.status": "new"}}) == 0


def _over(field: str, bound: float) -> dict[str, object]:
    return {"range": {field: {"gt": bound}}}


def _term(name: str, value: str) -> dict[str, object]:
    return {"term": {f"querywatch.evidence.{name}": value}}
