"""The slow truth of what clients change: blocks, differences and choices, from whole lists of earlier inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.answers import CLASSES
from detector.blocks import BLOCKS, TWINS
from detector.detectors import View, choices, differences
from detector.events import F32, F64, U8, InputLevel
from tests.twins import Mixture, stakes

Signals = dict[str, float]
MASK = (1 << 64) - 1


def blocks_of(row: F32, key: int) -> list[int]:
    """Hash every block of features in Python's whole numbers."""
    width = len(row)
    out = [0] * BLOCKS
    for b in range(min(width, BLOCKS)):
        first, last = (b, b + 1) if width <= BLOCKS else (b * width // BLOCKS, (b + 1) * width // BLOCKS)
        state = (key + (b + 1) * 0x9E3779B97F4A7C15) & MASK
        for value in row[first:last]:
            bits = int(np.float32(value + 0.0).view(np.uint32))  # −0 + 0 = 0
            state = ((state ^ bits) * 0xBF58476D1CE4E5B9) & MASK
            state ^= state >> 32
        out[b] = (state * 0x94D049BB133111EB & MASK) >> 56
    return out


def unlike(a: U8, b: U8) -> frozenset[int]:
    """Return the blocks in which two rows differ."""
    return frozenset(np.flatnonzero(a != b).tolist())


def most_alike(past: Sequence[U8], x: U8, recent: int) -> tuple[int, frozenset[int]]:
    """Return the age of the recent row that differs from x in the fewest blocks (0 = none does), and those blocks."""
    found = [(age, unlike(row, x)) for age, row in enumerate(reversed(past[-recent:] if recent else []), 1)]
    found = [(age, changed) for age, changed in found if changed]
    return min(found, key=lambda pair: len(pair[1]), default=(0, frozenset()))


def above(p0: float, shares: F64) -> list[float]:
    """Return bets above p0."""
    return [p0 + (1 - p0) * share for share in shares]


class Varied(NamedTuple):
    """What was changed on a record."""

    record: int  # number of its first query
    blocks: frozenset[int]
    alone: bool  # before another record came
    value: list[int]  # what the blocks held first


class DifferencesTwin:
    """Sweeps and changes of a few features."""

    def __init__(self) -> None:
        self.past: list[U8] = []
        self.ones, self.sweeps = Mixture(), Mixture()
        self.changed: frozenset[int] = frozenset()
        self.records: list[int] = []  # for every past row: number of its record's first, 0 = none
        self.told: list[Varied] = []
        self.swept = 0

    def observe(self, view: View, i: int) -> Signals:
        if not view.whole[i] or not view.fresh[i]:
            whole = view.batch.input_level[i] == InputLevel.VECTOR
            return {"differences.parts": self._parts()} if whole else {}
        scales, m, x = view.scales, view.reference[i], view.blocks[i]
        nearest, apart = most_alike(self.past, x, int(scales.recent[m]))
        age, changed = nearest, apart
        if not 0 < len(changed) <= min(2, scales.alike[m]):
            window = self.past[-int(scales.twins[m]) :] if scales.twins[m] else []
            alone = [(a, c) for a, row in enumerate(reversed(window), 1) if len(c := unlike(row, x)) == 1]
            age, changed = alone[0] if alone else (0, frozenset())
        out: Signals = {}
        if scales.twins[m]:
            p0 = max(0.15, min(2 * scales.twin_rate[m], 0.9))
            other = bool(changed) and changed != self.changed
            out["differences.coordinates"] = self.ones.bet(stakes(other, p0, above(p0, differences.ONE_SHARES)))
        self._sweep(view, i, changed, age, len(apart))
        if self.sweeps.logs:
            out["differences.sweep"] = self.sweeps.evidence()
        out["differences.swept"] = self.swept
        self.changed = changed or self.changed
        self.past.append(x.copy())
        return out | {"differences.parts": self._parts()}

    def _parts(self) -> float:
        """Average the two e-values; a test without a bet is worth 1."""
        return math.log10(sum(10 ** test.evidence() if test.logs else 1.0 for test in (self.ones, self.sweeps)) / 2)

    def _sweep(self, view: View, i: int, changed: frozenset[int], age: int, apart: int) -> None:
        number = len(self.past) + 1
        new = not changed and (apart == 0 or apart > view.scales.alike[view.reference[i]])
        record = self.records[-age] if changed else number * new
        record *= record > number - TWINS
        self.records.append(record)
        if not changed or not record:
            return
        if self.told and record == self.told[-1].record:
            self.told[-1] = self.told[-1]._replace(blocks=self.told[-1].blocks | changed)
        elif all(record != varied.record for varied in self.told):
            self._settle(view, i)
            roots = [k for k, first in enumerate(self.records, 1) if first == k]
            self.told.append(Varied(record, changed, record == roots[-1], view.blocks[i][sorted(changed)].tolist()))

    def _settle(self, view: View, i: int) -> None:
        if len(self.told) < 2:
            return
        before, last = self.told[-2:]
        scales, m = view.scales, view.reference[i]
        width = min(int(scales.width[m]), BLOCKS)
        again = last.blocks == before.blocks and len(last.blocks) <= max(differences.FEW, width // 4)
        p0 = max(0.15, 1.5 / width, 1.5 * scales.twin_repeat[m])
        if not last.alone:
            again = again and last.value == before.value
            p0 = max(p0, *(scales.same[m, b] for b in last.blocks))
        p0 = min(p0, 0.9)
        self.sweeps.bet(stakes(again, p0, above(p0, differences.SWEEP_SHARES)))
        self.swept += again


class Asked(NamedTuple):
    """A whole input with its answer."""

    x: U8
    sketch: F32
    answer: list[int] | None


class ChoicesTwin:
    """Chains of derived queries: what is kept, mirrored, or left."""

    def __init__(self) -> None:
        self.past: list[Asked] = []
        self.rounds, self.mirrors, self.kept = Mixture(), Mixture(), [Mixture() for _ in range(CLASSES + 1)]
        self.base: Asked | None = None
        self.trial: Asked | None = None
        self.pair: frozenset[int] = frozenset()
        self.moved: frozenset[int] = frozenset()
        self.run: list[tuple[bool, frozenset[int], list[int]]] = []  # fate, changes and gains
        self.links = self.bets = self.classes = 0

    def observe(self, view: View, i: int) -> Signals:
        if view.replaced[i] >= 0:
            self.base, self.run, self.past = None, [], [asked._replace(answer=None) for asked in self.past]
        if not view.whole[i]:
            return {}
        new = Asked(view.blocks[i].copy(), view.sketch[i].astype(np.float32), None)
        fresh = bool(view.fresh[i])
        if view.batch.output_level[i] == 0:
            self.past += [new] * fresh
            return {}
        scales, m = view.scales, view.reference[i]
        self.classes, alike = int(scales.classes[m]), int(scales.alike[m])
        new = new._replace(answer=view.answer[i].tolist())
        around = bool(alike) and self._follow(new, alike, int(scales.recent[m]), fresh)
        out: Signals = {}
        if fresh and alike:
            p0 = max(0.05, min(2 * scales.alike_rate[m], 0.9))
            out["choices.around"] = self.rounds.bet(stakes(around, p0, above(p0, choices.SHARES)))
        if fresh:
            self.past.append(new)
        if self.links:
            out["choices.mirrored"] = self.mirrors.evidence()
            out["choices.kept"] = self._evidence()
        return out

    def _follow(self, new: Asked, alike: int, recent: int, fresh: bool) -> bool:
        if self.base is not None and self.trial is not None:
            from_base, from_trial = unlike(self.base.x, new.x), unlike(self.trial.x, new.x)
            if min(len(from_base), len(from_trial)) <= alike:
                if not from_base or not from_trial:
                    return False
                return self._link(self.base, self.trial, new, from_base, from_trial, alike)
        age, changed = most_alike([asked.x for asked in self.past], new.x, recent)
        known = age <= choices.TOLD and all(asked.answer is not None for asked in self.past[-age:])
        if fresh and 0 < len(changed) <= alike and known:
            self.base, self.trial = self.past[-age], new
        return False

    def _link(
        self, base: Asked, trial: Asked, new: Asked, from_base: frozenset[int], from_trial: frozenset[int], alike: int
    ) -> bool:
        tried = unlike(base.x, trial.x)
        undone = len(from_trial & tried) / len(tried)
        kept = undone <= 1 / 3
        if kept or undone >= 2 / 3:
            self._judge(base, trial, kept, tried)
        there, here = (a.sketch.astype(float) - base.sketch for a in (trial, new))
        close = ((there + here) ** 2).sum() <= choices.MIRROR**2 * (there**2).sum() + 32 and (there**2).sum() > 32
        mirrored = bool(from_base == tried != self.pair and close)
        self.mirrors.bet(stakes(mirrored, 0.1, above(0.1, choices.SHARES)))
        self.pair = tried if mirrored else self.pair
        self.links += 1
        self.base, self.trial = (trial, new) if kept else (base, new)
        return not kept and tried != from_base and len(from_base) <= alike

    def _judge(self, base: Asked, trial: Asked, kept: bool, tried: frozenset[int]) -> None:
        if kept and tried == self.moved:
            return
        self.moved = tried if kept else self.moved
        assert base.answer is not None
        assert trial.answer is not None
        gains = [a - b for a, b in zip(trial.answer, base.answer, strict=True)][: self.classes]
        gains.append(gains[int(np.argmax(base.answer[: self.classes]))])
        if self.run and self.run[0][0] != kept:
            self._bet(kept, gains)
            self.run = []
        else:
            self.run.append((kept, tried, gains))

    def _bet(self, kept: bool, gains: list[int]) -> None:
        others = [gone for _, _, gone in self.run]
        sets = [tried for _, tried, _ in self.run]
        n = min(1 + sum(a != b for a, b in zip(sets[1:], sets, strict=False)), choices.MOST)
        p0 = 1 / (n + 1)
        for k, gain in enumerate(gains):
            greatest = gain > max(other[k] for other in others)
            least = gain < min(other[k] for other in others)
            up, down = (greatest, least) if kept else (least, greatest)
            bets = above(p0, choices.KEPT_SHARES)
            self.kept[k].bet([*stakes(up, p0, bets), *stakes(down, p0, bets)])

    def _evidence(self) -> float:
        """Weigh the bets on the class that is the answer like those on all classes together."""
        if not self.kept[0].logs:
            return 0.0
        values = [10 ** test.evidence() for test in self.kept[: self.classes + 1]]
        return math.log10(0.5 * values[-1] + 0.5 * sum(values[:-1]) / self.classes)
