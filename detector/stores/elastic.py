"""Alerts in Elasticsearch: immutable events in a data stream, one mutable state an episode in an index of its own.

    logs-querywatch.alert-<ns>         alert events          logs-querywatch.replay-<ns>   results of replays
    querywatch-alerts-<ns>-YYYY.MM     states, by the month of the episode's start; alias querywatch-alerts-<ns>
    logs-querywatch.triage-<ns>        who changed which state, when and why (elastic_triage.py)

An event is stored exactly once although a data stream promises unique ids only until it rolls over: the state is
created first, with the event inside it as pending; the event is appended under its deterministic id; then the state
says that it is written. A later copy finds it in that list. Whatever a crash leaves pending, the next writer's `sweep`
(or the same event coming again) looks up in the stream and completes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import structlog

from detector.alerts import Document, rfc3339
from detector.lifecycle import Change
from detector.settings import ElasticsearchSettings
from detector.stores import AlertQuery, Documents, Rejected, StoreUnavailableError, Triaged, Written, bulk, episodes
from detector.stores.cluster import PAGE, Cluster
from detector.stores.elastic_triage import Triage
from detector.stores.templates import Template, templates

_CONTENTION = 20  # rounds of optimistic updates before giving up: far more than there are workers
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Episode:
    """A state on its way: what is to be added, what the index holds, and at which version."""

    id: str
    index: str
    documents: Documents
    state: Document | None = None
    version: tuple[int, int] | None = None
    doubtful: set[str] = field(default_factory=set)  # events that were pending before this write


class ElasticStore:
    """Alerts of one namespace; with `replay` the reading side shows what replays found.

    `patience_s` is how long a call keeps trying while the cluster is down or overloaded.
    """

    def __init__(
        self, settings: ElasticsearchSettings, namespace: str, *, replay: bool = False, patience_s: float = 10.0
    ) -> None:
        self.namespace = namespace
        self.replay = replay
        self.url = settings.url
        self.alias = f"querywatch-alerts-{namespace}"
        self.event_stream = f"logs-querywatch.alert-{namespace}"
        self.replay_stream = f"logs-querywatch.replay-{namespace}"
        self._cluster = Cluster(settings, patience_s)
        self._triage = Triage(self._cluster, self.alias, f"logs-querywatch.triage-{namespace}")
        self._ready = False

    # -- setup ---------------------------------------------------------------------------------------------------

    def setup(self, *, dry_run: bool = False) -> list[str]:
        """Install the templates that are missing or changed; without ILM, say so and go on."""
        has_ilm = self._has_ilm()
        done = []
        for template in templates(self.namespace):
            if template.needs_ilm and not has_ilm:
                continue
            if self._installed(template):
                done.append(f"{template.kind} {template.name}: unchanged")
                continue
            if not dry_run:
                self._cluster.request("PUT", template.path, template.body)
            done.append(f"{template.kind} {template.name}: {'would be installed' if dry_run else 'installed'}")
        if not has_ilm:
            done.append(
                "index lifecycle: this cluster has no _ilm API, so alert events are kept until someone deletes them"
            )
        return done

    def _has_ilm(self) -> bool:
        return "operation_mode" in self._cluster.request("GET", "/_ilm/status", tolerate=(400, 404, 405))

    def _installed(self, template: Template) -> bool:
        answer = self._cluster.request("GET", template.path, tolerate=(404,))
        return f'"hash":"{template.hash}"' in orjson.dumps(answer).decode()

    def _make_ready(self) -> None:
        """Before the first write: templates, or Elasticsearch would guess mappings; then what a crash left behind."""
        if self._ready:
            return
        try:
            for line in self.setup():
                if not line.endswith(": unchanged"):
                    _log.info("alert store", url=self.url, setup=line)
        except StoreUnavailableError as error:
            raise StoreUnavailableError(
                f"{error}; the templates could not be checked: run `querywatch setup`"
            ) from error
        repaired = self.sweep()
        if repaired:
            _log.warning("alert store", url=self.url, completed_events=repaired, because="a writer ended in between")
        self._ready = True

    # -- write ---------------------------------------------------------------------------------------------------

    def write(self, documents: Sequence[Document]) -> Written:
        """Store alert events and the states of their episodes."""
        written = Written()
        if not documents:
            return written
        self._make_ready()
        live: dict[str, _Episode] = {}
        replayed: dict[str, Document] = {}
        for document in documents:
            try:
                episodes.serialise(document)
            except TypeError as error:
                written.rejected.append(Rejected(document, f"not valid JSON: {error}"))
                continue
            if episodes.is_replay(document):
                known = replayed.setdefault(episodes.replay_id(document), document)
                written.duplicates += known is not document
            else:
                self._group(live, document, written)
        self._append_replayed(replayed, written)
        accepted = self._write_states(list(live.values()), written)
        self._append_events(accepted, written)
        return written

    def _group(self, live: dict[str, _Episode], document: Document, written: Written) -> None:
        identity = episodes.alert_id(document)
        month = document["querywatch"]["episode"]["start"][:7].replace("-", ".")
        episode = live.setdefault(identity, _Episode(identity, f"{self.alias}-{month}", []))
        if any(episodes.event_id(d) == episodes.event_id(document) for d in episode.documents):
            written.duplicates += 1
        else:
            episode.documents.append(document)

    def _append_replayed(self, replayed: dict[str, Document], written: Written) -> None:
        actions = [self._event_action(self.replay_stream, identity, d) for identity, d in replayed.items()]
        for document, outcome in zip(replayed.values(), self._cluster.apply(actions), strict=True):
            _count(document, outcome, written)

    def _write_states(self, todo: list[_Episode], written: Written) -> list[_Episode]:
        """Create or raise the states; return those that hold their events."""
        accepted = []
        for _ in range(_CONTENTION):
            actions, acting = [], []
            for episode in todo:
                state = self._next_state(episode)
                if state == episode.state:
                    accepted.append(episode)
                else:
                    acting.append((episode, state))
                    op = "index" if episode.version else "create"
                    actions.append(
                        bulk.Action(op, episode.index, episode.id, episodes.serialise(state), episode.version)
                    )
            conflicts = []
            for (episode, state), outcome in zip(acting, self._cluster.apply(actions), strict=True):
                if outcome.stored:
                    episode.state, episode.version = state, outcome.version
                    accepted.append(episode)
                elif outcome.conflict:
                    conflicts.append(episode)
                else:
                    written.rejected.extend(Rejected(d, outcome.reason) for d in episode.documents)
            if not conflicts:
                return accepted
            self._fetch(conflicts)
            todo = conflicts
        raise StoreUnavailableError(f"{self.url}: too many writers change the same alerts of {self.alias}")

    @staticmethod
    def _next_state(episode: _Episode) -> Document:
        if episode.state is None:
            return episodes.begin(episode.documents)
        return episodes.merge(episode.state, episode.documents)

    def _fetch(self, wanted: Sequence[_Episode]) -> None:
        """Read states and versions as they are now; one that was deleted starts again."""
        answers = self._cluster.read_many([(e.index, e.id) for e in wanted])
        for episode, answer in zip(wanted, answers, strict=True):
            if answer.get("found"):
                episode.state = answer["_source"]
                episode.version = (answer["_seq_no"], answer["_primary_term"])
                episode.doubtful |= {episodes.event_id(d) for d in _own(episode.state)["pending"]}
            else:
                episode.state, episode.version = None, None

    def _append_events(self, accepted: Sequence[_Episode], written: Written) -> None:
        """Append our events that are pending, then say so in the states."""
        pending: list[tuple[_Episode, Document]] = []
        for episode in accepted:
            own = _own(episode.state)
            for document in episode.documents:
                identity = episodes.event_id(document)
                if identity in own["refused"]:
                    written.rejected.append(Rejected(document, "refused by the alert store before"))
                elif identity in own["written"]:
                    written.duplicates += 1
                else:
                    pending.append((episode, document))
        doubtful = [i for e, d in pending if (i := episodes.event_id(d)) in e.doubtful]
        outcomes = dict.fromkeys(self._stored_events(doubtful), bulk.Outcome(409))
        absent = {i: d for _, d in pending if (i := episodes.event_id(d)) not in outcomes}
        actions = [self._event_action(self.event_stream, identity, d) for identity, d in absent.items()]
        outcomes.update(zip(absent, self._cluster.apply(actions), strict=True))
        marks: dict[str, tuple[list[str], list[str]]] = {}
        for episode, document in pending:
            identity = episodes.event_id(document)
            outcome = outcomes[identity]
            good, bad = marks.setdefault(episode.id, ([], []))
            (good if outcome.stored or outcome.conflict else bad).append(identity)
            _count(document, outcome, written)
        self._mark([e for e in accepted if e.id in marks], marks)

    def _mark(self, todo: list[_Episode], marks: dict[str, tuple[list[str], list[str]]]) -> None:
        for _ in range(_CONTENTION):
            acting, actions = [], []
            for episode in todo:
                if episode.state is None:
                    continue  # deleted under our hands: there is nothing to mark
                state = episodes.mark(episode.state, *marks[episode.id])
                if state != episode.state:
                    source = episodes.serialise(state)
                    actions.append(bulk.Action("index", episode.index, episode.id, source, episode.version))
                    acting.append(episode)
            outcomes = self._cluster.apply(actions)
            todo = [e for e, outcome in zip(acting, outcomes, strict=True) if outcome.conflict]
            if not todo:
                return
            self._fetch(todo)
        raise StoreUnavailableError(f"{self.url}: too many writers change the same alerts of {self.alias}")

    def sweep(self) -> int:
        """Complete what an ended writer left behind; return how many events were missing or not yet marked."""
        query = {"range": {"querywatch.unwritten": {"gte": 1}}}
        self._cluster.refresh(self.alias)
        hits = list(self._cluster.search(self.alias, query, [{"querywatch.alert_id": "asc"}], limit=10_000))
        left = [_Episode(hit["_id"], hit["_index"], []) for hit in hits]
        self._fetch(left)
        for episode in left:
            episode.documents = list(_own(episode.state)["pending"])
        self._append_events(left, Written())
        self._triage.complete([(e.index, e.id) for e in left if _own(e.state).get("unlogged")])
        return sum(len(e.documents) for e in left)

    def _stored_events(self, ids: Sequence[str]) -> set[str]:
        """Return which events the stream holds, in whichever of its backing indices."""
        found: set[str] = set()
        if ids:
            self._cluster.refresh(self.event_stream)
        for start in range(0, len(ids), PAGE):
            query = {"ids": {"values": list(ids[start : start + PAGE])}}
            hits = self._cluster.search(
                self.event_stream, query, [{"@timestamp": "asc"}, {"event.id": "asc"}], limit=PAGE
            )
            found.update(hit["_id"] for hit in hits)
        return found

    @staticmethod
    def _event_action(stream: str, identity: str, document: Document) -> bulk.Action:
        return bulk.Action("create", stream, identity, episodes.serialise(episodes.received(document)))

    # -- read ----------------------------------------------------------------------------------------------------

    def list(self, query: AlertQuery) -> Documents:
        """Return alert states, newest first."""
        since = "" if query.since_us is None else rfc3339(query.since_us)
        until = "" if query.until_us is None else rfc3339(query.until_us)
        if self.replay:
            states = episodes.replayed_states(self._replayed({"match_all": {}}))
            found = episodes.newest_first(s for s in states if episodes.matches(s, query, since, until))
            return [episodes.project(s, query.fields) for s in found[: query.limit]]
        terms = {
            "rule.id": query.rule,
            "querywatch.model.name": query.model,
            "related.user": query.client,
            "querywatch.status": query.status,
            "querywatch.assignee": query.owner,
        }
        filters: list[Document] = [{"term": {name: value}} for name, value in terms.items() if value]
        if query.severities:
            filters.append({"terms": {"querywatch.severity": list(query.severities)}})
        bounds = {name: value for name, value in (("gte", since), ("lt", until)) if value}
        if bounds:
            filters.append({"range": {"@timestamp": bounds}})
        self._cluster.refresh(self.alias)
        order = [{"@timestamp": "desc"}, {"querywatch.alert_id": "asc"}]
        hits = self._cluster.search(self.alias, {"bool": {"filter": filters}}, order, query.limit, query.fields)
        return [episodes.project(episodes.public(hit["_source"]), query.fields) for hit in hits]

    def get(self, alert_id: str) -> Document | None:
        """Return one alert state by its id or an unambiguous start of it."""
        if not episodes.is_id_start(alert_id):
            return None
        start = {"prefix": {"querywatch.alert_id": alert_id}}
        if self.replay:
            found = episodes.replayed_states(self._replayed(start))
        else:
            self._cluster.refresh(self.alias)
            hits = self._cluster.search(self.alias, start, [{"querywatch.alert_id": "asc"}], limit=2)
            found = [episodes.public(hit["_source"]) for hit in hits]
        return found[0] if len(found) == 1 else None

    def events(self, alert_id: str) -> Documents:
        """Return the alert events of one episode, oldest first."""
        query = {"term": {"querywatch.alert_id": alert_id}}
        if self.replay:
            found = self._replayed(query)
            return episodes.newest_replay(found) if found else []
        self._cluster.refresh(self.event_stream)
        hits = self._cluster.search(self.event_stream, query, [{"@timestamp": "asc"}, {"event.id": "asc"}], limit=PAGE)
        return episodes.in_order(hit["_source"] for hit in hits)

    def _replayed(self, query: Document) -> Documents:
        self._cluster.refresh(self.replay_stream)
        order = [{"@timestamp": "asc"}, {"event.id": "asc"}, {"querywatch.rule_hash": "asc"}]
        return [hit["_source"] for hit in self._cluster.search(self.replay_stream, query, order, limit=100_000)]

    # -- triage --------------------------------------------------------------------------------------------------

    def triage(self, alert_ids: Sequence[str], change: Change) -> Sequence[Triaged]:
        """Apply an analyst's change to each alert as it is now."""
        if self.replay:
            return [Triaged(alert, None, "results of replays are not triaged") for alert in alert_ids]
        return self._triage.change(alert_ids, change)

    def log(self, alert_id: str = "") -> Documents:
        """Return the triage log of one alert, or of all."""
        return [] if self.replay else self._triage.log(alert_id)

    def close(self) -> None:
        """Close the connections."""
        self._cluster.close()


def _own(state: Document | None) -> Document:
    own: Document = (state or {"querywatch": {"pending": [], "written": [], "refused": []}})["querywatch"]
    return own


def _count(document: Document, outcome: bulk.Outcome, written: Written) -> None:
    if outcome.stored:
        written.stored += 1
    elif outcome.conflict:
        written.duplicates += 1
    else:
        written.rejected.append(Rejected(document, outcome.reason))
