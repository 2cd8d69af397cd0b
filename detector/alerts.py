"""Alerts and their documents: what the SOC sees, in ECS 9.4 with everything of our own under `querywatch.*`.

An `Alert` is one immutable event: an episode was raised, or its severity rose. Its ids are functions of rule, group and
event time only, so a capture and the live topic, a replay and a restart give the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from detector import __version__

ECS_VERSION = "9.4.0"
SEVERITIES = ("low", "medium", "high", "critical")
SEVERITY_VALUES = {"low": 21, "medium": 47, "high": 73, "critical": 99}  # what Kibana's severity mapping compares with
Document = dict[str, Any]


class Evidence(NamedTuple):
    """One condition of the rule as it stood when the alert was raised."""

    signal: str
    observed: float
    op: str
    threshold: float
    unit: str
    met: bool
    baseline: tuple[float, float, float] | None  # p50, p95, p99 of the signal over the model's other clients

    @property
    def margin(self) -> float:
        """How far beyond the threshold the observed value lies; negative where it would have to move to meet it."""
        beyond = self.observed - self.threshold
        return beyond if self.op in (">=", ">") else -beyond


class Technique(NamedTuple):
    """An ATLAS technique or sub-technique with the tactics that it serves."""

    id: str
    name: str
    parent: tuple[str, str] | None  # id and name of the technique, for a sub-technique
    tactics: tuple[tuple[str, str], ...]


class RuleRef(NamedTuple):
    """What an alert says of the rule that raised it."""

    id: str
    uuid: str
    title: str
    version: int
    stage: str
    family: str
    hash: str
    technique: Technique | None
    containment: dict[str, Any] | None
    playbook: str


class About(NamedTuple):
    """What the owner of the attacked model says of it in models.yml; "" where nothing."""

    sensitivity: str = "medium"
    owner: str = ""
    output: str = ""  # the most that its API answers with


ABOUT = About()


class Span(NamedTuple):
    """Positions of the episode's first and last matching query."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


@dataclass(slots=True, frozen=True)
class Alert:
    """One alert event. Times are microseconds since 1970 UTC, event time."""

    action: str  # alert-raised | alert-escalated
    rule: RuleRef
    severity: str
    time_us: int  # the query that completed the condition
    start_us: int  # the client's first query of this episode
    first_match_us: int  # the episode's first matching query: part of the id
    client_id: str
    client_kind: str
    client_ip: str
    model: str
    model_version: str
    queries: int  # queries of the client to the model up to here
    target: str  # the class aimed at, "" where none
    reason: str
    risk: float  # 0–100
    evidence: Sequence[Evidence]
    contributions: dict[str, float]  # log10 e-value of each test
    baseline: str  # which reference served: "cold start: first 256 rows", "up to 2026-11-21T10:00Z", …
    span: Span
    members: tuple[str, ...] = ()  # the clients of a campaign, first member first
    links: Mapping[str, float] = field(default_factory=dict)  # what makes them one: see `document`
    about: About = ABOUT
    suppressed: int = 0  # matches counted, not raised, since the episode began
    steepest: tuple[tuple[int, float], ...] = ()  # (offset, log10 e-value gained) where the evidence rose most
    starved: tuple[str, ...] = ()  # tests that could say nothing of the query: the log holds too little of it
    quiet: str = ""  # what would have kept the rule quiet, one sentence

    def alert_id(self, namespace: str) -> str:
        """Name the episode: the same for its raise and its escalations."""
        return digest(namespace, self.rule.uuid, self.client_id, self.model, str(self.first_match_us))


class Engine(NamedTuple):
    """Who wrote the document: the only fields in which a replay may differ from the live run."""

    namespace: str
    mode: str  # live | replay
    created_us: int  # wall clock, given by the caller


