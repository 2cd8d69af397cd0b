"""Campaigns: clients whose queries go on from each other's are judged together, as if they were one.

kinship.py says who is kin and who links to whom; here groups are founded, joined and merged, and every group is a
*virtual client*: the events of its members, in stream order, run through the very same detectors, families and rules.
So a search that is cut into pieces shows its evidence where no piece does, and a group of harmless clients is as quiet
as each of them. Kinship itself accuses nobody: an alert needs a rule that holds for the pooled stream, and names the
members that are *proven*, those that link to other members and are linked to. Whoever copies somebody else's queries
links to a victim that never links back.

Limits: one worker sees links between its own partitions only. Two campaigns against the same region of the same model
at the same time may count as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector import kinship
from detector.clients import SUSPICIOUS
from detector.detectors import Detector, View
from detector.events import F32, I32, I64, U8, U64
from detector.families import FAMILIES
from detector.kinship import MEMBERS
from detector.settings import LimitSettings
from detector.tracks import Tracks
from detector.training.index import NO_INDEXES, TrainingIndexes
from detector.triage import Campaign, Emission, Triage

LAST = np.int64(1) << 62  # later than any event: whoever is worth keeping makes room last
LEAST = 3  # proven members of a group before rules are asked
KIN_A_GROUP = 8  # places among the kin for every group


class Book(NamedTuple):
    """What is known of groups beside the kernel's counts."""

    partition: I32  # [groups] that of its founder: its state moves with it
    since_us: I64  # [groups] when it was founded
    members: U64  # [groups, 128] client keys in the order in which they joined, 0 = none
    proven: I64  # [groups, 128] queries of the group by then + 1, 0 = not proven
    suspicion: F32  # [groups, families] the newest log10 e-value of each
    told_us: I64  # [groups, rules] when the newest alert was raised
    told: U8  # [groups, rules] its severity
    told_at: I64  # [groups, rules] queries of the group by then: it named whoever was proven before


class Judged(NamedTuple):
    """Alerting rows of one group's virtual client."""

    row: int  # of the chunk
    emission: Emission  # its row is one of `view`
    view: View
    signals: Mapping[str, F32]
    campaign: Campaign


