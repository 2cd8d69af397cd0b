"""Training: a client asks for records that trained the model, more often than others do.

Whoever tests membership asks for records of which some were trained on; with one confident query a record this is all
that can be seen. The owner's training index (docs/training-index.md) tells which queries are training records or near
copies of one.

hits      A fresh query that is no near copy of an own earlier one is a training record not asked for before.
          Null: with a chance of at most p0, whatever came before. The odds of p0 are 2.5 × those of the share that
          three quarters of the clients in the model's benign reference do not exceed; p0 is at least 2 %.
canaries  Different canaries asked for: records that were made up and planted, so nobody can know them who has not seen
          the training data. Null: a stream without that knowledge ever meets one with a chance of at most 1 in 10,000,
          and each further one likewise. Half of the stake is kept: log10(½ + ½ · 10⁴ᵏ) for k canaries.

Cannot see: models without an index, inputs that are not logged in full, records changed by more than the index's reach
(mirrored images), lists with few training records. Fooled by: the owner's own jobs that score training data again (name
them as exceptions), customers who are training records, data so coarse that strangers' records coincide: p0 follows
all that as far as the reference shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I32, I64, U64, InputLevel, OutputLevel
from detector.evidence import bernoulli_above
from detector.kernel import in_place

SHARES = np.array([0.06, 0.2, 0.6])
LEAST_RATE, MOST_RATE, MARGIN = 0.02, 0.95, 2.5
COPY = 0.3  # queries nearer than this (r0) to an own earlier one are copies of it
SEEN = 1024  # bits that remember which records were asked for
MEMORY = 1 / 32  # weight of the newest query in the running share
STRANGE = 4.0  # −log10 of the chance to meet a canary without knowledge


class TrainingState(NamedTuple):
    """One row a client slot."""

    clock: I64  # [slots] queries bet on
    wealth: F64  # [slots, 3]
    share: F32  # [slots]
    records: I64  # [slots] different training records asked for
    seen: U64  # [slots, 16] a bit for each by its digest; cleared when half of them are set
    marked: I32  # [slots] bits set
    canaries: U64  # [slots] a bit for each canary asked for


class Out(NamedTuple):
    """Columns [n] of the signals."""

    hits: F32
    share: F32
    records: F32
    canaries: F32


class Training:
    """See the module."""

    name = "training"
    version = 1
    need = Need(InputLevel.NONE, OutputLevel.NONE)  # inputs in full where there is an index: the pipeline counts those
    signals = (
        Signal("training.hits", "log10 e-value", -200, 200, "training records asked for more often than by others"),
        Signal("training.share", "share", 0, 1, "running share of queries for training records"),
        Signal("training.records", "records", 0, 1e12, "different training records asked for"),
        Signal("training.canaries", "log10 e-value", -1, 260, "canaries asked for, which no stranger can know"),
    )

    def state(self, capacity: int) -> TrainingState:
        """Return state for that many clients."""
        return TrainingState(
            clock=np.zeros(capacity, np.int64),
            wealth=np.zeros((capacity, len(SHARES))),
            share=np.zeros(capacity, np.float32),
            records=np.zeros(capacity, np.int64),
            seen=np.zeros((capacity, SEEN // 64), np.uint64),
            marked=np.zeros(capacity, np.int32),
            canaries=np.zeros(capacity, np.uint64),
        )

    def observe(self, view: View, state: TrainingState) -> Mapping[str, F32]:
        """Bet on every query that was looked up, in order."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        if view.trained.any():  # 0 = not looked up
            rate = expected(view.scales.trained_rate)[view.reference]
            _observe(view.slot, view.joined, view.trained, view.canary, rate, state, out)
        return {f"training.{name}": getattr(out, name) for name in Out._fields}


def expected(usual: F64) -> F64:
    """Return p0 [m]: how often a benign query may at most be a training record, where so many usually are."""
    return np.asarray(np.clip(MARGIN * usual / (1.0 - usual + MARGIN * usual), LEAST_RATE, MOST_RATE))


@in_place
def _observe(slot: I64, joined: F32, trained: U64, canary: I32, rate: F64, state: TrainingState, out: Out) -> None:
    for i in range(len(slot)):
        c = slot[i]
        if trained[i] == 0:
            continue
        if canary[i] >= 0:
            out.canaries[i] = _canaries(c, canary[i], state)
        hit = trained[i] > 1
        if joined[i] < COPY or (hit and not _first_time(c, trained[i], state)):
            continue
        state.records[c] += hit
        out.records[i] = state.records[c]
        state.share[c] += max(MEMORY, 1.0 / (state.clock[c] + 1)) * (hit - state.share[c])
        out.share[i] = state.share[c]
        out.hits[i] = bernoulli_above(state.wealth[c], state.clock[c], hit, rate[i], SHARES)
        state.clock[c] += 1


@in_place
def _first_time(c: int, digest: np.uint64, state: TrainingState) -> bool:
    """Mark a record as asked for; False where it was before."""
    place = (digest >> np.uint64(6)) % np.uint64(SEEN // 64)
    bit = np.uint64(1) << (digest & np.uint64(63))
    if state.seen[c, place] & bit:
        return False
    if state.marked[c] >= SEEN // 2:
        state.seen[c] = 0
        state.marked[c] = 0
    state.seen[c, place] |= bit
    state.marked[c] += 1
    return True


@in_place
def _canaries(c: int, number: int, state: TrainingState) -> float:
    """Mark a canary as asked for, if it is one (number > 0), and return log10 E."""
    if number > 0:
        state.canaries[c] |= np.uint64(1) << np.uint64((number - 1) % 64)
    met = 0
    for k in range(64):
        met += (state.canaries[c] >> np.uint64(k)) & np.uint64(1)
    return float(np.log10(0.5 + 0.5 * 10.0 ** (STRANGE * met)))


DETECTOR = Training()
