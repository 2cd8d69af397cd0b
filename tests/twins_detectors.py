"""Slow truths beside the detectors' kernels: one client at a time, plain Python, from docstrings and formulas.

Each twin takes the rows of a `View` that belong to one client, in order, and gives the signals that it must have; a
signal that it leaves out must be NaN. Constants that may be tuned are read from the detectors, formulas are not.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from detector.detectors import View, probing, training, volume
from tests.twins import Mixture, Pair, power, stakes
from tests.twins_differences import ChoicesTwin, DifferencesTwin
from tests.twins_novelty import MalformedTwin, NoveltyTwin
from tests.twins_reach import ReachTwin
from tests.twins_steering import RecencyTwin, SteeringTwin

Signals = dict[str, float]


class Twin(Protocol):
    """One client in front of one detector."""

    def observe(self, view: View, i: int) -> Signals:
        """Take row i of the view."""


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
