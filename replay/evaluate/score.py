"""Outcomes into numbers: plain JSON data, the same columns for every detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detector.alerts import SEVERITIES
from replay.evaluate.bounds import rate
from replay.evaluate.outcome import CampaignOutcome, ClientOutcome, Hit, Outcomes
from replay.evaluate.truth import Client
from replay.evaluate.watch import MEDIUM, THRESHOLDS

Json = dict[str, Any]
HIGH = SEVERITIES.index("high")
BEFORE = "(before an attack)"  # the benign kind of what hostile clients did until then

BREAKDOWNS: dict[str, Callable[[Client], str]] = {
    "families": lambda truth: truth.family,
    "kinds": lambda truth: f"{truth.family}: {truth.kind}",
    "techniques": lambda truth: truth.technique or "unknown",
    "evasions": lambda truth: truth.evasion,
    "interfaces": lambda truth: truth.interface,
    "models": lambda truth: truth.model or "unknown",
    "all": lambda _: "all",
}


def score(outcomes: Outcomes, *, families: bool) -> Json:
    """Return the scores of one detector; `families`: its alerts name one."""
    found: Json = {name: _by(outcomes, key) for name, key in BREAKDOWNS.items()}
    found["benign"] = benign(outcomes.clients)
    found["campaigns"] = campaigns(outcomes.campaigns)
    found["unlabelled"] = {"clients": outcomes.unlabelled, "alarmed": outcomes.unlabelled_alarmed}
    if families:
        found["confusion"] = confusion(outcomes.campaigns)
    if outcomes.curve:
        found["curve"] = curve(outcomes)
    return found


def _by(outcomes: Outcomes, key: Callable[[Client], str]) -> Json:
    """Return detection by group: clients alarmed, campaigns of which a member was, and after how many queries."""
    groups = sorted({key(c.truth) for c in outcomes.campaigns})
    return {
        group: detection(
            [c for c in outcomes.campaigns if key(c.truth) == group],
            [c for c in outcomes.clients if c.truth.hostile and c.attack_queries and key(c.truth) == group],
        )
        for group in groups
    }


def detection(campaigns: Sequence[CampaignOutcome], clients: Sequence[ClientOutcome]) -> Json:
    """Return how many were detected, and how soon."""
    return {
        "campaigns": rate(sum(c.first is not None for c in campaigns), len(campaigns))._asdict(),
        "clients": rate(sum(c.first is not None for c in clients), len(clients))._asdict(),
        "queries": delays([c.first.queries if c.first else None for c in campaigns]),
        "client_queries": delays([c.first.queries if c.first else None for c in clients]),
    }


def parted(outcomes: Outcomes, field: str) -> Json:
    """Return detection and false alerts by what the truth says in a field, whatever its name."""
    hostile = [c for c in outcomes.clients if c.truth.hostile and c.attack_queries]
    calm = [c for c in outcomes.clients if c.benign_queries]
    groups = sorted({c.truth.value_of(field) for c in [*hostile, *calm]})

    def mine(clients: Sequence[ClientOutcome], group: str) -> list[ClientOutcome]:
        return [c for c in clients if c.truth.value_of(field) == group]

    return {
        group: detection([c for c in outcomes.campaigns if c.truth.value_of(field) == group], mine(hostile, group))
        | {
            "ordinary": alarms([c for c in mine(calm, group) if not is_hard(c)]),
            "hard": alarms([c for c in mine(calm, group) if is_hard(c)]),
        }
        for group in groups
    }


def summary(outcomes: Outcomes) -> Json:
    """Return detection by family and in all, and false alerts of ordinary and of hard benign clients."""
    calm = [c for c in outcomes.clients if c.benign_queries]
    return {
        **{name: _by(outcomes, BREAKDOWNS[name]) for name in ("families", "all")},
        "ordinary": alarms([c for c in calm if not is_hard(c)]),
        "hard": alarms([c for c in calm if is_hard(c)]),
    }


def delays(queries: Sequence[int | None]) -> Json:
    """Return median and 90 % quantile of the queries to the first alert: of the detected, and of all (missed = ∞)."""
    found = [q for q in queries if q is not None]
    everyone = [np.inf if q is None else q for q in queries]
    return {
        "median": _quantile(found, 0.5),
        "p90": _quantile(found, 0.9),
        "median_of_all": _quantile(everyone, 0.5),
        "p90_of_all": _quantile(everyone, 0.9),
    }


def _quantile(values: Sequence[float], q: float) -> float | None:
    """Return a quantile that is one of the values; None of nothing, and where it is infinite."""
    if not values:
        return None
    value = float(np.quantile(values, q, method="higher"))
    return value if np.isfinite(value) else None


def benign(clients: Sequence[ClientOutcome]) -> Json:
    """Return false alerts: ordinary, hard, all, by model and by kind."""
    calm = [c for c in clients if c.benign_queries]
    models = sorted({BREAKDOWNS["models"](c.truth) for c in calm})
    return {
        "ordinary": alarms([c for c in calm if not is_hard(c)]),
        "hard": alarms([c for c in calm if is_hard(c)]),
        "all": alarms(calm),
        "models": {model: alarms([c for c in calm if BREAKDOWNS["models"](c.truth) == model]) for model in models},
        "kinds": {
            kind: alarms([c for c in calm if benign_kind(c) == kind]) | {"hard": hard}
            for hard, kind in sorted({(is_hard(c), benign_kind(c)) for c in calm})
        },
    }


def is_hard(client: ClientOutcome) -> bool:
    """Return whether a client's benign queries are those of a kind that is prone to look hostile."""
    return client.truth.hard and not client.truth.hostile


