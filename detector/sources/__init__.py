"""Where records come from. One file a source; every source meets `tests/contracts/test_sources.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Protocol

from detector.events import Records


class Source(Protocol):
    """A stream of records with positions. The service polls it, and commits only what has been delivered."""

    def poll(self, max_records: int, timeout_s: float) -> Records | None:
        """Return the next records (perhaps none: an empty `Records`), or None at the end of a finite source."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Record that everything below offsets[partition] is delivered; a no-op for a finite source."""

    def close(self) -> None:
        """Let go of connections and files; safe to call twice."""


class SourceUnavailableError(Exception):
    """The source cannot do this now (unreachable, or the group is rebalancing): nothing is lost, try again later."""


class SourceError(Exception):
    """The source cannot be used as configured; trying again would not help. The message says what to change."""


class Change(NamedTuple):
    """Partitions came or went. `revoked`: finish and commit first; `lost`: another worker already has them."""

    kind: Literal["assigned", "revoked", "lost"]
    partitions: tuple[int, ...]


class Start(NamedTuple):
    """Where reading a partition begins, and how many of the wanted records are gone (-1: the offset never was)."""

    offset: int
    missing: int = 0


class PartitionedSource(Source, Protocol):
    """A source whose partitions come and go; the loop sees every source in this form (`whole.py` wraps plain ones)."""

    name: str  # the topic, or the capture's name

    @property
    def generation(self) -> int:
        """Of the consumer group; 0 where there is none."""

    def changes(self) -> list[Change]:
        """Return what came and went during the last poll, in order; an assigned partition waits for `start`."""

    def committed(self, partition: int) -> int | None:
        """Return the committed offset, None where nothing was ever committed."""

    def start(self, partition: int, offset: int | None) -> Start:
        """Begin to read at an offset; None: the first start, where the settings say."""

    def pause(self, partitions: Collection[int]) -> None:
        """Read none of these partitions for now, and all others."""

    def ended(self) -> Collection[int]:
        """Name the partitions that have been read up to their present end."""

    def lag(self, offsets: Mapping[int, int]) -> int:
        """Count the records known to lie at or after these offsets."""
