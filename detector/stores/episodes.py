"""What stores have in common: alert events → the state of their episode, without I/O.

A state shows the strongest event of its episode (highest severity, then latest) and grows only upwards: merging the
same events again, or in another order, changes nothing. What analysts set (status, assignee, disposition) is never
touched. Four lists of a state belong to the store alone: `pending` holds events not yet known to be stored, `written`
and `refused` the ids of those that were stored or can never be, `unlogged` entries of the triage log that are
not yet.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from detector.alerts import SEVERITIES, Document, digest, rfc3339
from detector.lifecycle import FIELDS, Change, apply
from detector.stores import AlertQuery

_BOOKKEEPING = ("pending", "written", "refused", "unwritten", "unlogged")


def event_id(document: Document) -> str:
    """Return the deterministic id of an alert event."""
    return str(document["event"]["id"])


def alert_id(document: Document) -> str:
    """Return the id of the episode that an alert event or a state belongs to."""
    return str(document["querywatch"]["alert_id"])


def is_id_start(text: str) -> bool:
    """Tell whether a text can be the start of an alert's id that is long enough to search for."""
    return re.fullmatch(r"[0-9a-f]{4,32}", text) is not None


def is_replay(document: Document) -> bool:
    """Tell whether a replay wrote the event: it must never reach the live alerts."""
    return bool(document["querywatch"]["engine"]["mode"] == "replay")


def replay_id(document: Document) -> str:
    """Return the id of a replay's event: a replay with a changed rule is another result."""
    return digest(event_id(document), str(document["querywatch"].get("rule_hash", "")))


def serialise(document: Document) -> bytes:
    """Return the document as JSON; TypeError when a text is not valid Unicode."""
    return orjson.dumps(document)


def received(document: Document) -> Document:
    """Return the event with the time of its arrival: what Kibana's promotion rule looks at."""
    now_us = int(time.time() * 1e6)  # noqa: TID251  a sink says when it stored something
    return {**document, "event": {**document["event"], "ingested": rfc3339(now_us)}}


def begin(documents: Sequence[Document]) -> Document:
    """Return the state of a new episode from its events, all of them pending."""
    state = copy.deepcopy(documents[0])
    own = state["querywatch"]
    own.update(status="new", raised_at=state["event"]["created"], pending=[], written=[], refused=[], unwritten=0)
    return merge(state, documents)


def merge(state: Document, documents: Iterable[Document]) -> Document:
    """Return the state after some more events; equal to `state` when they add nothing."""
    merged = copy.deepcopy(state)
    for document in documents:
        merged = _absorb(merged, document)
        own = merged["querywatch"]
        identity = event_id(document)
        known = {*own["written"], *own["refused"], *(event_id(d) for d in own["pending"])}
        if identity not in known:
            own["pending"].append(document)
        own["unwritten"] = _unwritten(own)
    return merged


def _unwritten(own: Document) -> int:
    return len(own["pending"]) + len(own.get("unlogged", ()))


def _absorb(state: Document, document: Document) -> Document:
    own, other = state["querywatch"], document["querywatch"]
    result = state
    if _strength(document) > _strength(state):
        result = copy.deepcopy(document)
        kept = {key: own[key] for key in (*_BOOKKEEPING, *FIELDS) if key in own}
        result["querywatch"].update(kept)
    first = own.get("raised_at", state["event"]["created"])
    result["querywatch"]["raised_at"] = min(first, document["event"]["created"])
    result["@timestamp"] = max(state["@timestamp"], document["@timestamp"])
    result["querywatch"]["queries"] = max(own["queries"], other["queries"])
    result["querywatch"]["episode"]["suppressed"] = max(own["episode"]["suppressed"], other["episode"]["suppressed"])
    return result


def _strength(document: Document) -> tuple[int, str, str]:
    event = document["event"]
    return SEVERITIES.index(document["querywatch"]["severity"]), event["end"], event["id"]


