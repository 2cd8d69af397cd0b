"""The volume rule: 500 or more calls within an hour by one client to one model.

What a SIEM without knowledge of models ships: Elastic's prebuilt detection rules threshold the number of calls of a
caller to a model an hour at 500. Any attacker who waits a little passes below it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detector.events import I64, EventBatch
from replay.anchors import Bools, Entry, Range, by_client

CALLS = 500
WINDOW_US = 3_600_000_000


class Volume:
    """Remembers the last 499 calls of every client."""

    def __init__(self, pairs: int, ranges: Mapping[str, Range]) -> None:
        del ranges
        self._last = [np.empty(0, np.int64)] * pairs
        self._alarms: list[I64] = []

    def observe(self, batch: EventBatch, pair: I64, row: I64) -> None:
        """Count failed calls too: a volume rule does not look inside."""
        for who, at in by_client(pair):
            times = np.concatenate([self._last[who], batch.time_us[at]])
            full = times[CALLS - 1 :] - times[: max(len(times) - CALLS + 1, 0)] <= WINDOW_US
            self._alarms.append(row[at[len(at) - len(full) :][full]])
            self._last[who] = times[-(CALLS - 1) :]

    def alarms(self, benign: Bools) -> I64:
        """Return the rows that complete 500 calls within an hour."""
        del benign
        return np.sort(np.concatenate([np.empty(0, np.int64), *self._alarms]))


ANCHOR = Entry("volume", "the usual threshold: 500 calls an hour", Volume)
