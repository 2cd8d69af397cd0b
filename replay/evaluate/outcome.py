"""Alarms against truth: what became of every client and every campaign."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from detector.events import I64
from replay.evaluate.stream import NEVER, Stream
from replay.evaluate.truth import Client
from replay.evaluate.watch import MEDIUM, THRESHOLDS, Alarm, Crossings, Peaks


class Hit(NamedTuple):
    """An alarm of medium or above that falls into an attack."""

    queries: int  # of the attack up to there, of all members together for a campaign
    family: str
    offset: int


@dataclass(slots=True)
class ClientOutcome:
    """One client on one model."""

    truth: Client
    benign_queries: int  # before the attack; all of them for a benign client
    attack_queries: int
    false_level: int = -1  # highest severity of an alarm outside an attack, −1 = none
    false_alerts: int = 0  # episodes of medium or above outside an attack
    first: Hit | None = None
    benign_reach: int = 0  # operating curve: highest threshold reached outside an attack, 0 = none
    crossed: tuple[int | None, ...] = ()  # [thresholds] attack queries up to the crossing
    benign_peak: float = -np.inf  # the most suspicious that it looked outside an attack


@dataclass(slots=True)
class CampaignOutcome:
    """One campaign: the hostile clients that work together, often a single one."""

    members: list[ClientOutcome]
    first: Hit | None = None
    highest: Hit | None = None  # of the greatest risk
    named: bool = False  # one alert lists at least half of the members
    listed: int = 0  # clients listed by campaign alerts about it
    wrong: int = 0  # of these, how many are no members
    crossed: tuple[int | None, ...] = ()
    peak: float = -np.inf  # the most suspicious that any member looked

    @property
    def truth(self) -> Client:
        """Return the truth of the first member: what a campaign's members have in common."""
        return self.members[0].truth


@dataclass(slots=True)
class Outcomes:
    """What one detector made of one or several captures."""

    clients: list[ClientOutcome] = field(default_factory=list)
    campaigns: list[CampaignOutcome] = field(default_factory=list)
    unlabelled: int = 0  # clients of which the truth says nothing
    unlabelled_alarmed: int = 0
    curve: bool = False  # `benign_reach` and `crossed` are known

    def extend(self, other: Outcomes) -> None:
        """Add the outcomes of another capture."""
        self.clients += other.clients
        self.campaigns += other.campaigns
        self.unlabelled += other.unlabelled
        self.unlabelled_alarmed += other.unlabelled_alarmed
        self.curve = other.curve

    def half(self, half: str) -> Outcomes:
        """Return those of one half: calibration, report, or both."""
        if half == "both":
            return self
        clients = [c for c in self.clients if c.truth.half == half]
        campaigns = [c for c in self.campaigns if c.truth.half == half]
        return Outcomes(clients, campaigns, self.unlabelled, self.unlabelled_alarmed, self.curve)


def judge(
    stream: Stream, alarms: Sequence[Alarm], crossings: Crossings | None = None, peaks: Peaks | None = None
) -> Outcomes:
    """Hold one detector's alarms against the truth of a capture."""
    clients: dict[int, ClientOutcome] = {}
    for pair, truth in enumerate(stream.truth):
        if truth is not None:
            during = len(stream.attack_rows(pair))
            clients[pair] = ClientOutcome(truth, len(stream.rows(pair)) - during, during)
    groups: dict[str, list[int]] = {}
    for pair, outcome in clients.items():
        if outcome.truth.hostile and outcome.attack_queries:
            groups.setdefault(outcome.truth.campaign, []).append(pair)
    alarmed = _sort_out(stream, alarms, clients)
    campaigns = [_campaign(stream, pairs, clients, alarmed, crossings) for pairs in groups.values()]
    if peaks is not None:
        for campaign, pairs in zip(campaigns, groups.values(), strict=True):
            campaign.peak = float(peaks.after[pairs].max())
        for pair, outcome in clients.items():
            outcome.benign_peak = float(peaks.before[pair])
    for pair, outcome in clients.items():
        hits = [a for a in alarmed.get(pair, ()) if a.level >= MEDIUM]
        outcome.first = _hit(stream.attack_rows(pair), stream, min(hits, key=_when)) if hits else None
        if crossings is not None:
            outcome.benign_reach = int((crossings.before[pair] != NEVER).sum())
            outcome.crossed = _crossed(stream.attack_rows(pair), stream, crossings.after[pair])
    unknown = [pair for pair, truth in enumerate(stream.truth) if truth is None]
    accused = {pair for alarm in alarms if alarm.level >= MEDIUM for pair in alarm.pairs}
    judged = list(clients.values())
    return Outcomes(judged, campaigns, len(unknown), len(accused.intersection(unknown)), crossings is not None)


