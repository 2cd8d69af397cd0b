"""Each published detector against querywatch at equal false alarms, on the attacks that it was made to find.

Two comparisons on the same clients. *As published*: the anchor keeps its constants, and querywatch's threshold is
lowered until one step more would alarm on a larger share of ordinary or of hard benign clients than the anchor does.
*As shipped*: querywatch keeps its rules, and the anchor's threshold is the loosest at which it alarms on no larger
share of either than they do. An anchor is beaten where querywatch finds at least as many campaigns in the first and
more in the second. What only one of the two finds is counted campaign by campaign, with a sign test (McNemar).

What querywatch says of a campaign over many ids by their links, not by any of its members, has no threshold to move:
it counts in the second comparison only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from detector.events import F64
from replay.anchors import catalogue
from replay.evaluate.bounds import rate, sign_test
from replay.evaluate.outcome import CampaignOutcome, ClientOutcome, Outcomes
from replay.evaluate.score import Json, is_hard
from replay.evaluate.watch import CEILING, MEDIUM


class Shares(NamedTuple):
    """How many benign clients were alarmed."""

    ordinary: int
    hard: int


def matched(own: Outcomes, anchors: Mapping[str, Outcomes]) -> list[Json]:
    """Return a row for each anchor and each family of attacks that it was made for and that occurs."""
    rows = []
    for entry in catalogue():
        if entry.name not in anchors:
            continue
        theirs = anchors[entry.name]
        as_published, as_shipped = _alarmed(theirs.clients), _alarmed(own.clients)
        ours_at = loosest(own.clients, as_published)
        theirs_at = loosest(theirs.clients, as_shipped)
        for family in entry.families:
            place = [i for i, c in enumerate(own.campaigns) if c.truth.family == family]
            if not place:
                continue
            mine, other = [own.campaigns[i] for i in place], [theirs.campaigns[i] for i in place]
            published = _compare(_reach(mine, ours_at), _found(other))
            shipped = _compare(_found(mine), _reach(other, theirs_at))
            beaten = published["more"] >= published["less"] and shipped["more"] > shipped["less"]
            rows.append(
                {
                    **{"anchor": entry.name, "family": family, "beaten": beaten},
                    "published": published | _false(own, ours_at, as_published),
                    "shipped": shipped | _false(theirs, theirs_at, as_shipped),
                }
            )
    return rows


def loosest(clients: Sequence[ClientOutcome], most: Shares) -> float:
    """Return the lowest threshold at which at most so many ordinary and hard benign clients are alarmed; ∞ if none."""
    calm = [c for c in clients if c.benign_queries]
    limits = []
    for allowed, peaks in (
        (most.ordinary, [c.benign_peak for c in calm if not is_hard(c)]),
        (most.hard, [c.benign_peak for c in calm if is_hard(c)]),
    ):
        highest = np.sort(np.array(peaks, np.float64))[::-1]
        limits.append(_above(highest, allowed))
    return max(limits)


def _above(highest: F64, allowed: int) -> float:
    """Return the least number that at most `allowed` of the descending values reach."""
    if allowed >= len(highest) or highest[allowed] == -np.inf:
        return float(np.nextafter(-np.inf, 0))
    return float(np.nextafter(highest[allowed], np.inf))


def _alarmed(clients: Sequence[ClientOutcome]) -> Shares:
    """Count the benign clients with an alarm of medium or above."""
    loud = [c for c in clients if c.benign_queries and c.false_level >= MEDIUM]
    hard = sum(is_hard(c) for c in loud)
    return Shares(len(loud) - hard, hard)


def _found(campaigns: Sequence[CampaignOutcome]) -> list[bool]:
    return [c.first is not None for c in campaigns]


def _reach(campaigns: Sequence[CampaignOutcome], threshold: float) -> list[bool]:
    return [c.peak >= threshold for c in campaigns]


def _compare(ours: Sequence[bool], theirs: Sequence[bool]) -> Json:
    more = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    less = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    return {
        "querywatch": rate(sum(ours), len(ours))._asdict(),
        "anchor": rate(sum(theirs), len(theirs))._asdict(),
        **{"more": more, "less": less, "chance": sign_test(more, less)},
    }


def _false(moved: Outcomes, threshold: float, kept: Shares) -> Json:
    """Return the shares of benign clients alarmed: by the side that kept its threshold, and by the one that moved."""
    calm = [c for c in moved.clients if c.benign_queries]
    groups: dict[str, Callable[[ClientOutcome], bool]] = {"ordinary": lambda c: not is_hard(c), "hard": is_hard}
    shares: Json = {}
    for (name, belongs), held in zip(groups.items(), kept, strict=True):
        mine = [c for c in calm if belongs(c)]
        reached = sum(c.benign_peak >= threshold for c in mine)
        shares[name] = {"kept": rate(held, len(mine))._asdict(), "moved": rate(reached, len(mine))._asdict()}
    return {"threshold": threshold if abs(threshold) < CEILING else None, **shares}
