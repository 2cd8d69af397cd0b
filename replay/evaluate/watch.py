"""The live pipeline over a capture: its alerts, and how high its evidence rose for whom.

The operating curve moves one knob: every threshold of 2 or more on an e-value (log10) in the alerting rules of medium
and above is set to the same value; lower ones and those on other signals are side conditions and stay. How high the
knob could stand for an event to match still is the event's `strength`: the smallest of the parts of an `all`, the
largest of those of an `any`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np

from detector.alerts import SEVERITIES, Document
from detector.conditions import Condition, Every, Some, Threshold, evaluate
from detector.detectors import Detector, Signal, View
from detector.events import F32, F64, I64
from detector.rules import Rule, Ruleset
from detector.settings import Settings
from detector.stores import Written
from detector.wiring import build_pipeline
from replay.evaluate.stream import NEVER, Progress, Stream
from replay.run import replay

MEDIUM = SEVERITIES.index("medium")
THRESHOLDS = np.arange(1, 11)
KNOB_FROM = 2.0
CEILING = 1e30  # of suspicion: what alarms whatever the threshold


class Alarm(NamedTuple):
    """One alert event, or the first event of an anchor's episode."""

    pairs: tuple[int, ...]  # the clients accused
    offset: int  # of the event that completed it
    level: int  # index into SEVERITIES
    family: str  # "" where the detector names none
    risk: float
    episode: str
    campaign: bool = False  # names its members


class Peaks(NamedTuple):
    """How suspicious each pair ever looked: what a threshold would have to stay below to raise an alarm."""

    before: F64  # [pairs] before its attack began; −inf where nothing was said
    after: F64

    @staticmethod
    def of(stream: Stream, rows: I64, suspicion: F64) -> Peaks:
        """Return the peaks of a score by event: `suspicion` [n] of `rows` [n] of the capture."""
        peaks = Peaks.none(stream)
        peaks.raise_to(stream, stream.pair[rows], stream.time_us[rows], suspicion)
        return peaks

    @staticmethod
    def none(stream: Stream) -> Peaks:
        """Return those of a detector that has said nothing yet."""
        return Peaks(*(np.full(len(stream.number), -np.inf) for _ in range(2)))

    def raise_to(self, stream: Stream, pair: I64, time_us: I64, suspicion: F64) -> None:
        """Take more events [n]."""
        late = time_us >= stream.start_us[pair]
        for into, side in ((self.before, ~late), (self.after, late)):
            np.maximum.at(into, pair[side], np.minimum(suspicion[side], CEILING))


class Found(NamedTuple):
    """What one detector found in one capture."""

    alarms: list[Alarm]
    seconds: float
    peaks: Peaks
    crossings: Crossings | None = None


class Crossings:
    """The first event at which each pair's strength reached each threshold, before and after its attack began."""

    def __init__(self, stream: Stream, ruleset: Ruleset) -> None:
        self._stream = stream
        self._catalogue = ruleset.catalogue
        self._rules = [at_least_medium(rule) for rule in ruleset.active if rule.stage != "shadow"]
        shape = (len(stream.number), len(THRESHOLDS))
        self.peaks = Peaks.none(stream)
        self.before = np.full(shape, NEVER, np.int64)  # [pairs, thresholds] offset
        self.after = np.full(shape, NEVER, np.int64)

    def watch(self, view: View, signals: Mapping[str, F32]) -> None:
        """Take one chunk: the pipeline calls it."""
        batch = view.batch
        strong = np.full(len(batch), -np.inf, np.float32)
        for when in self._rules:
            np.maximum(strong, strength(when, signals, self._catalogue, len(batch)), out=strong)
        rows = np.flatnonzero(strong > 0)
        if not len(rows):
            return
        pair = self._stream.pairs_of(batch.client_key[rows])
        self.peaks.raise_to(self._stream, pair, batch.time_us[rows], strong[rows].astype(np.float64))
        late = batch.time_us[rows] >= self._stream.start_us[pair]
        for place, threshold in enumerate(THRESHOLDS):
            hit = strong[rows] >= threshold
            for into, side in ((self.before, ~late), (self.after, late)):
                kept = hit & side
                np.minimum.at(into[:, place], pair[kept], batch.offset[rows][kept])


