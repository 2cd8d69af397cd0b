"""From bytes to events: one file an envelope, found by its name.

An adapter is a module of this package with the two functions of `Adapter`; `record.py`, `fields.py` and
`columns.py` are what adapters share, `numbers.py` the compiled part. Every adapter meets
`tests/contracts/test_formats.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from detector.events import Decoded, EventBatch, Records
from detector.formats.columns import ClientKeys
from detector.settings import LimitSettings

_SHARED = frozenset({"bulk", "columns", "fields", "numbers", "record"})


class Adapter(Protocol):
    """Reads and writes one log format. Neither function ever raises because of what the bytes hold."""

    def decode(
        self, records: Records, *, limits: LimitSettings, secret: bytes, cache: ClientKeys | None = None
    ) -> Decoded:
        """Return the events of `records` in their order, and a dead letter for each record that could not be read.

        `secret` keys the hashes of client ids. `cache` (one for each secret) saves hashing a known client again.
        """

    def encode(self, batch: EventBatch) -> list[bytes]:
        """Return one record for each event."""


def names() -> list[str]:
    """Return the names of all adapters."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED)


def adapter(name: str) -> Adapter:
    """Return the adapter called `name`; LookupError says which there are."""
    if name not in names():
        raise LookupError(f"no log format is called {name!r}; there are: {', '.join(names())}")
    return cast("Adapter", importlib.import_module(f"{__name__}.{name}"))
