"""Where records come from. One file a source; every source meets `tests/contracts/test_sources.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from detector.events import Records


class Source(Protocol):
    """A stream of records with positions. The service polls it, and commits only what has been delivered."""

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        """Return the next records (perhaps none: an empty `Records`), or None at the end of a finite source."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Record that everything below offsets[partition] is delivered; a no-op for a finite source."""

    def close(self) -> None:
        """Let go of connections and files; safe to call twice."""
