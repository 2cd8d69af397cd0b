"""Slow truths beside the detectors' kernels: one client at a time, plain Python, from docstrings and formulas.

Each twin takes the rows of a `View` that belong to one client, in order, and gives the signals that it must have; a
signal that it leaves out must be NaN. Constants that may be tuned are read from the detectors, formulas are not.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from detector import answers
from detector.detectors import View, probing, recency, steering, training, volume
from detector.events import EventBatch
from detector.evidence import SWITCH, TAIL_POWERS
from tests.twins import Mixture, Pair, power, stakes, tails
from tests.twins_differences import ChoicesTwin, DifferencesTwin
from tests.twins_novelty import MalformedTwin, NoveltyTwin
from tests.twins_reach import ReachTwin

Signals = dict[str, float]
MASK = (1 << 64) - 1


class Twin(Protocol):
    """One client in front of one detector."""

    def observe(self, view: View, i: int) -> Signals:
        """Take row i of the view."""


# --- answers --------------------------------------------------------------------------------------------------------


class AnswersTwin:
    """One client's answers as numbers, one for each class that it is followed on."""

    def __init__(self) -> None:
        self.labels: list[int | None] = []
        self.answered: list[int] = []  # when the class at each place was last the answer
        self.clock = 0

    def observe(self, batch: EventBatch, i: int, places: int, probability: bool) -> tuple[list[int], list[int], int]:
        """Return the numbers, their labels (−1 = none) and the place that changed hands (−1 = none), of one event."""
        if not self.labels:
            self.labels, self.answered = [None] * places, [0] * places
        if batch.output_level[i] == 0:
            return [], [], -1
        self.clock += 1
        scores = batch.scores.row(i)
        if 0 < len(scores) <= places:
            self.labels[: len(scores)] = range(len(scores))
            return [code(score, probability) for score in scores], list(range(len(scores))), -1
        answered = int(batch.label_key[i])
        replaced = self._follow(answered)
        certain = answers.UNSURE
        if batch.output_level[i] > 1:
            certain = max(certain, code(batch.confidence[i], probability))
        values = []
        for label in self.labels:
            if label is not None and label < len(scores):
                values.append(code(scores[label], probability))
            else:
                values.append(certain if label == answered else -certain)
        return values, [-1 if label is None else label for label in self.labels], replaced

    def _follow(self, label: int) -> int:
        """Give the answered class a place: its own, a free one, or that of the class answered longest ago."""
        if label < 0:
            return -1
        mine = label in self.labels
        place = self.labels.index(label) if mine else self.answered.index(min(self.answered))
        self.labels[place], self.answered[place] = label, self.clock
        return -1 if mine else place


# --- steering -------------------------------------------------------------------------------------------------------


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


# --- recency --------------------------------------------------------------------------------------------------------


class RecencyTwin:
    """Bets on the age of the nearest earlier query, paired with bets on turning back."""

    def __init__(self) -> None:
        self.pair = Pair(len(recency.POWERS), len(recency.TURN_BETS))
        self.clock = 0

    def observe(self, view: View, i: int) -> Signals:
        if math.isnan(view.cosine[i]):
            return {}
        m = int(view.reference[i])
        self.pair.open(self.clock)
        if view.joined[i] * view.scales.r0[m] < view.scales.q95[m] and view.span[i] >= recency.LEAST:
            p = int(view.age[i]) / int(view.span[i])
            self.pair.bet(first=[k * p ** (k - 1) for k in recency.POWERS])
        self.pair.bet(second=stakes(view.cosine[i] < recency.BACK, 0.5, recency.TURN_BETS))
        self.clock += 1
        return {"recency.nearest": self.pair.evidence(self.clock - 1)}


def probability_of(stored: int) -> float:
    """Undo `code` for a probability, but for the bits that it dropped."""
    small = float(np.int32(_bits(0.5) - (abs(stored) << 13)).view(np.float32))
    return small if stored <= 0 else 1.0 - small


def code(score: float | np.float32, probability: bool) -> int:
    """Store a score as 16 bits: the upper bits of its float, of p below and of 1 − p above one half."""
    if math.isnan(score):
        return 0
    if not probability:
        size = _bits(abs(score)) >> 16
        return size if score >= 0 else -size
    if score <= 0.5:
        return (_bits(max(float(score), 1e-7)) - _bits(0.5)) >> 13
    return -((_bits(max(1.0 - float(score), 1e-7)) - _bits(0.5)) >> 13)