def mark(state: Document, written: Iterable[str], refused: Iterable[str] = ()) -> Document:
    """Return the state with some pending events moved to the lists of those written and refused."""
    marked = copy.deepcopy(state)
    own = marked["querywatch"]
    own["written"] = sorted({*own["written"], *written})
    own["refused"] = sorted({*own["refused"], *refused})
    own["pending"] = [d for d in own["pending"] if event_id(d) not in {*own["written"], *own["refused"]}]
    own["unwritten"] = _unwritten(own)
    return marked


def triaged(state: Document, change: Change) -> Document:
    """Return the state after an analyst's change, its log entry unlogged; RefusedError where it is not allowed."""
    before = state["querywatch"].get("unlogged", [])
    changed, entry = apply(state, change)
    own = changed["querywatch"]
    own["unlogged"] = [*before, entry]
    own["unwritten"] = _unwritten(own)
    return changed


def logged(state: Document, entries: Iterable[str]) -> Document:
    """Return the state with some entries of the triage log known to be stored."""
    marked = copy.deepcopy(state)
    own, known = marked["querywatch"], set(entries)
    own["unlogged"] = [e for e in own.get("unlogged", ()) if event_id(e) not in known]
    own["unwritten"] = _unwritten(own)
    return marked


def log_order(entries: Iterable[Document]) -> list[Document]:
    """Return entries of the triage log as they happened, each once."""
    once = {event_id(entry): entry for entry in entries}
    return sorted(once.values(), key=lambda e: (alert_id(e), e["querywatch"]["triage"]["number"], event_id(e)))


def public(state: Document) -> Document:
    """Return the state without the store's own lists."""
    own = {key: value for key, value in state.get("querywatch", {}).items() if key not in _BOOKKEEPING}
    return {**state, "querywatch": own}


def project(state: Document, fields: Sequence[str]) -> Document:
    """Return only some fields, given by dotted names; those that are not there, or null, are left out."""
    return nested(fields, (_at(state, name) for name in fields)) if fields else state


def nested(fields: Sequence[str], values: Iterable[Any]) -> Document:
    """Return a document of fields with dotted names; null ones are left out."""
    document: Document = {}
    for name, value in zip(fields, values, strict=True):
        if value is not None:
            *parents, last = name.split(".")
            node = document
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
    return document


def _at(state: Document, name: str) -> Any:
    node: Any = state
    for part in name.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def replayed_states(documents: Iterable[Document]) -> list[Document]:
    """Fold a replay's events into states; of several replays the one with the newest rule speaks for an episode."""
    episodes: dict[str, list[Document]] = {}
    for document in documents:
        episodes.setdefault(alert_id(document), []).append(document)
    return [public(begin(newest_replay(events))) for events in episodes.values()]


def newest_replay(documents: Sequence[Document]) -> list[Document]:
    """Return one episode's events from the rule that was replayed last, oldest first, each once."""
    last = max(documents, key=lambda d: (d["event"]["created"], str(d["querywatch"].get("rule_hash", ""))))
    same = [d for d in documents if d["querywatch"].get("rule_hash") == last["querywatch"].get("rule_hash")]
    return in_order({event_id(d): d for d in same}.values())


def in_order(documents: Iterable[Document]) -> list[Document]:
    """Return alert events oldest first; of the same moment the weaker first."""
    return sorted(documents, key=lambda d: (d["@timestamp"], d["event"]["severity"], event_id(d)))


def newest_first(states: Iterable[Document]) -> list[Document]:
    """Return states as `list` promises them: latest event first, then by id."""
    by_id = sorted(states, key=alert_id)
    return sorted(by_id, key=lambda d: str(d["@timestamp"]), reverse=True)


def matches(state: Document, query: AlertQuery, since: str, until: str) -> bool:
    """Tell whether a state passes the filters; `since` and `until` are the query's bounds in RFC 3339, or empty."""
    own: dict[str, Any] = state["querywatch"]
    time = state["@timestamp"]
    return (
        (not since or time >= since)
        and (not until or time < until)
        and (not query.severities or own["severity"] in query.severities)
        and (not query.rule or state["rule"]["id"] == query.rule)
        and (not query.model or own["model"]["name"] == query.model)
        and (not query.client or query.client in state["related"]["user"])
        and (not query.status or own["status"] == query.status)
        and (not query.owner or own.get("assignee") == query.owner)
    )
