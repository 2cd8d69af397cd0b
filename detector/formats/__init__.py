"""From bytes to events: one file an envelope, found by its name; codecs/ holds one file a body encoding.

An adapter is a module of this package. `native` decodes whole batches itself; every other has `ABOUT`, `PAIRED`, `fits`
and `read` (`Foreign`), and `reader.py` does the rest with `calls.py`, `codecs/` and `join.py`. `record.py`, `fields.py`
and `columns.py` are what all share, `numbers.py` the compiled part. Every adapter meets
`tests/contracts/test_formats.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any, Protocol, cast

from detector.events import Decoded, EventBatch, Records
from detector.formats import native
from detector.formats.calls import Message, Options, Read
from detector.formats.columns import ClientKeys, to_batch
from detector.formats.reader import Reader

NATIVE = "native"
_SHARED = frozenset(
    {
        *("bulk", "calls", "clock", "codecs", "columns", "fields", "gateway", "join"),
        *("numbers", "pointers", "reader", "record", "sniff"),
    }
)


class Foreign(Protocol):
    """Reads the envelope of one foreign log format."""

    ABOUT: str  # one line: whose log it is
    PAIRED: bool  # whether request and response are records of their own

    def fits(self, message: Message, value: Any) -> bool:
        """Say whether a record looks like this format; `value` is its parsed JSON, None where it is none."""

    def read(self, message: Message, options: Options) -> Read:
        """Return the calls of one record; RecordError where nothing of it can be kept, and no other exception."""


class Decoder(Protocol):
    """Decodes one stream. Never raises because of what the bytes hold."""

    def __call__(self, records: Records) -> Decoded:
        """Return the events that these records complete, and a dead letter for each record that could not be read."""

    def rest(self) -> EventBatch:
        """Return the events that still waited for more, at the end of the stream."""


class _Native:
    """prediction_event/1: every record stands alone."""

    def __init__(self, options: Options, keys: ClientKeys) -> None:
        self._options, self._keys = options, keys

    def __call__(self, records: Records) -> Decoded:
        return native.decode(records, limits=self._options.limits, secret=self._options.secret, cache=self._keys)

    def rest(self) -> EventBatch:
        """Nothing waits."""
        return to_batch([], Records("", [], [], []), self._keys)


@cache
def names() -> tuple[str, ...]:
    """Return the names of all adapters."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED))


def foreign() -> dict[str, Foreign]:
    """Return all adapters of foreign logs by name."""
    return {name: adapter(name) for name in names() if name != NATIVE}


def adapter(name: str) -> Foreign:
    """Return the adapter of a foreign log called `name`; LookupError says which formats there are."""
    if name not in names() or name == NATIVE:
        raise LookupError(f"no log format is called {name!r}; there are: {', '.join(names())}")
    return cast("Foreign", importlib.import_module(f"{__name__}.{name}"))


def is_paired(name: str) -> bool:
    """Say whether requests and responses are records of their own in this format."""
    return name != NATIVE and adapter(name).PAIRED


def decoder(name: str, options: Options) -> Decoder:
    """Return a decoder for one stream of the format called `name`; LookupError says which there are."""
    keys = ClientKeys(options.secret)
    return _Native(options, keys) if name == NATIVE else Reader(adapter(name).read, options, keys)