def at_least_medium(rule: Rule) -> Condition:
    """Return what makes a rule alert at medium or above: `when`, and a step of its ladder where it starts low."""
    if SEVERITIES.index(rule.severity) >= MEDIUM:
        return rule.when
    return Every((rule.when, Some(tuple(s.when for s in rule.escalate if SEVERITIES.index(s.severity) >= MEDIUM))))


def strength(condition: Condition, signals: Mapping[str, F32], catalogue: Mapping[str, Signal], n: int) -> F32:
    """Return [n] how high the thresholds on e-values could stand for the condition to hold; −inf where it cannot."""
    if isinstance(condition, Threshold):
        column = signals.get(condition.signal)
        if column is not None and _is_knob(condition, catalogue):
            return np.where(np.isnan(column), np.float32(-np.inf), column)
        met = evaluate(condition, signals, n)
        return np.where(met, np.float32(np.inf), np.float32(-np.inf))
    every = isinstance(condition, Every)
    combined = np.full(n, np.inf if every else -np.inf, np.float32)
    for part in condition.parts:
        (np.minimum if every else np.maximum)(combined, strength(part, signals, catalogue, n), out=combined)
    return combined


def _is_knob(threshold: Threshold, catalogue: Mapping[str, Signal]) -> bool:
    unit = catalogue[threshold.signal].unit
    return unit == "log10 e-value" and threshold.op in (">=", ">") and threshold.value >= KNOB_FROM


def watch(
    files: Sequence[Path],
    stream: Stream,
    settings: Settings,
    ruleset: Ruleset,
    progress: Progress | None = None,
    detectors: tuple[Detector, ...] | None = None,
) -> Found:
    """Replay captures exactly as `querywatch replay` does, and keep the alerts; `detectors`: others than all."""
    crossings = Crossings(stream, ruleset)
    kept = _Kept(stream)
    pipeline = build_pipeline(settings, ruleset, watch=crossings.watch, detectors=detectors)
    began = process_time()
    replay([str(file) for file in files], pipeline, kept, settings, progress=progress)
    return Found(kept.alarms, process_time() - began, crossings.peaks, crossings)


class _Kept:
    """A sink that keeps what the scoring needs of every alert document."""

    def __init__(self, stream: Stream) -> None:
        self._number = stream.number
        self.alarms: list[Alarm] = []

    def write(self, documents: Sequence[Document]) -> Written:
        self.alarms += [alarm_of(document, self._number) for document in documents]
        return Written(stored=len(documents))


def alarm_of(document: Document, number: Mapping[tuple[str, str], int]) -> Alarm:
    """Return the alarm of an alert document; members of a campaign that the capture does not hold are left out."""
    own = document["querywatch"]
    members = own.get("campaign", {}).get("clients", ())
    accused = [(client, own["model"]["name"]) for client in dict.fromkeys([*members, own["client"]["id"]])]
    return Alarm(
        pairs=tuple(number[who] for who in accused if who in number),
        offset=own["position"]["last_offset"],
        level=SEVERITIES.index(own["severity"]),
        family=own["attack"]["family"],
        risk=float(document["event"]["risk_score"]),
        episode=own["alert_id"],
        campaign=bool(members),
    )


def in_episodes(rows: I64, stream: Stream, episode_us: int = 3_600_000_000) -> list[Alarm]:
    """Return the alarms of an anchor, of medium severity: a client's alarms less than an hour apart are one."""
    last: dict[int, int] = {}
    alarms = []
    for row in rows.tolist():
        pair, time_us = int(stream.pair[row]), int(stream.time_us[row])
        if pair not in last or time_us - last[pair] > episode_us:
            episode = f"{pair}:{row}"
            alarms.append(Alarm((pair,), int(stream.offset[row]), MEDIUM, "", 0.0, episode))
        last[pair] = time_us
    return alarms
