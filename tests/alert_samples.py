"""Alerts for tests of stores and commands: real documents from detector/alerts.py with the parts a test cares about."""

from __future__ import annotations

from typing import Any

from detector.alerts import About, Alert, Document, Engine, Evidence, RuleRef, Span, Technique, document

START_US = 1_763_805_600_000_000  # 2025-11-22T10:00:00Z
RULE = RuleRef(
    id="inversion-ascent",
    uuid="5b0d0b7e-54cf-4b3d-9b55-0f0b6f5f2c11",
    title="Query trajectory climbs towards one class",
    version=3,
    stage="alert",
    family="inversion",
    hash="abc",
    technique=Technique(
        "AML.T0024.001",
        "Invert AI Model",
        ("AML.T0024", "Exfiltration via AI Inference API"),
        (("AML.TA0010", "Exfiltration"),),
    ),
    containment={"action": "round_scores", "decimals": 1, "ttl": "24h", "mitigation": "AML.M0002"},
    playbook="1. Is the caller a registered explainer or test job?\n2. Whom does the model protect?\n",
)
EVIDENCE = (
    Evidence("inversion.evidence", 8.4, ">=", 6.0, "log10 e", True, (0.1, 1.2, 2.3)),
    Evidence("trajectory.queries", 212.0, ">=", 24.0, "queries", True, None),
)


def make_alert(**changes: Any) -> Alert:
    """Return an alert; `rule` may be a dict of changes to the sample rule, `after_s` shifts its time."""
    rule = RULE._replace(**changes.pop("rule", {}))
    first_us = START_US + int(changes.pop("start_s", 0) * 1e6)
    time_us = first_us + int(changes.pop("after_s", 60) * 1e6)
    values: dict[str, Any] = {
        "action": "alert-raised",
        "rule": rule,
        "severity": "medium",
        "time_us": time_us,
        "start_us": first_us,
        "first_match_us": first_us,
        "client_id": "key-7",
        "client_kind": "api_key",
        "client_ip": "192.0.2.7",
        "model": "credit",
        "model_version": "4",
        "about": About("high", "risk analytics", "scores"),
        "queries": 212,
        "target": "approved",
        "reason": "key-7 climbs towards class approved of credit: evidence 8.4 against a threshold of 6",
        "risk": 61.0,
        "evidence": EVIDENCE,
        "contributions": {"ascent": 5.1, "steps": 3.3},
        "baseline": "epoch 2025-11-22T09:00Z",
        "span": Span("prediction-events", 2, 1000, 1300),
        "starved": ("steering.climb",),
        "steepest": ((1200, 1.25), (1010, 0.5)),
        "quiet": "The rule would have stayed quiet with a threshold above 8.4 on inversion.evidence.",
    }
    return Alert(**{**values, **changes})


def make_document(namespace: str, mode: str = "live", created_s: float = 0, **changes: Any) -> Document:
    """Return the document of `make_alert(**changes)`."""
    return document(make_alert(**changes), Engine(namespace, mode, START_US + int((900 + created_s) * 1e6)))


def escalated(namespace: str, severity: str = "critical", after_s: float = 300, **changes: Any) -> Document:
    """Return the escalation of the sample episode."""
    return make_document(
        namespace, action="alert-escalated", severity=severity, after_s=after_s, queries=900, suppressed=40, **changes
    )
