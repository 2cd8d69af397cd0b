"""The Elasticsearch templates against the documents that they must hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from detector.stores import episodes
from detector.stores.templates import KINDS, Template, templates
from tests.alert_samples import make_document

NS = "default"


@pytest.fixture(scope="module")
def by_name() -> dict[str, Template]:
    return {template.name: template for template in templates(NS) if template.kind != "ilm_policy"}


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path


def _is_mapped(path: tuple[str, ...], mappings: list[dict[str, Any]]) -> bool:
    for mapping in mappings:
        node: dict[str, Any] = mapping
        for name in path:
            node = node.get("properties", {}).get(name, {})
            if node.get("enabled") is False:
                return True
        if "type" in node:
            return True
    return False


def _mappings(by_name: dict[str, Template], index_template: str) -> list[dict[str, Any]]:
    parts = [by_name[name] for name in by_name[index_template].body["composed_of"] if name in by_name]
    return [part.body["template"]["mappings"] for part in parts if "mappings" in part.body["template"]]


@pytest.mark.parametrize("stream", ["querywatch-events", "querywatch-replay"])
def test_every_field_of_an_alert_event_has_a_mapping(by_name: dict[str, Template], stream: str) -> None:
    document = episodes.received(make_document(NS, members=("key-7", "key-8")))
    mappings = _mappings(by_name, stream)
    assert [path for path in _leaves(document) if not _is_mapped(path, mappings)] == []
    assert not _is_mapped(("querywatch", "unheard_of"), mappings)


def test_every_field_of_a_state_has_a_mapping(by_name: dict[str, Template]) -> None:
    state = episodes.begin([make_document(NS)])
    mappings = _mappings(by_name, f"querywatch-alerts-{NS}")
    assert [path for path in _leaves(state) if not _is_mapped(path, mappings)] == []
    assert not _is_mapped(("querywatch", "status"), _mappings(by_name, "querywatch-events")), "events have no status"


def test_keywords_are_bounded_and_nothing_is_guessed(by_name: dict[str, Template]) -> None:
    fields = by_name["querywatch-fields"].body["template"]["mappings"]
    assert fields["dynamic"] is False
    for path, node in _nodes(fields):
        if node.get("type") == "keyword":
            assert node["ignore_above"] == 1024, path


def _nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in node.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from _nodes(inner, f"{path}.{name}")


def test_patterns_win_over_the_built_in_ones_and_namespaces_do_not_meet() -> None:
    for template in templates("a"):
        if template.kind == "index_template":
            assert template.body["priority"] == 250
    (states,) = (t for t in templates("a") if t.name.startswith("querywatch-alerts-"))
    assert states.body["index_patterns"] == ["querywatch-alerts-a-*"]
    assert states.body["template"]["aliases"] == {"querywatch-alerts-a": {}}


def test_every_component_is_there_before_the_template_that_names_it() -> None:
    installed: set[str] = set()
    for template in templates(NS):
        assert set(template.body.get("composed_of", [])) <= installed
        if template.kind == "component_template":
            installed.add(template.name)
            lifecycle = template.body["template"].get("settings", {}).get("index", {}).get("lifecycle")
            assert lifecycle is None or lifecycle["name"] in installed
        if template.kind == "ilm_policy":
            installed.add(template.name)


def test_only_what_needs_lifecycle_management_may_be_missing() -> None:
    optional = {template.name for template in templates(NS) if template.needs_ilm and template.kind != "ilm_policy"}
    for template in templates(NS):
        assert set(template.body.get("ignore_missing_component_templates", [])) <= optional
        named = set(template.body.get("composed_of", [])) & optional
        assert named <= set(template.body.get("ignore_missing_component_templates", []))
    assert {template.kind for template in templates(NS)} == set(KINDS)
