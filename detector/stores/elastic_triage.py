"""Analysts' changes in Elasticsearch: the state by optimistic update, the log entry in a data stream of its own.

The entry travels inside the state (`unlogged`) until the stream holds it, so that no change is without its entry,
wherever a crash or an outage falls: whoever reads the log reads both places, and the next writer completes the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from detector.alerts import Document
from detector.lifecycle import Change, RefusedError, entry_id
from detector.stores import Documents, StoreUnavailableError, Triaged, bulk, episodes
from detector.stores.cluster import PAGE, Cluster

_CONTENTION = 20  # rounds of optimistic updates before giving up
_LOG_LIMIT = 100_000


class _Held(NamedTuple):
    """A state as the index holds it, at a version."""

    place: str  # index
    id: str
    state: Document
    version: tuple[int, int]


class Triage:
    """What analysts do with the alerts behind `alias`, and the log of it in `stream`."""

    def __init__(self, cluster: Cluster, alias: str, stream: str) -> None:
        self._cluster = cluster
        self._alias = alias
        self._stream = stream

    def change(self, alert_ids: Sequence[str], change: Change) -> Sequence[Triaged]:
        """Apply a change to each alert as it is when the update arrives; one that lost the race is judged again."""
        ids = list(dict.fromkeys(alert_ids))
        done: dict[str, Triaged] = {}
        keys = self._places(ids)
        changed: list[_Held] = []
        for _ in range(_CONTENTION):
            todo = [keys[alert] for alert in ids if alert in keys and alert not in done]
            if not todo:
                break
            changed += self._round(todo, change, done)
        else:
            raise StoreUnavailableError(
                f"{self._cluster.url}: too many writers change the same alerts of {self._alias}"
            )
        with suppress(StoreUnavailableError):  # the change itself is stored, and its entry with it
            self._complete(changed)
        return [done.get(alert) or Triaged(alert, None, "there is no such alert") for alert in ids]

    def _places(self, ids: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        """Return index and id of the states that exist."""
        self._cluster.refresh(self._alias)
        found = {}
        for start in range(0, len(ids), PAGE):
            query = {"terms": {"querywatch.alert_id": list(ids[start : start + PAGE])}}
            for hit in self._cluster.search(self._alias, query, [{"querywatch.alert_id": "asc"}], PAGE):
                found[hit["_id"]] = (hit["_index"], hit["_id"])
        return found

    def _round(self, todo: Sequence[tuple[str, str]], change: Change, done: dict[str, Triaged]) -> list[_Held]:
        """Try each once: fill in `done`, return what was changed; those that another writer overtook are in neither."""
        attempts: list[_Held] = []
        stored: list[_Held] = []
        for held in self._read(todo):
            if _holds(held.state, change):  # the update whose answer was lost had arrived
                done[held.id] = Triaged(held.id, episodes.public(held.state))
                stored.append(held)
                continue
            try:
                attempts.append(held._replace(state=episodes.triaged(held.state, change)))
            except RefusedError as error:
                done[held.id] = Triaged(held.id, None, str(error))
        for held, outcome in zip(attempts, self._cluster.apply([_update(a) for a in attempts]), strict=True):
            if outcome.stored:
                done[held.id] = Triaged(held.id, episodes.public(held.state))
                stored.append(held._replace(version=outcome.version))
            elif not outcome.conflict:
                done[held.id] = Triaged(held.id, None, f"the alert store refuses it: {outcome.reason}")
        return stored

    def _read(self, keys: Sequence[tuple[str, str]]) -> list[_Held]:
        return [
            _Held(answer["_index"], answer["_id"], answer["_source"], (answer["_seq_no"], answer["_primary_term"]))
            for answer in self._cluster.read_many(keys)
            if answer.get("found")
        ]

    def complete(self, keys: Sequence[tuple[str, str]]) -> None:
        """Bring what an ended writer left in these states (index, id) into the log."""
        self._complete(self._read(keys))

    def _complete(self, states: Sequence[_Held]) -> None:
        """Append unlogged entries, then say so in their states; a state that moved on is left to the next writer."""
        entries = [entry for held in states for entry in _unlogged(held.state)]
        outcomes = self._cluster.apply(
            [bulk.Action("create", self._stream, episodes.event_id(e), episodes.serialise(e)) for e in entries]
        )
        there = {episodes.event_id(e) for e, o in zip(entries, outcomes, strict=True) if o.stored or o.conflict}
        marked = [held._replace(state=episodes.logged(held.state, there)) for held in states if _unlogged(held.state)]
        self._cluster.apply([_update(held) for held in marked])

    def log(self, alert_id: str = "") -> Documents:
        """Return the log of one alert or of all: what the stream holds, and what the states still do."""
        one: list[Document] = [{"term": {"querywatch.alert_id": alert_id}}] if alert_id else []
        left: Document = {"range": {"querywatch.unwritten": {"gte": 1}}}
        self._cluster.refresh(self._alias)
        states = self._cluster.search(
            self._alias, {"bool": {"filter": [left, *one]}}, [{"querywatch.alert_id": "asc"}], _LOG_LIMIT
        )
        entries = [entry for hit in states for entry in _unlogged(hit["_source"])]
        self._cluster.refresh(self._stream)
        order = [{"@timestamp": "asc"}, {"event.id": "asc"}]
        hits = self._cluster.search(self._stream, {"bool": {"filter": one}}, order, _LOG_LIMIT)
        return episodes.log_order([*entries, *(hit["_source"] for hit in hits)])


def _update(held: _Held) -> bulk.Action:
    return bulk.Action("index", held.place, held.id, episodes.serialise(held.state), held.version)


def _unlogged(state: Document) -> Documents:
    entries: Documents = state["querywatch"].get("unlogged", [])
    return entries


def _holds(state: Document, change: Change) -> bool:
    identity = entry_id(episodes.alert_id(state), change)
    return any(episodes.event_id(entry) == identity for entry in _unlogged(state))
