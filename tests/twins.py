"""Slow truths beside the fast kernels of the core: sketch, history and evidence, written from their formulas.

Plain lists and loops, the whole past kept, no rings. Single precision only where a tie between distances would
otherwise fall differently. Twins of the detectors are in `twins_detectors.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detector.events import F32, F64, I16
from detector.evidence import CAP, SHARED_CAP, TAIL_POWERS
from detector.history import NEAR, TIGHT, TIGHT_R, WIDE_R
from detector.ring import WINDOW
from detector.sketch import CLIP, DIMENSIONS

Row = dict[str, float]


# --- sketch ---------------------------------------------------------------------------------------------------------


def project(rows: F32, center: F32, scale: F32, signs: F32) -> I16:
    """Sketch rows [n, width] with Python's whole numbers, which never overflow or round."""
    out = []
    for row in rows:
        scaled = (row - center) * scale  # single precision, as stated by the columns' type
        whole = [int(v) for v in np.rint(np.clip(scaled, -CLIP, CLIP)).astype(np.int64)]
        if len(whole) <= DIMENSIONS:
            sums: list[float] = [*whole, *([0] * (DIMENSIONS - len(whole)))]
        else:
            root = math.sqrt(len(whole))
            sums = [sum(v * int(s) for v, s in zip(whole, column, strict=True)) / root for column in signs.T]
        out.append([max(-32767, min(32767, round(v))) for v in sums])
    return np.array(out, np.int16).reshape(-1, DIMENSIONS)


# --- history --------------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """A fresh query that a client made."""

    x: F32
    digest: int
    wide: int
    tight: int
    chain: list[int]  # where the chain began, for each radius


@dataclass
class Past:
    """Everything that a client ever asked."""

    queries: int = 0
    since_us: int = 0
    fresh: list[Asked] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)  # of all events that have one


def geometry(past: Past, x: I16, usable: bool, digest: int, time_us: int, r0: float, radii: Sequence[float]) -> Row:
    """Measure one event against the client's past, then add it to the past. NaN = nothing to say."""
    past.queries += 1
    past.since_us = past.since_us if past.queries > 1 else time_us
    row: Row = dict.fromkeys(("step", "cosine", "near", "joined", "origin", "thread", "tight"), math.nan)
    counts = (
        "fresh",
        "path",
        "tight_joined",
        "run",
        "number",
        "founder",
        "record",
        "age",
        "span",
    )
    row |= dict.fromkeys(counts, 0)
    row |= {"queries": past.queries, "since_us": past.since_us}
    if digest:
        past.digests.append(digest)
        row["run"] = _run_length(past.digests)
    window = past.fresh[-WINDOW:]
    if not usable or digest in [q.digest for q in window]:
        return row
    row |= {"fresh": 1, "number": len(past.fresh) + 1}
    number = len(past.fresh)
    new = Asked(x.astype(np.float32), digest, number, number, [number] * len(radii))
    if window:
        _measure(row, new, window, r0, radii)
    row |= {"founder": new.wide + 1, "record": new.tight + 1}
    past.fresh.append(new)
    return row


def _measure(row: Row, new: Asked, window: list[Asked], r0: float, radii: Sequence[float]) -> None:
    newest_first, number = window[::-1], new.wide
    gaps = (_distances(np.stack([q.x for q in newest_first]), new.x) / r0).tolist()
    row["step"] = gaps[0]
    row["near"] = min(gaps[1:NEAR], default=math.inf)
    if len(window) > 1:
        row["cosine"] = _cosine(window[-2].x, window[-1].x, new.x)
    row["joined"] = min(gaps)
    row["age"] = gaps.index(min(gaps)) + 1
    row["span"] = len(window)
    joins = [row["joined"] < radius / r0 for radius in radii]
    nearest = newest_first[gaps.index(min(gaps))]
    new.chain = [old if join else number for old, join in zip(nearest.chain, joins, strict=True)]
    if any(joins):
        row["span"] = min(len(window), number - new.chain[joins.index(True)])
    if row["joined"] < WIDE_R:
        neighbour = newest_first[gaps.index(min(gaps))]  # of equally near ones the newest
        members = [q for q in window if q.wide == neighbour.wide]
        new.wide = neighbour.wide
        row["thread"] = _cosine(members[-2].x, members[-1].x, new.x) if len(members) > 1 else math.nan
        if number - new.wide < WINDOW:
            row["origin"] = gaps[number - new.wide - 1]
        onward = neighbour is members[-1] or row["thread"] > -0.1
        step = _distances(members[-1].x[None], new.x)[0] / r0
        row["path"] = int(step < 0.5 and onward)
    closest = min(gaps[:TIGHT])
    if closest < TIGHT_R:
        new.tight = newest_first[gaps.index(closest)].tight
        members = [q for q in window[-TIGHT:] if q.tight == new.tight]
        row["tight_joined"] = 1
        row["tight"] = _cosine(members[-2].x, members[-1].x, new.x) if len(members) > 1 else math.nan


