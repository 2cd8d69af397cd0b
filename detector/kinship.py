"""Kinship: do the queries of a newcomer go on from those of other clients?

An attack that is spread over many ids is one trajectory cut into pieces: every piece lies near the others' pieces, and
far from what benign clients ask. For each of a client's first 64 fresh queries, a is the distance to the nearest recent
query of another client of the model, b that to the nearest benign row of its reference, and

    p = rank of a/b among benign clients (closeness.py), ties broken at random;  e = mean of k·p^(k−1), k in .1 .3 .5 .7

with one wealth for each k. Null: recent queries of others are no nearer than the benign reference allows. No bet where
an own earlier query is nearer, or a fifth as far as any benign row (sensors, sliders, video go on from themselves), or
where inputs are the same or nearly so (health checks, caches, popular records, replicas that read the same with noise).
A client whose evidence reaches 1.5 is *kin*, its near ones (p ≤ 0.1) are *links*.

Sees: steps and probes of one search, also wide ones, whichever id sends which. Cannot see: attackers with a long past
as ordinary clients; ids that ask once or twice; genuine records. Fooled by: one benign job that runs under several new
ids (augmentation, explainers, a new domain): kinship accuses nobody, it says whose queries are to be judged together.

Cost: two searches over 256 sketches of 32 numbers (about 2 µs) for newcomers and kin, nothing for others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detector.detectors import Signal
from detector.events import F32, F64, I16, I32, I64, U64
from detector.evidence import share, uniform
from detector.kernel import in_place
from detector.ring import FARTHEST, WINDOW, distances, least, newest_with
from detector.sketch import DIMENSIONS

RING = WINDOW  # recent queries of a model, as many as its reference has rows
YOUNG = 64  # fresh queries of a client that are looked at: the first 16, and every fourth while nothing speaks for it
CLOSELY, NOW_AND_THEN = 16, 4
POWERS = np.array([0.1, 0.3, 0.5, 0.7])
ONES = np.ones(len(POWERS))
KIN = 1.5  # log10 e-value from which a client is kin
COPY = 0.2  # of the distance to an own or a benign row: what is nearer is the same record, or the same smooth stream
LINK = 0.1  # p up to which a near query is a link
LATELY = 64  # links of a group after which older ones count half

MEMBERS = 128  # of a group that can be named

SIGNALS = (
    Signal("campaign.links", "log10 e-value", -20, 20, "clients of a group go on from each other's queries"),
    Signal("campaign.clients", "clients", 0, MEMBERS, "clients of a group that link to others and are linked to"),
)


class NewcomerState(NamedTuple):
    """One row a client slot; all-zero = new."""

    wealth: F64  # [slots, 4] one a power; 0 = no bet yet, counts as 1
    place: I32  # [slots] place among the kin + 1, 0 = none; holds if the key there is the client's


class Kin(NamedTuple):
    """Clients whose evidence has reached `KIN`: a small table of its own, which outlives their slots."""

    key: U64  # [kin] 0 = free
    partition: I32  # [kin] where the client's events come from
    worth: F32  # [kin] its newest evidence
    group: U64  # [kin] serial of its group, 0 = none
    given: I32  # [kin] links to other members of its group
    taken: I32  # [kin] links of other members to it
    toward: U64  # [kin] another group that it has links to
    away: I32  # [kin] how many more than to its own
    last_us: I64  # [kin] time of its newest query


class Ring(NamedTuple):
    """Recent queries of newcomers and kin, by model."""

    rows: I16  # [models, 32, 256] sketches, one a column
    owners: U64  # [models, 256] client keys, 0 = empty
    partitions: I32  # [models, 256]
    total: I64  # [models] rows so far; the next comes to total % 256


class Groups(NamedTuple):
    """What the kernel knows of groups."""

    serial: U64  # [groups] 0 = free
    wealth: F64  # [groups, 4] of the members' bets since they joined
    inner: I32  # [groups] links inside it, lately
    rival: U64  # [groups] another group with links to this one
    outer: I32  # [groups] those links, lately
    size: I32  # [groups] proven members
    events: I64  # [groups] queries of members
    last_us: I64  # [groups] time of the newest


class Benign(NamedTuple):
    """What the kernel needs of `References`: a tuple of many arrays costs time with every call."""

    rows: I16
    owners: U64
    row_count: I64
    closeness: F32


class Moves(NamedTuple):
    """Columns [n] of the view that the kernel reads."""

    slot: I64
    key: U64
    partition: I32
    time_us: I64
    reference: I32
    sketch: I16
    number: I64  # 0 where it is not fresh
    own: F64  # distance to the nearest own earlier query, infinite where there is none
    room: F32  # [256] for distances


class Out(NamedTuple):
    """Columns [n]: the group that an event is judged with (−1 = none), its evidence and size by then."""

    group: I64
    links: F32
    clients: F32
    evidence: F32  # the client's own


class World(NamedTuple):
    """All that the kernel keeps."""

    newcomers: NewcomerState
    kin: Kin
    ring: Ring
    groups: Groups


def newcomer_state(capacity: int) -> NewcomerState:
    """Return state for that many clients."""
    return NewcomerState(np.zeros((capacity, len(POWERS))), np.zeros(capacity, np.int32))


def kin_state(capacity: int) -> Kin:
    """Return an empty table for that many kin."""
    return Kin(
        key=np.zeros(capacity, np.uint64),
        partition=np.zeros(capacity, np.int32),
        worth=np.zeros(capacity, np.float32),
        group=np.zeros(capacity, np.uint64),
        given=np.zeros(capacity, np.int32),
        taken=np.zeros(capacity, np.int32),
        toward=np.zeros(capacity, np.uint64),
        away=np.zeros(capacity, np.int32),
        last_us=np.zeros(capacity, np.int64),
    )


def ring_state(models: int) -> Ring:
    """Return an empty ring for every model."""
    return Ring(
        rows=np.zeros((models, DIMENSIONS, RING), np.int16),
        owners=np.zeros((models, RING), np.uint64),
        partitions=np.zeros((models, RING), np.int32),
        total=np.zeros(models, np.int64),
    )


def group_state(capacity: int) -> Groups:
    """Return that many free groups."""
    return Groups(
        serial=np.zeros(capacity, np.uint64),
        wealth=np.zeros((capacity, len(POWERS))),
        inner=np.zeros(capacity, np.int32),
        rival=np.zeros(capacity, np.uint64),
        outer=np.zeros(capacity, np.int32),
        size=np.zeros(capacity, np.int32),
        events=np.zeros(capacity, np.int64),
        last_us=np.zeros(capacity, np.int64),
    )


@in_place
def walk(start: int, again: bool, moves: Moves, benign: Benign, world: World, out: Out) -> tuple[int, int]:
    """Bet on every event from `start` on, up to one that changes who belongs together.

    Returns its row, and the place of the kin that it links to (−1 = none: the client itself has just become kin). The
    row has been bet on, but is not with any group yet: go on there with `again`. At the end the row is n.
    """
    squared = moves.room
    newcomers, kin = world.newcomers, world.kin
    for i in range(start, len(moves.slot)):
        c, number = moves.slot[i], moves.number[i]
        if newcomers.place[c] == 0 and (number == 0 or number > YOUNG):
            continue
        p, owner, k = np.nan, np.uint64(0), place_of_kin(c, moves.key[i], newcomers.place, kin.key)
        repeated = again and i == start
        if number and not repeated and benign.closeness[moves.reference[i], 0] > 0.0:
            p, owner = _meet(i, c, moves, benign, newcomers.wealth, world.ring, squared)
        if newcomers.wealth[c, 0] > 0.0:
            out.evidence[i] = evidence(newcomers.wealth, c)
        if k < 0:
            if out.evidence[i] >= KIN and not repeated:
                return i, -1
            continue
        kin.worth[k] = out.evidence[i]
        kin.last_us[k] = max(kin.last_us[k], moves.time_us[i])
        if out.evidence[i] >= KIN:
            other = place_of(kin.key, owner) if p <= LINK else -1
            if other >= 0 and kin.worth[other] >= KIN and _link(k, other, kin, world.groups):
                return i, other
            if kin.group[k]:
                _take_part(i, place_of(world.groups.serial, kin.group[k]), p, moves, world.groups, out)
    return len(moves.slot), -1


@in_place
def place_of_kin(c: int, key: np.uint64, place: I32, keys: U64) -> int:
    """Return the place of the client in a slot among the kin, −1 where it is none."""
    k = place[c] - 1
    return k if k >= 0 and keys[k] == key else -1


@in_place
def evidence(wealth: F64, row: int) -> float:
    """Return log10 of the mean wealth."""
    total = 0.0
    for j in range(len(POWERS)):
        total += wealth[row, j]
    return float(np.log10(total / len(POWERS)))


@in_place
def place_of(serial: U64, wanted: np.uint64) -> int:
    """Return the place of a group, −1 where it is gone."""
    for g in range(len(serial)):
        if serial[g] == wanted:
            return g
    return -1


@in_place
def _take_part(i: int, g: int, p: float, moves: Moves, groups: Groups, out: Out) -> None:
    """Count an event for its group."""
    if g < 0:
        return
    if not np.isnan(p):
        bet(groups.wealth, g, p)
    groups.events[g] += 1
    groups.last_us[g] = max(groups.last_us[g], moves.time_us[i])
    out.group[i] = g
    out.links[i] = evidence(groups.wealth, g)
    out.clients[i] = groups.size[g]


@in_place
def bet(wealth: F64, row: int, p: float) -> None:
    """Multiply the bets on one p-value into a row of wealth; they share it: linking late is no loss."""
    for j in range(len(POWERS)):
        wealth[row, j] *= POWERS[j] * p ** (POWERS[j] - 1.0)
    share(wealth, row, ONES, len(POWERS))


@in_place
def _meet(
    i: int, c: int, moves: Moves, benign: Benign, wealth: F64, ring: Ring, squared: F32
) -> tuple[float, np.uint64]:
    """Bet on a fresh query and remember it; returns p (NaN = no bet) and the client of the nearest query."""
    number = moves.number[i]
    worth = evidence(wealth, c) if wealth[c, 0] > 0.0 else 0.0
    if number > YOUNG and worth < KIN:
        return np.nan, np.uint64(0)
    p, owner = np.nan, np.uint64(0)
    if number <= CLOSELY or number % NOW_AND_THEN == 0 or worth > 0.0:
        p, owner = _closeness(i, moves, benign, ring, squared)
    if not np.isnan(p):
        if wealth[c, 0] == 0.0:
            wealth[c] = 1.0
        bet(wealth, c, p)
    if number <= YOUNG or number % NOW_AND_THEN == 0:  # kin must not fill the ring
        _remember(i, moves, ring)
    return p, owner


@in_place
def _closeness(i: int, moves: Moves, benign: Benign, ring: Ring, squared: F32) -> tuple[float, np.uint64]:
    """Return the p-value of the closeness of a query to others' (NaN = no bet), and the client of the nearest."""
    m, key, count = moves.reference[i], moves.key[i], benign.row_count[moves.reference[i]]
    known = min(ring.total[m], count)  # no more rows than the reference has: both are equally dense
    others(ring.rows, ring.owners, m, moves.sketch[i], key, squared)
    bits = least(squared.view(np.int32), ring.total[m], 1, known)
    near = squared_gap(bits)
    if bits == FARTHEST or moves.own[i] * moves.own[i] < near:
        return np.nan, np.uint64(0)
    owner = ring.owners[m, newest_with(squared.view(np.int32), ring.total[m], bits)]
    others(benign.rows, benign.owners, m, moves.sketch[i], key, squared)
    usual = squared_gap(least(squared.view(np.int32), count, 1, count))
    scale = min(moves.own[i] * moves.own[i], usual)
    if near < COPY * COPY * scale or scale < COPY * COPY * usual:  # a replica's copy; a stream that goes on from itself
        return np.nan, np.uint64(0)
    ratio = np.float32(np.sqrt(near)) / np.float32(max(np.sqrt(usual), 1.0))
    return rank(benign.closeness[m], float(ratio), uniform(key, moves.number[i], 7)), owner


