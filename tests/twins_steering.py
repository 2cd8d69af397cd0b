"""Slow truths beside steering.py and recency.py; see twins_detectors.py."""

from __future__ import annotations

import math

from detector.detectors import View, recency, steering
from detector.evidence import SWITCH, TAIL_POWERS
from tests.twins import Pair, stakes, tails
from tests.twins_answers import probability_of, splitmix

Signals = dict[str, float]


class SteeringTwin:
    """Rank bets on the nearest's score for every class, paired with bets on turning back."""

    def __init__(self) -> None:
        self.pair = Pair(0, len(steering.TURN_BETS))
        self.clock = 0
        self.past: list[list[int | None]] = []  # of every fresh query the scores at each place
        self.nearest: list[int | None] = []  # of every fresh query the number of that which it was asked near
        self.best: list[float] = []

    def observe(self, view: View, i: int) -> Signals:
        if not self.best:
            self.best = [0.0] * int(view.scales.classes[view.reference[i]])
            self.pair.width = len(self.best) * len(TAIL_POWERS)
        if view.replaced[i] >= 0:
            self._forget(int(view.replaced[i]))
        if not view.fresh[i]:
            return {}
        out: Signals = {}
        m = view.reference[i]
        near = view.joined[i] * view.scales.r0[m] < view.scales.q95[m]
        self.nearest.append(len(self.past) - int(view.age[i]) if near else None)
        used = view.batch.output_level[i] > 0 and not math.isnan(view.cosine[i])
        if used:
            self._bet(view, i)
            out["steering.chosen"] = self.pair.evidence(self.clock)
            self.clock += 1
            self._reach(view, i)
            if out["steering.chosen"] > 0:
                out |= self._aim(view, i)
        scores = [int(view.answer[i, k]) if view.places[i, k] >= 0 else None for k in range(len(self.best))]
        self.past.append(scores if used and not view.path[i] else [None] * len(self.best))
        return out

    def _bet(self, view: View, i: int) -> None:
        """Bet on the score of the nearest among those asked at most 16 before or after it, near others than it."""
        self.pair.open(self.clock)
        self.pair.bet(second=stakes(view.cosine[i] < steering.BACK, 0.5, steering.TURN_BETS))
        best, now = self.nearest[-1], len(self.past)
        if view.path[i] or best is None or self.nearest[best] is None:
            return
        tie = splitmix(int(view.batch.client_key[i]), now + 1, 0)
        others = [n for n in range(best - steering.AROUND, best + steering.AROUND + 1) if max(0, now - 256) <= n < now]
        bets = []
        for k in range(len(self.best)):
            score = self.past[best][k]
            known = [self.past[n][k] for n in others if n == best or self.nearest[n] not in (None, best)]
            fellows = [value for value in known if value is not None]
            if score is None or len(fellows) <= steering.FELLOWS:
                bets += [1.0] * len(TAIL_POWERS)
            else:
                above = sum(value > score for value in fellows) + fellows.count(score) * tie
                bets += tails(max(above, 1e-3) / len(fellows))
        self.pair.bet(first=bets, spread=SWITCH)

    def _forget(self, place: int) -> None:
        """Begin anew at a place that changed hands: all that was bet on its last class is lost."""
        self.best[place] = 0.0
        if self.clock:
            for start in self.pair.starts:
                start.first[place * len(TAIL_POWERS) : (place + 1) * len(TAIL_POWERS)] = 0
            for scores in self.past:
                scores[place] = None

    def _reach(self, view: View, i: int) -> None:
        if view.batch.output_level[i] >= 2 and view.scales.probability[view.reference[i]] and view.joined[i] < 2:
            reached = [probability_of(int(value)) for value in view.answer[i, : len(self.best)]]
            self.best = [max(pair) for pair in zip(self.best, reached, strict=True)]

    def _aim(self, view: View, i: int) -> Signals:
        """Name the place of the class whose bets are worth most."""

        def worth(place: int) -> float:
            return float(
                sum(
                    sum(start.first[place * len(TAIL_POWERS) : (place + 1) * len(TAIL_POWERS)])
                    for start in self.pair.starts
                )
            )

        taken = [place for place in range(len(self.best)) if view.places[i, place] >= 0]
        aim = max(taken, key=worth)
        return {"steering.target": float(aim), "steering.progress": self.best[aim]}


class RecencyTwin:
    """Bets on the age of the nearest earlier query, paired with bets on turning back."""

    def __init__(self) -> None:
        self.pairs = {name: Pair(len(recency.POWERS), len(recency.TURN_BETS)) for name in ("nearest", "whole")}
        self.clock = 0

    def observe(self, view: View, i: int) -> Signals:
        if math.isnan(view.cosine[i]):
            return {}
        m = int(view.reference[i])
        spans = {"nearest": int(view.span[i]), "whole": min(int(view.number[i]) - 1, 256)}
        out = {}
        for name, pair in self.pairs.items():
            pair.open(self.clock)
            if view.joined[i] * view.scales.r0[m] < view.scales.q95[m] and spans[name] >= recency.LEAST:
                p = int(view.age[i]) / spans[name]
                pair.bet(first=[k * p ** (k - 1) for k in recency.POWERS])
            pair.bet(second=stakes(view.cosine[i] < recency.BACK, 0.5, recency.TURN_BETS))
            out[f"recency.{name}"] = pair.evidence(self.clock)
        self.clock += 1
        return out