def _run_length(digests: Sequence[int]) -> int:
    length = 1
    while length < len(digests) and digests[-1 - length] == digests[-1]:
        length += 1
    return length


def _distances(rows: F32, x: F32) -> F64:
    """Sum squares in single precision, feature after feature, as the ring's columns are."""
    total = np.zeros(len(rows), np.float32)
    for gaps in (rows - x).T:
        total += gaps * gaps
    return np.sqrt(total.astype(np.float64))


def _cosine(before: F32, at: F32, new: F32) -> float:
    first, second = (at - before).astype(np.float64), (new - at).astype(np.float64)
    lengths = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / lengths if lengths else math.nan


# --- evidence -------------------------------------------------------------------------------------------------------


def weight(start: int) -> float:
    """Return the weight of a start, counted from 0."""
    return 1 / ((start + 1) * (start + 2))


@dataclass
class Mixture:
    """An e-process that starts anew every 64 events: the e-values of every event so far, one column a bet.

    E_t = Σ_b w_b · mean_j Π_{64 b ≤ s ≤ t} e_{s,j} + the weight of the starts to come, straight from the formula.
    """

    logs: list[F64] = field(default_factory=list)

    def bet(self, e_values: Sequence[float]) -> float:
        """Take the e-values of one event and return log10 E after it."""
        self.logs.append(np.log(e_values))
        return self.evidence()

    def evidence(self) -> float:
        """Return log10 E after the last event."""
        logs = np.array(self.logs)
        starts = range((len(logs) - 1) // 64 + 1)
        total = sum(weight(b) * np.exp(logs[64 * b :].sum(axis=0)).mean() for b in starts)
        return math.log10(total + 1 - sum(weight(b) for b in starts))


def stakes(hit: bool | np.bool_, p0: float, bets: Sequence[float] | F64) -> list[float]:
    """Return the e-value of each bet on one Bernoulli event."""
    return [float(q / p0 if hit else (1 - q) / (1 - p0)) for q in bets]


def power(p: float) -> float:
    """Bet on a p-value: the mean of k·p^(k−1), p rounded up to a multiple of 1/4096."""
    p = math.ceil(p * 4096) / 4096
    return float(np.mean([k * p ** (k - 1) for k in (0.1, 0.3, 0.5, 0.7)]))


def tails(p: float) -> list[float]:
    """Bet on a p-value with each of k·p^(k−1), p rounded up to a multiple of 1/4096."""
    p = math.ceil(p * 4096) / 4096
    return [k * p ** (k - 1) for k in TAIL_POWERS]


@dataclass
class Start:
    """One start of a pair: two sets of running products."""

    number: int
    first: F64
    second: F64

    def worth(self, width: int) -> float:
        """Return the weighted smaller mean."""
        return weight(self.number) * float(min(self.first[:width].mean(), self.second.mean()))


@dataclass
class Pair:
    """Two tests of which the poorer counts, per start; four starts are followed, the poorest makes room."""

    width: int
    second: int
    live: int = 4
    starts: list[Start] = field(default_factory=list)

    def open(self, event: int) -> None:
        """Begin a start where one is due."""
        if event % 64:
            return
        fresh = Start(event // 64, np.ones(self.width), np.ones(self.second))
        if len(self.starts) < self.live:
            self.starts.append(fresh)
        else:
            poorest = min(range(self.live), key=lambda k: self.starts[k].worth(self.width))
            self.starts[poorest] = fresh

    def bet(self, first: Any = None, second: Any = None, spread: float = 0.0) -> None:
        """Multiply the e-values of one event into every start, then spread a share of the first evenly.

        Products are capped at CAP, shared ones at SHARED_CAP.
        """
        for start in self.starts:
            if first is not None:
                wealth = np.minimum(start.first * np.asarray(first), SHARED_CAP if spread else CAP)
                start.first = (1 - spread) * wealth + spread * wealth.mean()
            if second is not None:
                start.second = np.minimum(start.second * np.asarray(second), CAP)

    def evidence(self, event: int) -> float:
        """Return log10 E after that event."""
        unspent = 1 - sum(weight(b) for b in range(event // 64 + 1))
        return math.log10(unspent + sum(start.worth(self.width) for start in self.starts))
