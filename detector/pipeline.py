"""All of detection, in order: batch → sketch → clients → history → detectors → families → rules → triage → campaigns
→ alerts.

The result is a fold over the stream: no clock, no randomness without a seed, no dependence on where batches are cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detector import baseline_state, campaigns_state, families
from detector.alerts import Alert
from detector.answers import Labels
from detector.baseline import TICKS, Baselines, Ended
from detector.campaigns import Campaigns, Judged
from detector.clients import Clients
from detector.detectors import Detector, View, discover
from detector.events import F32, EventBatch
from detector.profile import Profile
from detector.registry import Registry
from detector.rules import Ruleset
from detector.settings import LimitSettings
from detector.shortage import Detail, Shortage, starved_tests
from detector.sketch import seed_of
from detector.tracks import Tracks
from detector.training.index import NO_INDEXES, TrainingIndexes
from detector.triage import Context, Emission, Triage, build_alert

LAYOUT = 3  # of a snapshot: raise it when the meaning of any state array changes
Columns = Mapping[str, F32]
Watch = Callable[[View, Columns], None]


class Pipeline:
    """Detection on one worker. `watch`, where given, sees every chunk with all its signals (tuning, evaluation)."""

    def __init__(
        self,
        ruleset: Ruleset,
        limits: LimitSettings,
        secret: bytes,
        detectors: tuple[Detector, ...] | None = None,
        watch: Watch | None = None,
        registry: Registry | None = None,
        training: TrainingIndexes = NO_INDEXES,
        imported: Sequence[baseline_state.ModelState] = (),
    ) -> None:
        seed = seed_of(secret)
        self.detectors = detectors if detectors is not None else discover()
        self.ruleset = ruleset
        self.triage = Triage(ruleset, registry)
        self.baselines = Baselines(limits.models, seed, training, baseline_state.offer(imported))
        self.training = training
        self.labels = Labels()
        self.episodes = self.triage.state(limits.clients)
        self.profile = Profile(ruleset)
        self.profiles = self.profile.state(limits.clients)
        self.campaigns = Campaigns(limits, self.detectors, self.triage, training)
        more = {"triage": self.episodes, "profile": self.profiles, "kinship": self.campaigns.world.newcomers}
        self.tracks = Tracks(limits.clients, self.detectors, more, training)
        self.clients = Clients(limits.clients, limits.admit_after, self.tracks.states, len(families.FAMILIES) + 1)
        self.detail = Detail()
        self.fingerprint = self._fingerprint(seed)
        self._watch = watch

    def process(self, batch: EventBatch) -> list[Alert]:
        """Take the next events of the stream and return the alerts that they raise, in order."""
        alerts: list[Alert] = []
        for part, ended in self.baselines.epochs(batch):
            if ended:
                self._turn(ended)
            for ready in self.baselines.admit(part):
                alerts += self._judge(ready)
        return alerts

    def _turn(self, ended: Ended) -> None:
        """Freeze what the last epoch showed for the next; at a tick only what a young model does not have yet."""
        quantiles, alerted = self.baselines.quantiles, self.episodes.open_until_us
        if ended == Ended.TICK:
            quantiles |= self.profile.quantiles(self.profiles, alerted, but=quantiles)
            return
        quantiles |= self.profile.quantiles(self.profiles, alerted)
        self.profile.begin_epoch(self.profiles)
        self.baselines.close_epoch()
        self.clients.age()

    def end_epoch(self) -> None:
        """Close the epoch before its time: the end of a capture from which baselines are made."""
        self.baselines.tick = (self.baselines.epoch + 1) * TICKS
        self._turn(Ended.EPOCH)

    def close(self) -> list[Alert]:
        """Judge what still waits for a reference: the end of a finite stream."""
        return [alert for ready in self.baselines.flush() for alert in self._judge(ready)]

    def _judge(self, batch: EventBatch) -> list[Alert]:
        """Run rows whose models have references through everything that follows."""
        alerts: list[Alert] = []
        lookup = np.array([self.baselines.known.get(ref, 0) for ref in batch.models], np.int32)
        reference = lookup[batch.model]
        sketch, usable = self.baselines.sketch(batch, reference)
        for start, stop, slot in self.clients.chunks(batch.client_key, batch.partition):
            kept = slot >= 0
            part = batch.slice(start, stop)
            columns: list[Any] = [slot, reference[start:stop], sketch[start:stop], usable[start:stop]]
            if not kept.all():
                rows = np.flatnonzero(kept)
                part = part.take(rows)
                columns = [column[rows] for column in columns]
            if len(part):
                alerts += self._detect(part, *columns)
        return alerts

    def _detect(self, batch: EventBatch, slot: Any, reference: Any, sketch: Any, usable: Any) -> list[Alert]:
        """Measure, bet, combine, match and triage one chunk."""
        self.labels.learn(batch)
        codes = self.baselines.blocks(batch, usable)
        view, signals = self.tracks.measure(batch, slot, reference, self.baselines.scales, sketch, codes, usable)
        self.detail.count(batch, self.training.unreadable(batch))
        followed = self.profile.stack(signals, len(batch))
        evidence = followed[: len(families.FAMILIES)]
        self.baselines.learn(view, np.fmax.reduce(evidence), signals["volume.minute"])
        if self._watch is not None:
            self._watch(view, signals)
        alone, judged, kinship = self.campaigns.observe(view, self.triage.observe(batch, slot, signals, self.episodes))
        self.clients.suspect(slot, np.concatenate([evidence, kinship[None]]))
        alerts = self._alerts(view, signals, followed, alone, judged)
        self.profile.observe(slot, view.reference, batch, followed, self.profiles)
        return alerts

    def _alerts(
        self, view: View, signals: Columns, followed: F32, alone: list[Emission], judged: list[Judged]
    ) -> list[Alert]:
        """Write the alerts of groups and of single clients, in stream order."""
        found = []
        for row, emission, pooled, columns, campaign in judged:
            context = self._context(pooled, columns, emission)._replace(campaign=campaign)
            found.append((row, build_alert(self.ruleset, emission, pooled.batch, columns, context)))
        for emission in alone:
            steepest = self._steepest(view, followed, emission)
            context = self._context(view, signals, emission)._replace(steepest=steepest)
            found.append((emission.row, build_alert(self.ruleset, emission, view.batch, signals, context)))
        return [alert for _, alert in sorted(found, key=lambda one: one[0])]

    def _steepest(self, view: View, followed: F32, emission: Emission) -> tuple[tuple[int, float], ...]:
        family = self.ruleset.active[emission.rule].family
        return self.profile.steepest(family, emission.row, view.slot, view.batch, followed, self.profiles)

    def _context(self, view: View, signals: Columns, emission: Emission) -> Context:
        row, batch = emission.row, view.batch
        m = int(view.reference[row])
        place = signals.get("steering.target", view.cosine)[row]
        target = "" if np.isnan(place) else self.labels.text(int(view.places[row, int(place)]))
        return Context(
            start_us=int(view.since_us[row]),
            baseline=self.baselines.names[m],
            target=target,
            model=self.triage.registry.entry(batch.models[int(batch.model[row])]),
            quantiles=self.baselines.quantiles.get(m, {}),
            starved=starved_tests(self.detectors, batch, row),
        )

    def shortages(self) -> list[Shortage]:
        """Return which detectors see too little of which models, since the start."""
        return self.detail.shortages(self.detectors, self.triage.registry)

    def export_partition(self, partition: int) -> dict[str, np.ndarray]:
        """Return a copy of all state of one partition, as plain arrays."""
        shared = {"baselines": baseline_state.export(self.baselines, partition), "labels": self.labels.export()}
        groups = campaigns_state.export(self.campaigns, self.baselines, partition)
        return self.clients.export(partition) | groups | shared

    def import_partition(self, partition: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `export_partition` returned."""
        baseline_state.restore(self.baselines, arrays["baselines"])
        self.labels.restore(arrays["labels"])
        self.clients.restore(partition, arrays)
        campaigns_state.restore(self.campaigns, self.baselines, partition, arrays)

    def drop_partition(self, partition: int) -> None:
        """Forget all state of one partition: another worker has it now."""
        self.clients.drop(partition)
        campaigns_state.drop(self.campaigns, partition)
        baseline_state.drop(self.baselines, partition)

    def _fingerprint(self, seed: int) -> str:
        """Hash what a snapshot must agree with: layout, detectors, rules, seed, training indexes; no capacities."""
        words = [str(LAYOUT), *(f"{d.name}={d.version}" for d in self.detectors), self.ruleset.hash, str(seed)]
        words.append(self.training.fingerprint)
        return hashlib.blake2b("\n".join(words).encode(), digest_size=16).hexdigest()