class Campaigns:
    """All groups of one worker, `limits.campaigns` at a time."""

    def __init__(
        self,
        limits: LimitSettings,
        detectors: Sequence[Detector],
        triage: Triage,
        training: TrainingIndexes = NO_INDEXES,
    ) -> None:
        capacity = limits.campaigns
        self.triage = triage
        self.episodes = triage.state(capacity)
        self.tracks = Tracks(capacity, detectors, {"triage": self.episodes}, training)
        self.world = kinship.World(
            kinship.newcomer_state(limits.clients),
            kinship.kin_state(KIN_A_GROUP * capacity),
            kinship.ring_state(limits.models),
            kinship.group_state(capacity),
        )
        self.book = Book(
            partition=np.zeros(capacity, np.int32),
            since_us=np.zeros(capacity, np.int64),
            members=np.zeros((capacity, MEMBERS), np.uint64),
            proven=np.zeros((capacity, MEMBERS), np.int64),
            suspicion=np.zeros((capacity, len(FAMILIES)), np.float32),
            told_us=np.zeros((capacity, len(triage.columns)), np.int64),
            told=np.zeros((capacity, len(triage.columns)), np.uint8),
            told_at=np.zeros((capacity, len(triage.columns)), np.int64),
        )
        self.names: dict[int, tuple[str, str]] = {}  # client id and address of the kin
        self.dropped = 0  # groups that had to make room

    def observe(self, view: View, alone: list[Emission]) -> tuple[list[Emission], list[Judged], F32]:
        """Take one chunk after its clients were judged alone.

        Returns the emissions of single clients that no campaign alert has said already, those of groups, and the
        evidence of kinship of every row's client, NaN where there is none.
        """
        n = len(view.slot)
        scales = view.scales
        benign = kinship.Benign(scales.rows, scales.owners, scales.row_count, scales.closeness)
        moves, out = _moves(view), kinship.Out(np.full(n, -1), *np.full((3, n), np.nan, np.float32))
        kept: list[Emission] = []
        judged: list[Judged] = []
        row, done, again = 0, 0, False
        while True:
            row, other = kinship.walk(row, again, moves, benign, self.world, out)
            again = True
            if row == n or self._clears(row, other, view):
                self._judge(view, out, (done, row), alone, kept, judged)
                done = row
            if row == n:
                return kept, judged, out.evidence
            self._decide(row, other, view)

    # --- who belongs together -------------------------------------------------------------------------------------

    def _clears(self, row: int, other: int, view: View) -> bool:
        """Say whether a decision takes something from a group: what came before has to be judged first."""
        mine = self._kin(row, view)
        if mine < 0 or other < 0:
            return False
        kin, groups = self.world.kin, self.world.groups
        g, h = self._group(mine), self._group(other)
        if g < 0:
            return h < 0 and bool(groups.serial.all())
        return g != h and (kinship.one(g, h, groups) or kinship.strays(mine, kin))

    def _decide(self, row: int, other: int, view: View) -> None:
        """Do what a stop asks for: a new kin, group or member, a move, a merger, a proof."""
        mine = self._kin(row, view)
        if mine < 0:
            self._register(row, view)
        if mine < 0 or other < 0:
            return
        kin, groups = self.world.kin, self.world.groups
        g, h = self._group(mine), self._group(other)
        if g < 0:
            if h < 0:
                h = self._found(other, view, row)
            self._join(mine, h)
        elif g != h and kinship.one(g, h, groups):
            self._merge(g, h)
        elif g != h and kinship.strays(mine, kin):
            self._leave(mine, g)
            self._join(mine, h)
        if g != h and self._group(mine) == h:
            kin.given[mine] += 1
            kin.taken[other] += 1
        for k in (mine, other):
            self._prove(k)

    def _kin(self, row: int, view: View) -> int:
        return int(
            kinship.place_of_kin(
                view.slot[row], view.batch.client_key[row], self.world.newcomers.place, self.world.kin.key
            )
        )

    def _group(self, k: int) -> int:
        serial = self.world.kin.group[k]
        return int(kinship.place_of(self.world.groups.serial, serial)) if serial else -1

    def _register(self, row: int, view: View) -> None:
        """Give a client its place among the kin: the one that it had, a free one, or that of the longest silent."""
        kin, key = self.world.kin, view.batch.client_key[row]
        k = int(kinship.place_of(kin.key, key))
        if k < 0:
            alarming = self.world.groups.serial[self._suspicious()]
            k = _longest_silent(kin.last_us, kin.key == 0, np.isin(kin.group, alarming))
            self.names.pop(int(kin.key[k]), None)
            for column in kin:
                column[k] = 0
            kin.key[k], kin.partition[k] = key, view.batch.partition[row]
        kin.last_us[k] = max(kin.last_us[k], view.batch.time_us[row])
        self.names[int(key)] = (view.batch.client_id[row], view.batch.client_ip[row])
        self.world.newcomers.place[view.slot[row]] = k + 1

    def _found(self, k: int, view: View, row: int) -> int:
        """Found a group with its first member; of all groups the longest silent one without suspicion makes room."""
        groups, book = self.world.groups, self.book
        g = _longest_silent(groups.last_us, groups.serial == 0, self._suspicious())
        self.dropped += int(groups.serial[g] != 0)
        self.clear(g)
        groups.serial[g] = self.world.kin.key[k]
        groups.wealth[g] = 1.0
        groups.last_us[g] = book.since_us[g] = view.batch.time_us[row]
        book.partition[g] = self.world.kin.partition[k]
        self._join(k, g)
        return g

    def _suspicious(self) -> NDArray[np.bool_]:
        return np.asarray(self.book.suspicion.max(axis=1) >= SUSPICIOUS)  # a cleared group has none

    def clear(self, g: int) -> None:
        """Forget a group."""
        for state in (self.world.groups, self.book, *self.tracks.states.values()):
            for column in state:
                column[g] = 0

    def _join(self, k: int, g: int) -> None:
        kin = self.world.kin
        kin.group[k] = self.world.groups.serial[g]
        kin.given[k] = kin.taken[k] = kin.away[k] = 0
        free = np.flatnonzero(self.book.members[g] == 0)
        if len(free):  # else it is judged with the others, but cannot be named
            self.book.members[g, free[0]] = kin.key[k]

    def _leave(self, k: int, g: int) -> None:
        at = self._at(k, g)
        if at >= 0:
            self.world.groups.size[g] -= int(self.book.proven[g, at] > 0)
            for column in (self.book.members, self.book.proven):
                column[g, at:-1] = column[g, at + 1 :].copy()
                column[g, -1] = 0

    def _merge(self, g: int, h: int) -> None:
        """Let the younger of two groups go up in the older."""
        groups, book, kin = self.world.groups, self.book, self.world.kin
        old, young = sorted((g, h), key=lambda x: (int(book.since_us[x]), int(groups.serial[x])))
        kin.group[kin.group == groups.serial[young]] = groups.serial[old]
        room = np.flatnonzero(book.members[old] == 0)
        came = np.flatnonzero(book.members[young])[: len(room)]
        room = room[: len(came)]
        book.members[old, room] = book.members[young, came]
        book.proven[old, room] = np.where(book.proven[young, came] > 0, groups.events[old] + 1, 0)
        groups.size[old] += int((book.proven[young, came] > 0).sum())
        self.clear(young)

    def _at(self, k: int, g: int) -> int:
        found = np.flatnonzero(self.book.members[g] == self.world.kin.key[k])
        return int(found[0]) if len(found) else -1

    def _prove(self, k: int) -> None:
        """Note when a member both gave and took a link for the first time."""
        kin, g = self.world.kin, self._group(k)
        at = self._at(k, g) if g >= 0 else -1
        if at >= 0 and kin.given[k] and kin.taken[k] and not self.book.proven[g, at]:
            self.book.proven[g, at] = self.world.groups.events[g] + 1
            self.world.groups.size[g] += 1

    # --- what they do together ------------------------------------------------------------------------------------

    def _judge(
        self,
        view: View,
        out: kinship.Out,
        span: tuple[int, int],
        alone: list[Emission],
        kept: list[Emission],
        judged: list[Judged],
    ) -> None:
        """Run the members' events through detectors and rules, and drop what a member's own alert would repeat."""
        start, stop = span
        said = self._said(view, out, np.arange(start, stop)[out.group[start:stop] >= 0])
        mine = [e for e in alone if start <= e.row < stop]
        for row, one in sorted([(j.row, j) for j in said] + [(e.row, e) for e in mine], key=lambda x: x[0]):
            if isinstance(one, Judged):
                self._tell(one, int(out.group[row]))
                judged.append(one)
            elif not self._told(one, int(out.group[row]), view):
                kept.append(one)

    def _said(self, view: View, out: kinship.Out, rows: I64) -> list[Judged]:
        if not len(rows):
            return []
        group, batch = out.group[rows], view.batch.take(rows)
        pooled, signals = self.tracks.measure(
            batch, group, view.reference[rows], view.scales, view.sketch[rows], view.blocks[rows], view.usable[rows]
        )
        signals |= {"campaign.links": out.links[rows], "campaign.clients": out.clients[rows]}
        for k, family in enumerate(FAMILIES):
            column = signals[f"{family.name}.evidence"]
            heard = ~np.isnan(column)
            self.book.suspicion[group[heard], k] = column[heard]
        size = out.clients[rows].astype(np.int32)
        place = np.where(size >= LEAST, group, -1)
        found = self.triage.observe(batch, place, signals, self.episodes, size)
        return [Judged(int(rows[e.row]), e, pooled, signals, self._describe(pooled, signals, e.row)) for e in found]

    def _describe(self, view: View, signals: Mapping[str, F32], row: int) -> Campaign:
        """Return who had been proven by then, in that order."""
        g = int(view.slot[row])
        proven = self.book.proven[g]
        there = np.flatnonzero((proven > 0) & (proven <= view.queries[row]))
        keys = self.book.members[g, there[np.argsort(proven[there], kind="stable")]].tolist()
        known = [self.names[key] for key in keys if key in self.names]
        return Campaign(
            clients=tuple(client for client, _ in known),
            networks=len({network(ip) for _, ip in known if ip}),
            links=float(signals["campaign.links"][row]),
        )

    def _tell(self, one: Judged, g: int) -> None:
        """Remember an alert."""
        self.book.told_us[g, one.emission.rule] = one.view.batch.time_us[one.emission.row]
        self.book.told[g, one.emission.rule] = one.emission.level
        self.book.told_at[g, one.emission.rule] = one.view.queries[one.emission.row]

    def _told(self, emission: Emission, g: int, view: View) -> bool:
        """Say whether a campaign alert of the same rule and severity names the client already."""
        rule, book = emission.rule, self.book
        if g < 0 or book.told[g, rule] < emission.level:
            return False
        recent_us = int(view.batch.time_us[emission.row]) - int(book.told_us[g, rule])
        named = (book.proven[g] > 0) & (book.proven[g] <= book.told_at[g, rule])
        mine = book.members[g] == view.batch.client_key[emission.row]
        return bool((named & mine).any() and recent_us <= self.triage.ruleset.active[rule].episode)


def network(ip: str) -> str:
    """Return the part of an address that neighbours share: /24, or /48 of IPv6; what is no address as it is."""
    try:
        address = ip_address(ip)
    except ValueError:
        return ip
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))


def _longest_silent(last_us: I64, free: NDArray[np.bool_], kept: NDArray[np.bool_]) -> int:
    """Return the place that makes room: a free one, else that of the longest silent, those to be kept last."""
    return int(np.argmin(np.where(free, -LAST, last_us + LAST * kept)))


def _moves(view: View) -> kinship.Moves:
    own = view.joined * view.scales.r0[view.reference]
    return kinship.Moves(
        view.slot,
        view.batch.client_key,
        view.batch.partition,
        view.batch.time_us,
        view.reference,
        view.sketch,
        view.number,
        np.where(np.isnan(own), np.inf, own),
        np.empty(kinship.RING, np.float32),
    )