@in_place
def others(rows: I16, owners: U64, m: int, x: I16, key: np.uint64, squared: F32) -> None:
    """Write the squared distances of x to the rows of a model; infinite to a client's own, to equal and to no rows."""
    distances(rows[m], x, squared)
    for w in range(RING):
        apart = (owners[m, w] != key) & (owners[m, w] != 0) & (squared[w] > 0.0)
        squared[w] = squared[w] if apart else np.float32(np.inf)


@in_place
def squared_gap(bits: int) -> np.float32:
    """Return the squared distance with these bits."""
    return np.int32(bits).view(np.float32)


@in_place
def rank(quantiles: F32, ratio: float, tie: float) -> float:
    """Return the conformal p-value of a closeness among benign ones, a tie broken by a number in (0, 1]."""
    below, equal = 0, 0
    for q in range(len(quantiles)):
        below += quantiles[q] < ratio
        equal += quantiles[q] == ratio
    return float((below + tie * (equal + 1)) / (len(quantiles) + 1))


@in_place
def _remember(i: int, moves: Moves, ring: Ring) -> None:
    """Keep a query for others to be near to. Who comes once leaves nothing: a flood of ids cannot empty the ring."""
    if moves.number[i] < 2:
        return
    m = moves.reference[i]
    w = ring.total[m] % RING
    for k in range(DIMENSIONS):
        ring.rows[m, k, w] = moves.sketch[i, k]
    ring.owners[m, w] = moves.key[i]
    ring.partitions[m, w] = moves.partition[i]
    ring.total[m] += 1


