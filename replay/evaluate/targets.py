"""What counts as good: detection's targets row by row, and how far a scoreboard is from each.

The tables say which campaigns a row counts, by fields of the truth. A row without `kinds` and `interfaces` takes the
campaigns of its family that no other row names; patterns are those of file names, so that captures which call their
attacks otherwise fall into the same rows. Attack rows count campaigns that do not hide. A row of an evasion is compared
with the campaigns of the same kinds that do not hide, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import NamedTuple

from replay.evaluate.bounds import Rate, rate, ratio
from replay.evaluate.outcome import CampaignOutcome, ClientOutcome, Outcomes
from replay.evaluate.score import Json, alarms, benign_kind, confusion, delays, is_hard
from replay.evaluate.truth import Client


class Attacks(NamedTuple):
    """Campaigns that do not hide."""

    name: str
    family: str
    target: float | None  # share of campaigns detected
    floor: float | None  # the least that is accepted
    queries: float | None  # median queries to the first alert
    kinds: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    indexed: float | None = None  # the target where the owner's training records are indexed

    def names(self, truth: Client) -> bool:
        """Return whether the row names a campaign itself."""
        return truth.interface in self.interfaces or _like(truth.kind, self.kinds)


class Hidden(NamedTuple):
    """Campaigns of any family that hide in one way."""

    name: str
    evasions: tuple[str, ...]
    target: float | None  # share detected
    share_target: float | None  # of what is detected of the same kinds without hiding
    share_floor: float | None
    factor: float | None  # median queries, in medians without hiding


class Spread(NamedTuple):
    """Campaigns over several client ids: named, that is one alert lists at least half of the members."""

    name: str
    evasions: tuple[str, ...]
    target: float
    floor: float | None
    factor: float  # median queries of all members together, in medians without hiding
    wrong: float = 0.01  # share of those listed that are no members


class Calm(NamedTuple):
    """Benign clients."""

    name: str
    measure: str
    target: float
    floor: float | None


PLAIN = ("none", "jitter*")
_DECISION = (
    "*boundary*",
    "hop*skip*",
    "*sign*opt*",
    "opt_attack",
    "geoda",
    "surfree",
    "ray*",
    "*decision*",
    "evolution*",
)

_ONE_QUERY = ("*confidence*", "*shadow*", "*entropy*", "*loss*", "*one_query*")
_NATURAL = ("*knockoff*", "*copycat*", "*natural*")
_MI, _EX, _ADV = "membership_inference", "extraction", "adversarial_search"

ATTACKS = (
    Attacks("inversion with scores", "inversion", 0.99, 0.85, 128),
    Attacks("inversion, label only", "inversion", 0.95, 0.85, 264, interfaces=("label",)),
    Attacks("attribute inference", "attribute_inference", 0.95, 0.80, 60),
    Attacks("membership: boundary, noise, augmentation", _MI, 0.99, 0.95, 40),
    Attacks("membership: one query a record", _MI, 0.50, None, 100, _ONE_QUERY, indexed=0.95),
    Attacks("extraction: synthetic, data-free, equations", _EX, 0.99, 0.75, 100),
    Attacks("extraction: natural, another distribution", _EX, 0.95, None, 150, _NATURAL),
    Attacks("extraction: genuine records (not promised)", _EX, None, None, None, ("*genuine*",)),
    Attacks("adversarial search, score-based", _ADV, 0.99, 0.95, 64),
    Attacks("adversarial search, decision-based", _ADV, 0.99, 0.95, 60, _DECISION, ("label",)),
)
HIDDEN = (
    Hidden("50 % dummy queries", ("dumm*50*",), 0.95, None, 0.70, 2),
    Hidden("80 % dummy queries", ("dumm*80*",), 0.85, None, 0.40, 5),
    Hidden("slow drip", ("slow*",), None, 1.0, None, 1),
    Hidden("noise, rounding or a benign past", ("blind*", "round*", "turncoat"), None, None, None, None),
)
SPREAD = (
    Spread("over 10 ids", ("ids*10",), 0.95, 0.80, 2),
    Spread("over 100 ids", ("ids*100",), 0.90, None, 4),
)
FAMILY_TARGET, FAMILY_FLOOR = 0.90, 0.75
ORDINARY = Calm("ordinary benign, false alerts a query", "queries", 1e-6, 3e-6)
HARD = (
    Calm("hard benign clients at medium or above", "medium", 0.05, 0.02),
    Calm("hard benign clients at high or above", "high", 0.01, None),
)
WORST_KIND = 0.05  # of the clients of any hard kind, at medium


def targets(outcomes: Outcomes, *, indexed: bool = False) -> list[Json]:
    """Return every row with what was found, its bounds and how it compares with target and floor.

    `indexed`: the pipeline knew the training records of the models.
    """
    campaigns = outcomes.campaigns
    plain = [c for c in campaigns if _like(c.truth.evasion, PLAIN)]
    rows = [_attacks(row, [c for c in plain if row_of(c.truth) is row], indexed) for row in ATTACKS]
    rows += [_hidden(row, campaigns, plain) for row in HIDDEN]
    for spread in SPREAD:
        rows += _spread(spread, campaigns, plain)
    right = confusion(campaigns)["first"]["right"]
    rows.append(_row("right family named by the first alert", "named", Rate(**right), FAMILY_TARGET, FAMILY_FLOOR))
    return rows + _calm([c for c in outcomes.clients if c.benign_queries])


def row_of(truth: Client) -> Attacks | None:
    """Return the row of a campaign that does not hide; None where its family has none."""
    mine = [row for row in ATTACKS if row.family == truth.family]
    naming = [row for row in mine if row.names(truth)]
    return next(iter(naming or [row for row in mine if not row.kinds and not row.interfaces]), None)


def missed(rows: Sequence[Json]) -> list[str]:
    """Return the names of the rows whose floor is not reached."""
    return [row["name"] for row in rows if row["floor_verdict"] == "missed"]


def _attacks(row: Attacks, campaigns: Sequence[CampaignOutcome], indexed: bool) -> Json:
    known = "" if row.indexed is None else ", training index" if indexed else ", no training index"
    target = row.indexed if indexed and row.indexed is not None else row.target
    return _row(row.name + known, "detected", _detected(campaigns), target, row.floor) | _delays(campaigns, row.queries)


def _hidden(row: Hidden, campaigns: Sequence[CampaignOutcome], plain: Sequence[CampaignOutcome]) -> Json:
    mine, same = _hiding(row.evasions, campaigns, plain)
    share = ratio(_detected(mine), _detected(same))
    found = _row(row.name, "detected", _detected(mine), row.target, None) | _delays(mine, _times(row.factor, same))
    found["of_plain"] = None if share is None else share._asdict()
    found["share_target"], found["floor"] = row.share_target, row.share_floor
    if row.share_target is not None:
        found["verdict"] = verdict(share, row.share_target)
    found["floor_verdict"] = verdict(share, row.share_floor)
    return found


def _spread(row: Spread, campaigns: Sequence[CampaignOutcome], plain: Sequence[CampaignOutcome]) -> list[Json]:
    mine, same = _hiding(row.evasions, campaigns, plain)
    named = rate(sum(c.named for c in mine), len(mine))
    wrong = rate(sum(c.wrong for c in mine), sum(c.listed for c in mine))
    limit = _times(row.factor, same)
    return [
        _row(f"{row.name}: detected", "detected", _detected(mine), None, None) | _delays(mine, limit),
        _row(f"{row.name}: campaign named", "named", named, row.target, row.floor),
        _row(f"{row.name}: wrong members", "wrong", wrong, row.wrong, None, less=True),
    ]


def _calm(clients: Sequence[ClientOutcome]) -> list[Json]:
    ordinary = alarms([c for c in clients if not is_hard(c)])
    false = rate(ordinary["false_alerts"], ordinary["queries"])
    rows = [_row(ORDINARY.name, "false", false, ORDINARY.target, ORDINARY.floor, less=True)]
    hard = alarms([c for c in clients if is_hard(c)])
    rows += [_row(r.name, "alarmed", Rate(**hard[r.measure]), r.target, r.floor, less=True) for r in HARD]
    kinds = sorted({benign_kind(c) for c in clients if is_hard(c)})
    shares = {k: Rate(**alarms([c for c in clients if benign_kind(c) == k])["medium"]) for k in kinds}
    if shares:
        worst = max(shares, key=lambda kind: shares[kind].rate or 0.0)
        rows.append(_row(f"worst hard kind at medium: {worst}", "alarmed", shares[worst], WORST_KIND, None, less=True))
    return rows


def _hiding(
    evasions: tuple[str, ...], campaigns: Sequence[CampaignOutcome], plain: Sequence[CampaignOutcome]
) -> tuple[list[CampaignOutcome], list[CampaignOutcome]]:
    """Return the campaigns that hide so, and those of the same kinds that do not hide."""
    mine = [c for c in campaigns if _like(c.truth.evasion, evasions)]
    kinds = {(c.truth.family, c.truth.kind) for c in mine}
    return mine, [c for c in plain if (c.truth.family, c.truth.kind) in kinds]


def _row(name: str, measure: str, found: Rate, target: float | None, floor: float | None, less: bool = False) -> Json:
    return {
        **{"name": name, "measure": measure, **found._asdict(), "of_plain": None, "share_target": None},
        **{"target": target, "verdict": verdict(found, target, less)},
        **{"floor": floor, "floor_verdict": verdict(found, floor, less)},
        **{"queries": delays([]), "target_queries": None, "queries_reached": None},
    }


def _delays(campaigns: Sequence[CampaignOutcome], limit: float | None) -> Json:
    found = delays([c.first.queries if c.first else None for c in campaigns])
    reached = None if limit is None or found["median"] is None else found["median"] <= limit
    return {"queries": found, "target_queries": limit, "queries_reached": reached}


def verdict(found: Rate | None, wanted: float | None, less: bool = False) -> str | None:
    """Return proven (by the 95 % bound), reached (by the rate itself) or missed; None where nothing can be said."""
    if found is None or found.rate is None or wanted is None:
        return None
    if (found.high95 <= wanted) if less else (found.low95 >= wanted):
        return "proven"
    return "reached" if (found.rate <= wanted if less else found.rate >= wanted) else "missed"


def _detected(campaigns: Sequence[CampaignOutcome]) -> Rate:
    return rate(sum(c.first is not None for c in campaigns), len(campaigns))


def _times(factor: float | None, plain: Sequence[CampaignOutcome]) -> float | None:
    median = delays([c.first.queries if c.first else None for c in plain])["median"]
    return None if factor is None or median is None else factor * median


def _like(value: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(value.lower(), pattern) for pattern in patterns)
