"""What is remembered of everyone who has a slot, and how a chunk is measured: history → answers → detectors → families.

The pipeline has one `Tracks` for clients; campaigns.py has another, in which a slot is a group of clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detector import answers, blocks, families, history
from detector.detectors import Detector, References, State, View
from detector.events import F32, I16, I32, I64, U8, EventBatch, InputLevel
from detector.training.index import NO_INDEXES, TrainingIndexes


class Tracks:
    """The state of `capacity` slots; an all-zero row is a newcomer. `more`: states kept and cleared with it."""

    def __init__(
        self,
        capacity: int,
        detectors: Sequence[Detector],
        more: dict[str, State],
        training: TrainingIndexes = NO_INDEXES,
    ) -> None:
        self.detectors = tuple(detectors)
        self._training = training
        self._history = history.history_state(capacity)
        self._blocks = blocks.block_state(capacity)
        self._answers = answers.answer_state(capacity)
        self._own: dict[str, Any] = {d.name: d.state(capacity) for d in self.detectors}
        shared: dict[str, State] = {"history": self._history, "blocks": self._blocks, "answers": self._answers}
        self.states: dict[str, State] = {**shared, **more, **self._own}

    def measure(
        self, batch: EventBatch, slot: I64, reference: I32, scales: References, sketch: I16, codes: U8, usable: U8
    ) -> tuple[View, dict[str, F32]]:
        """Take one chunk [n] in stream order; returns what the detectors saw, and the columns of all signals."""
        digest, time_us = batch.input_digest, batch.time_us
        moves = history.observe(sketch, usable, digest, time_us, slot, reference, scales, self._history)
        whole = usable & (batch.input_level == InputLevel.VECTOR)
        changes = blocks.observe(codes, whole & moves.fresh, slot, scales.recent[reference], self._blocks)
        answered = answers.observe(batch, slot, reference, scales, self._answers)
        columns = moves._asdict() | changes._asdict() | answered._asdict()
        columns |= self._training.look_up(batch, moves.fresh == 1)._asdict()
        view = View(
            batch, slot, reference=reference, scales=scales, sketch=sketch, blocks=codes, whole=whole, **columns
        )
        signals: dict[str, F32] = {}
        for detector in self.detectors:
            signals.update(detector.observe(view, self._own[detector.name]))
        signals.update(families.combine(signals))
        return view, signals
