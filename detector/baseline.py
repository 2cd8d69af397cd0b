"""What benign traffic of each model looks like: learned slowly, used frozen.

A model's first events wait until its reference is there: 256 fresh rows with at most 16 of one client, or 10 minutes
of event time, or 2,048 events. Then they are judged in order, like all that follow. Centre and scale of the sketch stay
for the life of the model version; rows and rates move on at the end of each epoch (an hour of event time): a quarter of
the rows is replaced by rows of unsuspicious clients, at most 16 of one client, picked by a keyed hash so that nobody
can choose them. In between everything is frozen, so partitions, workers and replays see the same reference.

A new version of a model that is known need not wait so long: once 32 of its fresh rows have come (then 64, 128), and at
least half of them are as near to another version's reference as benign rows are, that reference serves, and alerts say
so, until the first epoch that brings 64 rows of its own replaces it. Where inputs have changed, it waits like a new
model.

Limit: a model whose very first traffic is an attack has that attack in its reference until epochs have replaced it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import IntEnum

import numpy as np

from detector.alerts import rfc3339
from detector.blocks import BLOCKS, digest
from detector.candidates import ROWS, Learning, Waiting, bound, first_rows, keep, unseen
from detector.detectors import View
from detector.events import F32, I16, I32, U8, EventBatch, InputLevel, ModelRef
from detector.genuine import follow
from detector.malformed import malformed
from detector.reference import describe, put, references
from detector.sketch import DIMENSIONS, adopt, project, sign_matrix
from detector.space import Space, space_of
from detector.training.index import ABSENT, NO_INDEXES, TrainingIndexes, usual_share

WAIT_EVENTS, WAIT_US, WAIT_ROWS = 2048, 600_000_000, 32
WAIT_NUMBERS = 16_000_000  # floats of all waiting events together
TICK_US, TICKS = 600_000_000, 6  # ticks make an epoch
EPOCH_US = TICKS * TICK_US
LEAST_ROWS = 8
HEIR_ROWS, OWN_ROWS = 32, 64  # rows to try another version's reference on, and to do without it
TRIM = 0.08  # of the rows; the tests of novelty bet against 30 %, so losing honest outsiders does not matter
TRUSTED = 0.5  # log10 e-value up to which a client's rows may enter the reference


Offer = Callable[["Baselines", ModelRef], bool]  # adopts an imported reference, where there is one for the model


def _nothing(baselines: Baselines, ref: ModelRef) -> bool:
    del baselines, ref
    return False


class Ended(IntEnum):
    """What came to its end before an event; an epoch's end is a tick's too."""

    NOTHING = 0
    TICK = 1
    EPOCH = 2


class Baselines:
    """The references of all models, as arrays for the kernels and as words for alerts."""

    def __init__(self, models: int, seed: int, training: TrainingIndexes = NO_INDEXES, offer: Offer = _nothing) -> None:
        self.seed = seed
        self.offer = offer
        self.training = training
        self.capacity = models
        self.known: dict[ModelRef, int] = {}
        self.spaces: dict[int, Space] = {}
        self.names: dict[int, str] = {}  # which reference serves, in words
        self.quantiles: dict[int, dict[str, tuple[float, float, float]]] = {}  # signal -> p50, p95, p99 of the clients
        self.heirs: dict[int, str] = {}  # models that still go by the reference of another version: its name
        self.waiting: dict[ModelRef, Waiting] = {}
        self.learning: dict[int, Learning] = {}
        self.tick = -1
        self.overflow = 0  # events of models beyond the limit
        self.arrived = 0  # events that ever had to wait
        self.scales = references(models)

    # --- the first rows -------------------------------------------------------------------------------------------

    def admit(self, batch: EventBatch) -> Iterator[EventBatch]:
        """Yield the rows whose models have a reference, in order; a model's waiting rows come when it gets one."""
        for ref in [ref for ref in self.waiting if ref in self.known]:  # came with a partition taken over
            yield self.waiting.pop(ref).batch()
        new = [m for m, ref in enumerate(batch.models) if ref not in self.known]
        held = np.flatnonzero(np.isin(batch.model, new)) if new else np.empty(0, np.int64)
        start = 0
        mine: dict[int, list[int]] = {m: [] for m in new}
        ready = set(range(len(batch.models))) - set(new)
        for i in held.tolist():
            m = int(batch.model[i])
            if m in ready:
                continue
            ref = batch.models[m]
            if ref not in self.waiting and self._room(ref) and self.offer(self, ref):
                yield from self._cut(batch, start, i, ready)
                start = i
                ready.add(m)
                del mine[m]
                continue
            mine[m].append(i)
            if self._wait(ref, batch, i) or self._finds_heir(ref, batch, mine[m]):
                yield from self._cut(batch, start, i, ready)
                start = i + 1
                self._keep(ref, batch, mine.pop(m))
                yield self._open(ref)
                ready.add(m)
        yield from self._cut(batch, start, len(batch), ready)
        for m, rows in mine.items():
            if rows:
                self._keep(batch.models[m], batch, rows)

    def flush(self) -> Iterator[EventBatch]:
        """Yield what still waits, judged by what there is: the end of a finite stream."""
        for ref in list(self.waiting):
            yield self.waiting.pop(ref).batch() if ref in self.known else self._open(ref)

    def _cut(self, batch: EventBatch, start: int, stop: int, ready: set[int]) -> Iterator[EventBatch]:
        part = batch.slice(start, stop)
        if len(ready) < len(batch.models):
            rows = np.flatnonzero(np.isin(part.model, list(ready)))
            part = part if len(rows) == len(part) else part.take(rows)
        if len(part):
            yield part

    def _wait(self, ref: ModelRef, batch: EventBatch, i: int) -> bool:
        """Count one event of a model without reference; true where this event completes it."""
        if not self._room(ref):
            self.overflow += 1
            return False
        waiting = self.waiting.setdefault(ref, Waiting())
        fresh = waiting.count(batch, i, self.arrived)
        waiting.asks = fresh and waiting.rows >= HEIR_ROWS and waiting.rows & (waiting.rows - 1) == 0
        self.arrived += 1
        late = int(batch.time_us[i]) - waiting.first_us >= WAIT_US and waiting.rows >= WAIT_ROWS
        full = sum(w.numbers for w in self.waiting.values()) > WAIT_NUMBERS
        return waiting.rows >= ROWS or waiting.events >= WAIT_EVENTS or late or full

    def _room(self, ref: ModelRef) -> bool:
        return ref in self.waiting or len(self.known) + len(self.waiting) < self.capacity

    def resume(self, ref: ModelRef, batch: EventBatch, order: list[int]) -> None:
        """Let rows wait again that waited when a checkpoint was made; `order` numbers them as they had come."""
        if ref not in self.waiting and ref not in self.known and len(self.known) + len(self.waiting) >= self.capacity:
            self.overflow += len(batch)
            return
        held = self.waiting.pop(ref, None)
        if held is not None:
            batch, order = EventBatch.concat([held.batch(), batch]), sorted(held.order) + order
        batch = batch.take(np.argsort(order, kind="stable"))
        waiting = self.waiting[ref] = Waiting(parts=[batch])
        for i, number in enumerate(sorted(order)):
            waiting.count(batch, i, number)
        self.waiting = dict(sorted(self.waiting.items(), key=lambda item: item[1].order[0]))

    def _finds_heir(self, ref: ModelRef, batch: EventBatch, rows: list[int]) -> bool:
        """Say whether another version's reference fits the rows that wait: those kept, and `rows` of this batch."""
        if ref not in self.waiting or not self.waiting[ref].asks or self._older(ref) is None:
            return False
        self._keep(ref, batch, rows)
        rows.clear()
        return self._fits(ref, self.waiting[ref].batch())

    def _older(self, ref: ModelRef) -> int | None:
        """Return the version of this model that came to be known last."""
        return next((m for k, m in reversed(self.known.items()) if k.name == ref.name and m in self.spaces), None)

    def _fits(self, ref: ModelRef, batch: EventBatch) -> bool:
        """Say whether at least half of a new version's first rows are as near to the older reference as benign rows."""
        older = self._older(ref)
        rows = first_rows(batch)
        if older is None or len(rows) < LEAST_ROWS:
            return False
        sketch, usable = self.sketch(batch.take(rows), np.full(len(rows), older, np.int32))
        known = self.scales.rows[older, :, : self.scales.row_count[older]].T.astype(np.float64)
        gaps = np.sqrt(((sketch[:, None, :] - known[None, :, :]) ** 2).sum(axis=2)).min(axis=1)
        return 2 * int((gaps[usable == 1] <= self.scales.q95[older]).sum()) >= len(rows)

    def _inherit(self, ref: ModelRef, m: int, batch: EventBatch) -> None:
        older = self._older(ref)
        assert older is not None  # noqa: S101 - `_fits` said so
        version = next(k.version for k, known in self.known.items() if known == older)
        for column in self.scales:
            column[m] = column[older]
        self.spaces[m] = self.spaces[older]
        self.quantiles |= {m: self.quantiles[older]} if older in self.quantiles else {}
        self.heirs[m] = version
        self.names[m] = f"inherited from version {version or '(none)'}"
        classes = int(self.scales.classes[m])
        self._answers(m, batch)
        self.scales.classes[m] = max(self.scales.classes[m], classes)

    def _keep(self, ref: ModelRef, batch: EventBatch, rows: list[int]) -> None:
        if ref in self.waiting and rows:
            part = batch.take(np.array(rows, np.int64))
            part.models, part.model = [ref], np.zeros(len(part), np.int32)
            self.waiting[ref].parts.append(part)

    def _open(self, ref: ModelRef) -> EventBatch:
        """Make the reference of a model from its waiting events, and return them."""
        waiting = self.waiting.pop(ref)
        batch = waiting.batch()
        inherits = waiting.rows < ROWS and self._fits(ref, batch)
        m = len(self.known)
        self.learning[m] = Learning()
        if inherits:
            self._inherit(ref, m, batch)
            self.known[ref] = m
            return batch
        self.known[ref] = m
        self.names[m] = f"cold start: first {waiting.rows} rows"
        rows = first_rows(batch)
        if len(rows) >= LEAST_ROWS:
            widths = batch.input.offsets[rows + 1] - batch.input.offsets[rows]
            levels = batch.input_level[rows]
            level, width = Counter(zip(levels.tolist(), widths.tolist(), strict=True)).most_common(1)[0][0]
            rows = rows[(levels == level) & (widths == width)][:ROWS]
            self.spaces[m] = space_of(batch, rows, int(level), int(width))
            sketch, usable = self.sketch(batch, np.full(len(batch), m, np.int32))
            rows = rows[unseen(sketch[rows], sketch[:0])]
            self.scales.trained_chance[m] = self.training.chance(ref)
            trained = self.training.look_up(batch, batch.status < 400).trained > ABSENT
            # a full sketch is a projection: its numbers are no features
            projected = level == InputLevel.SKETCH and width >= DIMENSIONS
            self.scales.width[m] = DIMENSIONS + 1 if projected else width
            codes = self.blocks(batch, usable)[rows]
            kept = rows[describe(self.scales, m, sketch[rows], codes, batch.client_key[rows], trained[rows], TRIM)]
            if level == InputLevel.VECTOR:
                put(self.scales, m, follow(np.stack([batch.input.row(i) for i in kept]), self.spaces[m], self.seed))
        self._answers(m, batch)
        bad = malformed(batch, np.full(len(batch), self.scales.input_width[m]))
        self.scales.malformed_rate[m] = usual_share(batch.client_key, bad, 0.0)
        return batch

    def _answers(self, m: int, batch: EventBatch) -> None:
        widths = batch.scores.offsets[1:] - batch.scores.offsets[:-1]
        labels = len(set(batch.label_key[batch.label_key >= 0].tolist()))
        self.scales.classes[m] = min(max(int(widths.max(initial=0)), labels, 2), 16)
        values = batch.scores.values[batch.scores.offsets[0] : batch.scores.offsets[-1]]
        self.scales.probability[m] = bool((values >= -1e-6).all() and (values <= 1 + 1e-6).all())

    # --- sketches -------------------------------------------------------------------------------------------------

    def sketch(self, batch: EventBatch, reference: I32) -> tuple[I16, U8]:
        """Return the sketch [n, 32] of every row and whether it can be used (right level and width, call succeeded)."""
        out = np.zeros((len(batch), DIMENSIONS), np.int16)
        usable = np.zeros(len(batch), np.uint8)
        widths = batch.input.offsets[1:] - batch.input.offsets[:-1]
        for m in np.unique(reference).tolist():
            space = self.spaces.get(m)
            if space is None:
                continue
            fit = (reference == m) & (widths == space.width) & (batch.input_level == space.level) & (batch.status < 400)
            rows = np.flatnonzero(fit)
            usable[rows] = 1
            if space.level == InputLevel.VECTOR:
                signs = sign_matrix(space.width, self.seed)
                project(batch.input.values, batch.input.offsets, rows, space.center, space.scale, signs, out)
            else:
                adopt(batch.input.values, batch.input.offsets, rows, out)
        return out, usable

    def blocks(self, batch: EventBatch, usable: U8) -> U8:
        """Return the blocks [n, 64] of every row that holds all features; the others stay 0."""
        out = np.zeros((len(batch), BLOCKS), np.uint8)
        whole = (usable == 1) & (batch.input_level == InputLevel.VECTOR)
        digest(batch.input.values, batch.input.offsets, np.flatnonzero(whole), self.seed, out)
        return out

    # --- epochs ---------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The hour in which the watermark is, counted from 1970; −1 before the first event."""
        return self.tick // TICKS

    def epochs(self, batch: EventBatch) -> Iterator[tuple[EventBatch, Ended]]:
        """Cut a batch where the watermark (the running maximum of event time) enters a new tick or epoch.

        Yields (rows, what ended before them).
        """
        marks = np.maximum.accumulate(batch.time_us // TICK_US)
        marks = np.maximum(marks, self.tick)
        cuts = np.flatnonzero(np.diff(np.concatenate([[self.tick], marks])) > 0).tolist()
        for start, stop in zip([0, *cuts], [*cuts, len(batch)], strict=True):
            if start < stop:
                before, self.tick = self.tick, int(marks[start])
                ended = Ended.NOTHING if before in (-1, self.tick) else Ended.TICK
                yield batch.slice(start, stop), Ended.EPOCH if ended and before // TICKS < self.epoch else ended

    def learn(self, view: View, evidence: F32, minutes: F32) -> None:
        """Collect candidates for the next epoch: fresh rows of unsuspicious clients, and complete minutes of volume."""
        trusted = ~(evidence > TRUSTED)
        for i in np.flatnonzero(np.isfinite(minutes) & trusted).tolist():
            self.learning[int(view.reference[i])].minutes.update(float(minutes[i]))
        key = np.uint64((self.seed ^ self.epoch * 0xD1342543DE82EF95) & 0xFFFFFFFFFFFFFFFF)  # other rows every epoch
        hashes = (view.batch.input_digest ^ key) * np.uint64(0x9E3779B97F4A7C15)
        limit = np.array([bound(self.learning[m]) for m in range(len(self.known))], np.uint64)
        fits = (view.fresh == 1) & trusted & (hashes < limit[view.reference])
        for m in np.unique(view.reference[fits]).tolist():
            rows = np.flatnonzero(fits & (view.reference == m))
            trained = view.trained[rows] > ABSENT
            clients, sketch, blocks = view.batch.client_key[rows], view.sketch[rows], view.blocks[rows]
            keep(self.learning[m], hashes[rows], clients, sketch, blocks, trained)

    def close_epoch(self) -> None:
        """Let the epoch's candidates into the references, a quarter of the rows at most."""
        name = f"up to {rfc3339(self.epoch * EPOCH_US)[:16]}Z"
        for m, learning in self.learning.items():
            if learning.minutes.n >= LEAST_ROWS:
                self.scales.minute_mean[m] = learning.minutes.mean.get()
                self.scales.minute_sd[m] = max(float(np.sqrt(learning.minutes.get())), 0.5)
                self.names[m] = name
            count = int(self.scales.row_count[m])
            known = self.scales.rows[m, :, :count].T
            new = unseen(learning.rows, known)
            if m in self.heirs and len(new) >= OWN_ROWS:  # rows of its own replace those of another version
                first = count
                del self.heirs[m]
            else:
                new = new[: ROWS // 4]
                first = max(0, count + len(new) - ROWS)  # the oldest rows make room
            if m in self.spaces and len(new) >= LEAST_ROWS:
                rows = np.concatenate([known[first:], learning.rows[new]])
                blocks = np.concatenate([self.scales.blocks[m, first:count], learning.blocks[new]])
                owners = np.concatenate([self.scales.owners[m, first:count], learning.clients[new]])
                trained = np.concatenate([self.scales.trained[m, first:count], learning.trained[new]])
                describe(self.scales, m, rows, blocks, owners, trained)
                self.names[m] = name
            if m in self.heirs:
                self.names[m] = f"inherited from version {self.heirs[m] or '(none)'}, {name}"
            self.learning[m] = Learning(minutes=learning.minutes)