def benign_kind(client: ClientOutcome) -> str:
    """Return the kind that a client's benign queries count for."""
    return BEFORE if client.truth.hostile else client.truth.kind


def alarms(clients: Sequence[ClientOutcome]) -> Json:
    """Return false alerts per million queries and the shares of clients alarmed, with bounds."""
    queries, false = sum(c.benign_queries for c in clients), sum(c.false_alerts for c in clients)
    share = rate(false, queries)
    reached = Counter(c.false_level for c in clients)
    at_least = {level: sum(n for reach, n in reached.items() if reach >= level) for level in range(len(SEVERITIES))}
    return {
        "queries": queries,
        "false_alerts": false,
        "per_million": 1e6 * false / queries if queries else None,
        "per_million_high95": 1e6 * share.high95,
        "low": rate(at_least[0], len(clients))._asdict(),
        "medium": rate(at_least[MEDIUM], len(clients))._asdict(),
        "high": rate(at_least[HIGH], len(clients))._asdict(),
    }


def campaigns(all_campaigns: Sequence[CampaignOutcome]) -> Json:
    """Return how many campaigns of several clients were named by an alert that lists them."""
    several = [c for c in all_campaigns if len(c.members) > 1]
    listed, wrong = sum(c.listed for c in all_campaigns), sum(c.wrong for c in all_campaigns)
    return {
        "named": rate(sum(c.named for c in several), len(several))._asdict(),
        "wrong_members": rate(wrong, listed)._asdict(),
    }


def confusion(all_campaigns: Sequence[CampaignOutcome]) -> Json:
    """Return truth → family named → campaigns, by the first alert and by the one of the highest risk."""

    def table(pick: Callable[[CampaignOutcome], Hit | None]) -> Json:
        cells: dict[str, Counter[str]] = {}
        for campaign in all_campaigns:
            hit = pick(campaign)
            cells.setdefault(campaign.truth.family, Counter())[hit.family if hit else "missed"] += 1
        right = sum(row[family] for family, row in cells.items())
        named = sum(n for row in cells.values() for said, n in row.items() if said != "missed")
        rows = {family: dict(sorted(row.items())) for family, row in sorted(cells.items())}
        return {"table": rows, "right": rate(right, named)._asdict()}

    return {"first": table(lambda c: c.first), "highest": table(lambda c: c.highest)}


def curve(outcomes: Outcomes) -> list[Json]:
    """Return the operating curve: a row a threshold, detection against benign clients alarmed."""
    calm = [c for c in outcomes.clients if c.benign_queries]
    hostile = [c for c in outcomes.clients if c.truth.hostile and c.attack_queries]
    families = sorted({c.truth.family for c in outcomes.campaigns})
    rows = []
    for i, threshold in enumerate(THRESHOLDS.tolist()):

        def alarmed(clients: Sequence[ClientOutcome], at: int = threshold) -> Json:
            return rate(sum(c.benign_reach >= at for c in clients), len(clients))._asdict()

        def crossed(which: Sequence[CampaignOutcome] | Sequence[ClientOutcome], place: int = i) -> Json:
            return rate(sum(c.crossed[place] is not None for c in which), len(which))._asdict()

        rows.append(
            {
                "threshold": threshold,
                "campaigns": crossed(outcomes.campaigns),
                "clients": crossed(hostile),
                "queries": delays([c.crossed[i] for c in outcomes.campaigns]),
                "families": {f: crossed([c for c in outcomes.campaigns if c.truth.family == f]) for f in families},
                "ordinary": alarmed([c for c in calm if not is_hard(c)]),
                "hard": alarmed([c for c in calm if is_hard(c)]),
            }
        )
    return rows