@in_place
def _link(mine: int, other: int, kin: Kin, groups: Groups) -> bool:
    """Count a link between two kin; true where it asks for a decision."""
    g = place_of(groups.serial, kin.group[mine]) if kin.group[mine] else -1
    h = place_of(groups.serial, kin.group[other]) if kin.group[other] else -1
    if g < 0 or h < 0:
        return g < 0  # a kin without group will decide itself when it links
    if g == h:
        return _inside(mine, other, g, kin, groups)
    return _between(mine, g, h, kin, groups)


@in_place
def _inside(mine: int, other: int, g: int, kin: Kin, groups: Groups) -> bool:
    """Count a link inside a group; true where it is the first that a member gives or takes."""
    kin.given[mine] += 1
    kin.taken[other] += 1
    kin.away[mine] = max(kin.away[mine] - 1, 0)
    groups.inner[g] += 1
    if groups.inner[g] + groups.outer[g] >= LATELY:
        groups.inner[g] //= 2
        groups.outer[g] //= 2
    return bool(kin.given[mine] == 1 or kin.taken[other] == 1)


@in_place
def _between(mine: int, g: int, h: int, kin: Kin, groups: Groups) -> bool:
    """Count a link from group g to group h; true where the client should move over, or the groups are one."""
    theirs = groups.serial[h]
    if kin.toward[mine] == theirs:
        kin.away[mine] += 1
    elif kin.away[mine] == 0:
        kin.toward[mine], kin.away[mine] = theirs, 1
    else:
        kin.away[mine] -= 1
    if groups.rival[g] == theirs:
        groups.outer[g] += 1
    elif groups.outer[g] == 0:
        groups.rival[g], groups.outer[g] = theirs, 1
    else:
        groups.outer[g] -= 1
    return strays(mine, kin) or one(g, h, groups)


@in_place
def strays(mine: int, kin: Kin) -> bool:
    """Say whether a client's links lead to another group than its own."""
    return bool(kin.away[mine] >= 4)


@in_place
def one(g: int, h: int, groups: Groups) -> bool:
    """Say whether two groups are one: lately a third as many links lead from g to h as stay in g."""
    return bool(groups.rival[g] == groups.serial[h] and groups.outer[g] >= 2 and 3 * groups.outer[g] >= groups.inner[g])
