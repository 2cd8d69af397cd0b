"""The volume rule: 500 or more calls within an hour by one client to one model.

What a SIEM without knowledge of models ships: Elastic's prebuilt detection rules threshold the number of calls of a
caller to a model an hour at 500. Any attacker who waits a little passes below it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detector.events import F64, I64, EventBatch
from replay.anchors import Bools, Entry, Judged, Range, by_client

CALLS = 500
WINDOW_US = 3_600_000_000


FAMILIES = ("inversion", "attribute_inference", "membership_inference", "extraction", "adversarial_search")


class Volume:
    """Remembers the calls of every client within the last hour."""

    def __init__(self, pairs: int, ranges: Mapping[str, Range]) -> None:
        del ranges
        self._last = [np.empty(0, np.int64)] * pairs
        self._counts: list[tuple[I64, F64]] = []

    def observe(self, batch: EventBatch, pair: I64, row: I64) -> None:
        """Count failed calls too: a volume rule does not look inside."""
        for who, at in by_client(pair):
            before = self._last[who]
            times = np.maximum.accumulate(np.concatenate([before, batch.time_us[at]]))
            first = np.searchsorted(times, times[len(before) :] - WINDOW_US)
            calls = np.arange(len(before), len(times)) - first + 1
            self._counts.append((row[at], calls / CALLS))
            self._last[who] = times[first[-1] :]

    def judged(self, benign: Bools) -> Judged:
        """Return the calls within the hour before every event."""
        del benign
        return Judged.joined(self._counts)


ANCHOR = Entry("volume", "the usual threshold: 500 calls an hour", Volume, FAMILIES)
