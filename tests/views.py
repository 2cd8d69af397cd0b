"""From events to the `View` of a detector, without client table or pipeline: one reference a model, a slot a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector import answers, blocks, history
from detector.baseline import Baselines
from detector.detectors import View
from detector.events import EventBatch, InputLevel, ModelRef
from detector.training.index import Hits
from tests import streams

Columns = dict[str, Any]
SEED = 11


@dataclass
class Memory:
    """What the core remembers of clients between two views, as the pipeline would keep it."""

    history: Any
    blocks: Any
    answers: Any

    @classmethod
    def of(cls, capacity: int) -> Memory:
        return cls(history.history_state(capacity), blocks.block_state(capacity), answers.answer_state(capacity))

    def clear(self, slot: int) -> None:
        """Make a slot that of a new client."""
        for state in (self.history, self.blocks, self.answers):
            for array in state:
                array[slot] = 0


class Lens:
    """Models with their references, and the way from events to views."""

    def __init__(self, widths: Sequence[int] = (6,), classes: int = 3, rows: int = 120) -> None:
        rng = np.random.default_rng(SEED)
        self.refs = [ModelRef(f"m{k}", "1") for k in range(len(widths))]
        self.models = [streams.Model.make(rng, width, classes) for width in widths]
        self.baselines = Baselines(len(widths), SEED)
        for ref, model in zip(self.refs, self.models, strict=True):
            made = [
                query
                for k in range(6)
                for query in streams.queries(
                    rng, model, streams.ordinary, rows // 6, streams.Query(f"benign{k}", None, None, ref)
                )
            ]
            list(self.baselines.admit(streams.batch(made)))
            list(self.baselines.flush())
        self.baselines.scales.trained_rate[0] = 0.05
        # features that do not depend on each other leave no room for a threshold: give them one
        self.baselines.scales.unusual[:] = np.minimum(self.baselines.scales.unusual, 0.0)

    def view(self, events: EventBatch, slot: Any, memory: Memory) -> View:
        """Return the view of a batch, and remember it in `memory`."""
        scales = self.baselines.scales
        lookup = np.array([self.baselines.known[ref] for ref in events.models], np.int32)
        reference = lookup[events.model]
        sketch, usable = self.baselines.sketch(events, reference)
        moves = history.observe(
            sketch, usable, events.input_digest, events.time_us, slot, reference, scales, memory.history
        )
        codes, whole = self.baselines.blocks(events, usable), usable & (events.input_level == InputLevel.VECTOR)
        changes = blocks.observe(codes, whole & moves.fresh, slot, scales.recent[reference], memory.blocks)
        answered = answers.observe(events, slot, reference, scales, memory.answers)
        return View(
            batch=events, slot=slot, reference=reference, scales=scales, sketch=sketch, blocks=codes, whole=whole,
            **moves._asdict(), **changes._asdict(), **answered._asdict(),
            **_known(events, moves.fresh, reference)._asdict(),
        )  # fmt: skip


def _known(events: EventBatch, fresh: Any, reference: Any) -> Hits:
    """Let all models have training indexes that know a third of all inputs, the first one every 50th as a canary."""
    looked_up, planted = fresh == 1, (fresh == 1) & (reference == 0)
    digest = events.input_digest
    trained = np.where(digest % 3 == 0, np.maximum(digest, 2), 1).astype(np.uint64)
    canary = np.where(digest % 50 == 0, digest % 80 + 1, 0).astype(np.int32)
    return Hits(np.where(looked_up, trained, 0).astype(np.uint64), np.where(planted, canary, -1).astype(np.int32))


def slots(events: EventBatch) -> Any:
    """Return a slot for every row: clients in order of appearance."""
    places: dict[int, int] = {}
    return np.array([places.setdefault(int(key), len(places)) for key in events.client_key], np.int64)


def mixed(seed: int, lens: Lens, events: int = 160, habits: Sequence[streams.Habit] = streams.HABITS) -> EventBatch:
    """Return a stream of three to five spoiled clients with habits drawn at random, on all models of the lens."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 6))
    parts = []
    for k in range(count):
        m = int(rng.integers(len(lens.refs)))
        like = streams.Query(f"client{k}", None, None, lens.refs[m], time_us=streams.START_US + k * 1000)
        half = events // count // 2
        made = []
        for habit in rng.choice(len(habits), 2):
            made += streams.queries(rng, lens.models[m], habits[habit], half, like)
            like = replace(like, time_us=made[-1].time_us + int(rng.integers(1, 40)) * streams.SECOND_US)
        parts.append(streams.spoil(rng, made))
    return streams.batch(streams.shuffle(rng, parts))