def _bits(value: Any) -> int:
    return int(np.float32(value).view(np.int32))


def splitmix(key: int, count: int, salt: int) -> float:
    """Return a number in (0, 1] from three whole numbers, in Python's whole numbers."""
    x = key ^ (count * 0x9E3779B97F4A7C15 & MASK) ^ (salt * 0xD1342543DE82EF95 & MASK)
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    x ^= x >> 31
    return ((x >> 11) + 1) / 2**53


# --- probing --------------------------------------------------------------------------------------------------------


class ProbingTwin:
    """Threads, runs, bisection."""

    def __init__(self) -> None:
        self.clock = 0
        self.pair = Pair(len(probing.SHARES), len(probing.TURN_BETS))
        self.halves, self.runs = Mixture(), Mixture()
        self.last_step = np.float32(0)
        self.halved = False
        self.last_run: tuple[int, int] | None = None  # length and digest
        self.repeated: list[int] = []

    def observe(self, view: View, i: int) -> Signals:
        out: Signals = {}
        if view.run[i]:
            out |= self._run(int(view.run[i]), int(view.batch.input_digest[i]))
        if not view.fresh[i]:
            return out
        m = view.reference[i]
        p0 = _between(0.05, 2.5 * view.scales.near_rate[m])
        self.pair.open(self.clock)
        self.pair.bet(first=stakes(bool(view.tight_joined[i]), p0, p0 + (1 - p0) * probing.SHARES))
        if not math.isnan(view.tight[i]):
            self.pair.bet(second=stakes(view.tight[i] < -0.3, 0.45, probing.TURN_BETS))
        out["probing.threads"] = self.pair.evidence(self.clock)
        if not math.isnan(view.cosine[i]):
            ratio = view.step[i] / self.last_step
            half = abs(view.cosine[i]) > 0.97 and 0.42 <= ratio <= 0.58
            out["probing.bisection"] = self.halves.bet(stakes(half and self.halved, 0.03, probing.HALF_BETS))
            self.halved = half
        self.last_step = view.step[i]
        self.clock += 1
        return out

    def _run(self, length: int, digest: int) -> Signals:
        out: Signals = {}
        if length == 1 and self.last_run is not None:
            before, record = self.last_run
            hit = before >= probing.LONG_RUN and record not in self.repeated[-probing.RUNS :]
            if hit:
                self.repeated.append(record)
            out["probing.runs"] = self.runs.bet(stakes(hit, 0.2, probing.RUN_BETS))
        self.last_run = (length, digest)
        return out


def _between(least: float, p0: float) -> float:
    return max(least, min(float(p0), 0.9))


# --- volume, trajectory ---------------------------------------------------------------------------------------------


