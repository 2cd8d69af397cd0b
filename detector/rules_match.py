"""Which events meet which rule: conditions on the columns of a chunk, models, exceptions.

The usual chunk meets nothing, and then a rule costs one or two numpy comparisons; whatever needs texts (models,
client ids) is looked at for matched rows only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from detector.alerts import SEVERITIES
from detector.conditions import Mask, evaluate
from detector.events import F32, I64, U8, EventBatch, Flag
from detector.registry import SEVERITY, Registry
from detector.rules import Rule, Ruleset


class Matches(NamedTuple):
    """The events that meet one rule, k of them in stream order."""

    rule: int  # index into `Ruleset.active`
    rows: I64  # [k] rows of the chunk
    level: U8  # [k] severity 1 (low) to 4 (critical)


class Matcher:
    """Evaluates a rule set. What it remembers between chunks is a cache and counters, never a part of the result."""

    def __init__(self, ruleset: Ruleset, registry: Registry) -> None:
        self.rules = ruleset.active
        self.registry = registry
        self.excepted: Counter[tuple[str, str]] = Counter()  # (rule, exception) -> matches left out
        self._admits: dict[tuple[int, str], bool] = {}
        self._covers: dict[tuple[int, int, str], bool] = {}

    def matches(self, batch: EventBatch, signals: Mapping[str, F32]) -> Iterator[Matches]:
        """Yield the matches of every rule that has any; `signals` holds columns [n] beside the batch."""
        for index, rule in enumerate(self.rules):
            mask = evaluate(rule.when, signals, len(batch))
            if not mask.any():
                continue
            rows = self._watched(index, rule, batch, np.flatnonzero(mask))
            if rule.exceptions and len(rows):
                rows = self._without_exceptions(index, rule, batch, rows)
            if len(rows):
                level = _levels(rule, batch, signals, rows)
                yield Matches(index, rows, SEVERITY[level - 1, self._sensitivity(batch, rows)])

    def _sensitivity(self, batch: EventBatch, rows: I64) -> I64:
        ranks = np.array([self.registry.entry(ref).rank for ref in batch.models], np.int64)
        return ranks[batch.model[rows]]

    def _watched(self, index: int, rule: Rule, batch: EventBatch, rows: I64) -> I64:
        watched = np.array([self._admit(index, rule, ref.name) for ref in batch.models], np.bool_)
        return rows if watched.all() else rows[watched[batch.model[rows]]]

    def _admit(self, index: int, rule: Rule, model: str) -> bool:
        key = (index, model)
        if key not in self._admits:
            if len(self._admits) > 1 << 16:  # model names come from the log: never let them fill the memory
                self._admits.clear()
            self._admits[key] = rule.models.admit(model)
        return self._admits[key]

    def _without_exceptions(self, index: int, rule: Rule, batch: EventBatch, rows: I64) -> I64:
        """Leave out the events of excepted clients. A client is looked up once a chunk, not once an event."""
        _, first, inverse = np.unique(batch.client_key[rows], return_index=True, return_inverse=True)
        kept: Mask = np.ones(len(rows), np.bool_)
        for number, exception in enumerate(rule.exceptions):
            named = [self._cover(index, number, rule, batch.client_id[rows[i]]) for i in first]
            left = np.array(named, np.bool_)[inverse] & (batch.time_us[rows] < exception.expires_us) & kept
            kept &= ~left
            if count := int(left.sum()):
                self.excepted[rule.id, exception.id] += count
        return rows[kept]

    def _cover(self, index: int, number: int, rule: Rule, client_id: str) -> bool:
        key = (index, number, client_id)
        if key not in self._covers:
            if len(self._covers) > 1 << 16:
                self._covers.clear()
            self._covers[key] = rule.exceptions[number].covers(client_id)
        return self._covers[key]


def level_of(severity: str) -> int:
    """Return a severity as a number, 1 (low) to 4 (critical)."""
    return SEVERITIES.index(severity) + 1


def _levels(rule: Rule, batch: EventBatch, signals: Mapping[str, F32], rows: I64) -> U8:
    """Return the highest rung that each matched row reaches; nobody named (`unknown`) counts one step less."""
    level = np.full(len(rows), level_of(rule.severity), np.uint8)
    n = len(batch)
    for step in rule.escalate:
        reached = evaluate(step.when, signals, n)[rows]
        np.maximum(level, np.where(reached, np.uint8(level_of(step.severity)), np.uint8(0)), out=level)
    unknown = (batch.flags[rows] & np.uint16(Flag.UNKNOWN_CLIENT)) != 0
    return np.where(unknown, np.maximum(level, 2) - 1, level).astype(np.uint8)
