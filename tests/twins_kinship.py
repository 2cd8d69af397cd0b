"""Slow truth beside kinship.py: plain lists and loops, written from its formulas; one model, nobody in a group."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from detector.closeness import LEAST_SIDE, PARTINGS, POINTS
from detector.detectors import View
from detector.events import F32, F64, U64
from detector.evidence import SHARED_CAP, SWITCH, uniform
from detector.kinship import CLOSELY, COPY, KIN, NOW_AND_THEN, POWERS, RING, YOUNG


@dataclass
class Crowd:
    """Everything that newcomers of one model asked, oldest first, and what each has won."""

    asked: list[tuple[int, F32]] = field(default_factory=list)  # (client, sketch)
    wealth: dict[int, list[float]] = field(default_factory=dict)

    def evidence(self, view: View) -> list[float]:
        """Return every row's evidence after it, NaN while its client has made no bet."""
        return [self._row(view, i) for i in range(len(view.slot))]

    def _row(self, view: View, i: int) -> float:
        client, number = int(view.batch.client_key[i]), int(view.number[i])
        known = bool(view.scales.closeness[0, 0] > 0)
        worth = self._worth(client)
        if number and known and (number <= YOUNG or worth >= KIN):
            if number <= CLOSELY or number % NOW_AND_THEN == 0 or worth > 0:
                self._bet(view, i, client)
            if number >= 2 and (number <= YOUNG or number % NOW_AND_THEN == 0):
                self.asked.append((client, view.sketch[i].astype(np.float32)))
        return self._worth(client) if client in self.wealth else math.nan

    def _worth(self, client: int) -> float:
        return math.log10(sum(self.wealth[client]) / len(POWERS)) if client in self.wealth else 0.0

    def _bet(self, view: View, i: int, client: int) -> None:
        p = self._p(view, i, client)
        if p is None:
            return
        wealth = self.wealth.setdefault(client, [1.0] * len(POWERS))
        won = [min(w * k * p ** (k - 1), SHARED_CAP) for w, k in zip(wealth, POWERS.tolist(), strict=True)]
        even = SWITCH * sum(won) / len(won)
        self.wealth[client] = [(1 - SWITCH) * w + even for w in won]

    def _p(self, view: View, i: int, client: int) -> float | None:
        count = int(view.scales.row_count[0])
        x = view.sketch[i].astype(np.float32)
        recent = [self.asked[-age] for age in range(1, min(len(self.asked), count, RING) + 1)]
        near = _nearest(x, [row for owner, row in recent if owner != client])
        own = float(view.joined[i]) * float(view.scales.r0[0])
        if near is None or (not math.isnan(own) and own < near):
            return None
        rows, owners = view.scales.rows[0, :, :count].T, view.scales.owners[0, :count]
        usual = _nearest(x, [row for row, owner in zip(rows, owners.tolist(), strict=True) if owner != client])
        scale = min(math.inf if math.isnan(own) else own, math.inf if usual is None else usual)
        if near < COPY * scale or scale < COPY * (math.inf if usual is None else usual):
            return None
        ratio = np.float32(near) / np.float32(max(math.inf if usual is None else usual, 1.0))
        below = sum(bool(q < ratio) for q in view.scales.closeness[0])
        equal = sum(bool(q == ratio) for q in view.scales.closeness[0])
        return (below + uniform(view.batch.client_key[i], int(view.number[i]), 7) * (equal + 1)) / (POINTS + 1)


def closeness(gaps: F64, owners: U64) -> F32:
    """Return the quantiles of `detector.closeness.closeness` for a reference that is large enough."""
    strangers = np.where(owners[:, None] == owners[None, :], np.inf, gaps)
    found: list[float] = []
    for bit in range(64 - PARTINGS, 64):
        side = [(int(owner) * 0x9E3779B97F4A7C15 % 2**64) >> bit & 1 for owner in owners.tolist()]
        if min(sum(side), len(side) - sum(side)) < LEAST_SIDE:
            continue
        for i, mine in enumerate(side):
            a = min((strangers[i, j] for j, its in enumerate(side) if its == mine), default=math.inf)
            b = min((strangers[i, j] for j, its in enumerate(side) if its != mine), default=math.inf)
            if a < math.inf and b < math.inf:
                found.append(a / max(b, 1.0))
    return np.quantile(found, np.arange(1, POINTS + 1) / (POINTS + 1)).astype(np.float32)


def _nearest(x: F32, rows: list[F32]) -> float | None:
    gaps = [float(np.sqrt(np.float32(((row.astype(np.float64) - x) ** 2).sum()))) for row in rows]
    apart = [gap for gap in gaps if gap > 0]
    return min(apart) if apart else None