def _sort_out(stream: Stream, alarms: Iterable[Alarm], clients: dict[int, ClientOutcome]) -> dict[int, list[Alarm]]:
    """Return the alarms that fall into an attack, by accused pair; note the false ones with the clients."""
    inside: dict[int, list[Alarm]] = {}
    wrong: dict[str, int] = {}  # episode -> the client that it counts for
    for alarm in alarms:
        time_us = stream.time_at(alarm.offset)
        guilty = [pair for pair in alarm.pairs if pair in clients and stream.start_us[pair] <= time_us]
        for pair in guilty:
            inside.setdefault(pair, []).append(alarm)
        innocent = [pair for pair in alarm.pairs if pair in clients and pair not in guilty]
        for pair in innocent:
            clients[pair].false_level = max(clients[pair].false_level, alarm.level)
        if innocent and not guilty and alarm.level >= MEDIUM and alarm.episode not in wrong:
            wrong[alarm.episode] = innocent[-1]  # the client itself stands last, after the other members
            clients[innocent[-1]].false_alerts += 1
    return inside


def _campaign(
    stream: Stream,
    pairs: list[int],
    clients: dict[int, ClientOutcome],
    alarmed: dict[int, list[Alarm]],
    crossings: Crossings | None,
) -> CampaignOutcome:
    rows = np.sort(np.concatenate([stream.attack_rows(pair) for pair in pairs]))
    outcome = CampaignOutcome([clients[pair] for pair in pairs])
    alarms = {id(a): a for pair in pairs for a in alarmed.get(pair, ()) if a.level >= MEDIUM}.values()
    if alarms:
        outcome.first = _hit(rows, stream, min(alarms, key=_when))
        outcome.highest = _hit(rows, stream, max(alarms, key=lambda a: (a.risk, a.offset)))
    listed: set[int] = set()
    for alarm in (a for a in alarms if a.campaign):
        right = len(set(pairs).intersection(alarm.pairs))
        if right == max(_shares(alarm, clients).values()):  # about this campaign rather than another
            listed.update(alarm.pairs)
        outcome.named |= len(pairs) > 1 and 2 * right >= len(pairs)
    outcome.listed, outcome.wrong = len(listed), len(listed.difference(pairs))
    if crossings is not None:
        outcome.crossed = _crossed(rows, stream, crossings.after[pairs].min(0))
    return outcome


def _shares(alarm: Alarm, clients: dict[int, ClientOutcome]) -> dict[str, int]:
    """Count an alert's listed clients by the campaign that they belong to."""
    shares: dict[str, int] = {}
    for pair in alarm.pairs:
        if pair in clients and clients[pair].truth.hostile:
            shares[clients[pair].truth.campaign] = shares.get(clients[pair].truth.campaign, 0) + 1
    return shares


def _when(alarm: Alarm) -> int:
    return alarm.offset


def _hit(rows: I64, stream: Stream, alarm: Alarm) -> Hit:
    return Hit(_count(rows, stream, alarm.offset), alarm.family, alarm.offset)


def _count(rows: I64, stream: Stream, offset: int) -> int:
    return int(np.searchsorted(stream.offset[rows], offset, side="right"))


def _crossed(rows: I64, stream: Stream, offsets: I64) -> tuple[int | None, ...]:
    return tuple(_count(rows, stream, int(offsets[i])) if offsets[i] != NEVER else None for i in range(len(THRESHOLDS)))