def digest(*parts: str) -> str:
    """Hash texts to 32 hex digits; each with its length, so that no text can pretend to be two."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode(errors="surrogatepass")
        state.update(len(data).to_bytes(8, "big") + data)
    return state.hexdigest()


def rfc3339(time_us: int) -> str:
    """Format microseconds since 1970 as RFC 3339 UTC."""
    return (
        datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time_us % 1_000_000:06d}Z"
    )


def document(alert: Alert, engine: Engine) -> Document:
    """Return the alert event's document: nested JSON objects, ready for any store."""
    alert_id = alert.alert_id(engine.namespace)
    clients = alert.members or (alert.client_id,)
    doc: Document = {
        "@timestamp": rfc3339(alert.time_us),
        "ecs": {"version": ECS_VERSION},
        "message": alert.reason,
        "event": {
            "id": digest(alert_id, alert.severity, *([str(len(alert.members))] if alert.members else [])),
            "kind": "alert",
            "category": ["intrusion_detection", "api"],
            "type": ["info"],
            "action": alert.action,
            "created": rfc3339(engine.created_us),
            "start": rfc3339(alert.start_us),
            "end": rfc3339(alert.time_us),
            "severity": SEVERITY_VALUES[alert.severity],
            "risk_score": round(alert.risk, 1),
            "reason": alert.reason,
        },
        "rule": {
            "id": alert.rule.id,
            "uuid": alert.rule.uuid,
            "name": alert.rule.title,
            "version": str(alert.rule.version),
            "category": alert.rule.family,
        },
        "service": {"name": alert.model, "version": alert.model_version},
        "related": {"user": list(clients), **({"ip": [alert.client_ip]} if alert.client_ip else {})},
        "observer": {"product": "querywatch", "vendor": "querywatch", "type": "ml-siem", "version": __version__},
        "user": {"id": alert.client_id},
        "querywatch": _own_fields(alert, alert_id, engine),
    }
    if alert.client_ip:
        doc["source"] = {"ip": alert.client_ip}
    if alert.rule.technique is not None:
        doc["threat"] = _threat(alert.rule.technique)
    return doc


def _own_fields(alert: Alert, alert_id: str, engine: Engine) -> Document:
    own: Document = {
        "alert_id": alert_id,
        "namespace": engine.namespace,
        "severity": alert.severity,
        "stage": alert.rule.stage,
        "model": {"name": alert.model, "version": alert.model_version, **_known(alert.about)},
        "client": {"id": alert.client_id, "kind": alert.client_kind},
        "attack": {"family": alert.rule.family, "target": alert.target},
        "episode": {"start": rfc3339(alert.first_match_us), "suppressed": alert.suppressed},
        "queries": alert.queries,
        "baseline": alert.baseline,
        "evidence": [_evidence(item) for item in alert.evidence],
        "contributions": {name: round(value, 3) for name, value in alert.contributions.items()},
        "rule_hash": alert.rule.hash,
        "engine": {"version": __version__, "mode": engine.mode},
        "position": {**alert.span._asdict(), "steepest": [_rise(*rise) for rise in alert.steepest]},
        "quiet": alert.quiet,
        "starved": list(alert.starved),
        "playbook": alert.rule.playbook,
    }
    if alert.rule.containment is not None:
        own["containment"] = alert.rule.containment
    if alert.members:
        links = {name: round(value, 3) for name, value in alert.links.items()}
        own["campaign"] = {"clients": list(alert.members), "size": len(alert.members), "links": links}
    return own


def _known(about: About) -> Document:
    return {name: value for name, value in about._asdict().items() if value}


def _evidence(item: Evidence) -> Document:
    doc: Document = {
        "signal": item.signal,
        "observed": round(item.observed, 4),
        "op": item.op,
        "threshold": item.threshold,
        "unit": item.unit,
        "met": item.met,
        "margin": round(item.margin, 4),
    }
    if item.baseline is not None:
        doc["baseline"] = dict(zip(("p50", "p95", "p99"), (round(v, 4) for v in item.baseline), strict=True))
    return doc


def _rise(offset: int, gain: float) -> Document:
    return {"offset": offset, "gain": round(gain, 3)}


def _threat(technique: Technique) -> Document:
    top = technique.parent or (technique.id, technique.name)
    threat: Document = {
        "framework": "MITRE ATLAS",
        "tactic": {"id": [t[0] for t in technique.tactics], "name": [t[1] for t in technique.tactics]},
        "technique": {"id": [top[0]], "name": [top[1]]},
    }
    if technique.parent is not None:
        threat["technique"]["subtechnique"] = {"id": [technique.id], "name": [technique.name]}
    return threat
