"""What each client showed last, and at which queries its evidence rose most: so that an alert can explain itself.

Followed are the families' evidence and every other signal that a rule in force asks. When an epoch ends, the newest
values of the clients that were active in it and never had an alert become the model's quantiles, frozen for the next
epoch; alerts set what they observed beside them. A model that has none yet gets them at the next tick of ten minutes.

The steepest rises of a family are those since its evidence last stood at nothing (an e-value of 1): what came before
was lost again and explains nothing.

Limit: the quantiles are of this worker's clients, and of those that still had their place at the epoch's end.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

import numpy as np

from detector.conditions import thresholds
from detector.events import F32, I8, I32, I64, U8, EventBatch
from detector.families import FAMILIES
from detector.kernel import kernel
from detector.rules import Ruleset

RISES = 8  # kept for each client and family
LEAST_CLIENTS = 8  # for quantiles
LEVELS = (0.5, 0.95, 0.99)
QUIET, ACTIVE = 1, 2

Quantiles = dict[str, tuple[float, float, float]]  # signal -> p50, p95, p99


class ProfileState(NamedTuple):
    """One row a client slot; all-zero = new."""

    seen: U8  # [slots] 0 new, QUIET since the epoch began, ACTIVE in it
    model: I32  # [slots] row of its model's reference
    newest: F32  # [slots, signals] NaN where it never spoke
    rises: I8  # [slots, families] how many are kept
    gain: F32  # [slots, families, RISES] log10 e-value gained at one query
    offset: I64  # [slots, families, RISES] its position in the partition


class Profile:
    """The signals that one rule set asks; families first."""

    def __init__(self, ruleset: Ruleset) -> None:
        asked = (t.signal for rule in ruleset.active for when in rule.conditions for t in thresholds(when))
        self.signals = tuple(dict.fromkeys([*(f"{family.name}.evidence" for family in FAMILIES), *asked]))
        self._families = {family.name: k for k, family in enumerate(FAMILIES)}

    def state(self, capacity: int) -> ProfileState:
        """Return zeroed state for that many slots."""
        families = len(FAMILIES)
        return ProfileState(
            seen=np.zeros(capacity, np.uint8),
            model=np.zeros(capacity, np.int32),
            newest=np.zeros((capacity, len(self.signals)), np.float32),
            rises=np.zeros((capacity, families), np.int8),
            gain=np.zeros((capacity, families, RISES), np.float32),
            offset=np.zeros((capacity, families, RISES), np.int64),
        )

    def stack(self, signals: Mapping[str, F32], n: int) -> F32:
        """Return the columns followed as one array [signals, n]; NaN for one that no detector offers."""
        stacked = np.full((len(self.signals), n), np.nan, np.float32)
        for k, name in enumerate(self.signals):
            if name in signals:
                stacked[k] = signals[name]
        return stacked

    def observe(self, slot: I64, reference: I32, batch: EventBatch, stacked: F32, state: ProfileState) -> None:
        """Remember a chunk."""
        _observe(slot, reference, stacked, len(FAMILIES), state)
        _climb(slot, batch.offset, stacked, len(FAMILIES), state)

    def steepest(
        self, family: str, row: int, slot: I64, batch: EventBatch, stacked: F32, state: ProfileState
    ) -> tuple[tuple[int, float], ...]:
        """Return (offset, gain) of a family's steepest rises as of one row of a chunk, the steepest first.

        Ask before `observe` is told of the chunk: the rows up to this one are added to a copy, so that the answer does
        not depend on where the stream was cut.
        """
        if family not in self._families:
            return ()
        mine = np.flatnonzero(slot[: row + 1] == slot[row])
        copy = ProfileState(*(array[slot[row]][None].copy() for array in state))
        there = np.zeros(len(mine), np.int64)
        _observe(there, there.astype(np.int32), stacked[:, mine], len(FAMILIES), copy)
        _climb(there, batch.offset[mine], stacked[:, mine], len(FAMILIES), copy)
        k = self._families[family]
        kept = int(copy.rises[0, k])
        found = zip(copy.offset[0, k, :kept].tolist(), copy.gain[0, k, :kept].tolist(), strict=True)
        return tuple(sorted(found, key=lambda rise: (-rise[1], rise[0])))

    def quantiles(self, state: ProfileState, alerted: I64, but: Container[int] = ()) -> dict[int, Quantiles]:
        """Return those of every model, `but` some, that had enough clients; the `alerted` [slots, ≠ 0] are left out."""
        counted = np.flatnonzero((state.seen == ACTIVE) & (alerted == 0))
        models = state.model[counted]
        wanted = [m for m in np.unique(models).tolist() if m not in but]
        found = {m: self._quantiles(state.newest[counted[models == m]]) for m in wanted}
        return {m: quantiles for m, quantiles in found.items() if quantiles}

    def begin_epoch(self, state: ProfileState) -> None:
        """Count from now on who is active."""
        state.seen[state.seen == ACTIVE] = QUIET

    def _quantiles(self, newest: F32) -> Quantiles:
        out: Quantiles = {}
        for name, column in zip(self.signals, newest.T, strict=True):
            spoken = column[~np.isnan(column)].astype(np.float64)
            if len(spoken) >= LEAST_CLIENTS:
                low, high, top = np.quantile(spoken, LEVELS).tolist()
                out[name] = (low, high, top)
        return out


@kernel
def _observe(slot: I64, reference: I32, stacked: F32, families: int, state: ProfileState) -> None:
    """Note what came, and the newest value of every signal but the families' evidence."""
    for i in range(len(slot)):
        c = slot[i]
        if state.seen[c] == 0:
            for k in range(len(stacked)):
                state.newest[c, k] = np.nan
        state.seen[c] = ACTIVE
        state.model[c] = reference[i]
    for k in range(families, len(stacked)):
        for i in range(len(slot)):
            if not np.isnan(stacked[k, i]):
                state.newest[slot[i], k] = stacked[k, i]


@kernel
def _climb(slot: I64, offset: I64, stacked: F32, families: int, state: ProfileState) -> None:
    """Note the newest evidence, and every rise of it that is among the steepest since it stood at nothing."""
    for i in range(len(slot)):
        c = slot[i]
        for k in range(families):
            value, before = stacked[k, i], state.newest[c, k]
            if np.isnan(value):
                continue
            state.newest[c, k] = value
            if value <= 0.0:
                state.rises[c, k] = 0
            gain = value - before if before > 0.0 else value
            if value <= 0.0 or gain <= 0.0:
                continue
            kept, place, least = int(state.rises[c, k]), 0, np.float32(np.inf)
            for j in range(kept):
                if state.offset[c, k, j] == offset[i]:  # another row of the same record
                    gain += state.gain[c, k, j]
                    place, least = j, np.float32(-1.0)
                elif state.gain[c, k, j] < least:
                    place, least = j, state.gain[c, k, j]
            if kept < RISES and least >= 0.0:
                state.rises[c, k] = kept + 1
                place, least = kept, np.float32(0.0)
            if gain > least:
                state.gain[c, k, place] = gain
                state.offset[c, k, place] = offset[i]