class VolumeTwin:
    """Minutes against peers and own past."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.minute = -1
        self.minutes = 0
        self.inside = 0
        self.mean = self.var = 0.0
        self.bets = Mixture()

    def observe(self, view: View, i: int) -> Signals:
        time_us = int(view.batch.time_us[i])
        out: Signals = {}
        if time_us // 60_000_000 > self.minute:
            if self.inside:
                x = math.log(1 + self.inside)
                out["volume.minute"] = x
                self._bet(x, *self._peers(view, i))
            self.minute, self.inside = time_us // 60_000_000, 0
        self.inside += 1
        if self.minutes:
            out["volume.burst"] = self.bets.evidence()
        self.times.append(time_us)
        out["volume.rate"] = self._rate()
        return out

    def _peers(self, view: View, i: int) -> tuple[float, float]:
        m = view.reference[i]
        return float(view.scales.minute_mean[m]), float(view.scales.minute_sd[m])

    def _bet(self, x: float, mean: float, sd: float) -> None:
        p = _tail(x, mean, sd)
        if self.minutes >= volume.OWN_LEAST:
            p = max(p, _tail(x, self.mean, max(math.sqrt(self.var), volume.OWN_SD)))
        self.bets.bet([power(p)])
        self.minutes += 1
        share = max(volume.OWN_MEMORY, 1 / self.minutes)
        gap = x - self.mean
        self.mean += share * gap
        self.var = (1 - share) * (self.var + share * gap**2)

    def _rate(self) -> float:
        """Count this hour's queries and the last one's, the latter by how much of it still lies within an hour."""
        marks = np.maximum.accumulate(self.times) // 3_600_000_000
        part = self.times[-1] % 3_600_000_000 / 3_600_000_000
        before = int((marks == marks[-1] - 1).sum())
        return float(before * (1 - part) + (marks == marks[-1]).sum())


def _tail(x: float, mean: float, sd: float) -> float:
    return max(0.5 * math.erfc((x - mean) / (sd * math.sqrt(2))), 1e-6)


class TrajectoryTwin:
    """Running shares, over all queries and inside threads."""

    def __init__(self) -> None:
        self.queries = 0
        self.local = self.certainty = self.rise = self.wander = self.flips = 0.0
        self.risen = self.wandered = 0
        self.confidences: list[float] = []  # of fresh queries
        self.last: tuple[int, int] | None = None  # thread and label of the newest fresh query

    def observe(self, view: View, i: int) -> Signals:
        self.queries += 1
        confidence = float(view.batch.confidence[i])
        if not 0 <= confidence <= 1:
            confidence = math.nan
        else:
            self.certainty += (confidence - self.certainty) / 32
        if view.fresh[i]:
            self.local += (float(view.joined[i] < 0.8) - self.local) / 32
            self._inside(int(view.founder[i]), int(view.batch.label_key[i]), confidence)
            if not math.isnan(view.origin[i]):
                self.wandered += 1
                self.wander += (float(view.origin[i]) - self.wander) / min(self.wandered, 32)
        return {
            "trajectory.queries": float(self.queries),
            "trajectory.local": self.local,
            "trajectory.certainty": self.certainty,
            "trajectory.rise": self.rise if self.risen else math.nan,
            "trajectory.wander": self.wander if self.wandered else math.nan,
            "trajectory.flips": self.flips,
        }

    def _inside(self, founder: int, label: int, confidence: float) -> None:
        """Measure against the first query of the thread, if it is among the last 256, and against the one before."""
        self.confidences.append(confidence if math.isnan(confidence) else int(confidence * 254) / 254)
        number = len(self.confidences)
        if number - 256 < founder < number:
            gained = confidence - self.confidences[founder - 1]  # the first is kept in steps of 1/254
            if not math.isnan(gained):
                self.risen += 1
                self.rise += (gained - self.rise) / min(self.risen, 32)
        if self.last is not None and self.last[0] == founder and label >= 0:
            self.flips += (float(label != self.last[1]) - self.flips) / 32
        self.last = (founder, label)


class TrainingTwin:
    """Which training records and canaries were asked for, kept as sets."""

    def __init__(self) -> None:
        self.asked: set[tuple[int, int]] = set()  # place and bit of a digest
        self.met: set[int] = set()
        self.records = 0
        self.share = 0.0
        self.wealth = Mixture()

    def observe(self, view: View, i: int) -> Signals:
        digest, canary = int(view.trained[i]), int(view.canary[i])
        out: Signals = {}
        if digest == 0:
            return out
        if canary > 0:
            self.met.add((canary - 1) % 64)
        if canary >= 0:
            out["training.canaries"] = math.log10(0.5 + 0.5 * 10 ** (4 * len(self.met)))
        if view.joined[i] < training.COPY or (digest > 1 and not self._new(digest)):
            return out
        usual = float(view.scales.trained_rate[view.reference[i]])
        p0 = min(max(2.5 * usual / (1 + 1.5 * usual), 0.02), 0.95)
        self.records += digest > 1
        self.share += ((digest > 1) - self.share) * max(1 / 32, 1 / (len(self.wealth.logs) + 1))
        self.wealth.bet(stakes(digest > 1, p0, [p0 + (1 - p0) * share for share in training.SHARES]))
        out |= {"training.records": float(self.records), "training.share": self.share}
        return out | {"training.hits": self.wealth.evidence()}

    def _new(self, digest: int) -> bool:
        mark = ((digest >> 6) % (training.SEEN // 64), digest % 64)
        if mark in self.asked:
            return False
        if len(self.asked) >= training.SEEN // 2:
            self.asked.clear()
        self.asked.add(mark)
        return True


TWINS: dict[str, type[Twin]] = {
    "training": TrainingTwin,
    "steering": SteeringTwin,
    "recency": RecencyTwin,
    "probing": ProbingTwin,
    "novelty": NoveltyTwin,
    "malformed": MalformedTwin,
    "volume": VolumeTwin,
    "trajectory": TrajectoryTwin,
    "reach": ReachTwin,
    "differences": DifferencesTwin,
    "choices": ChoicesTwin,
}
