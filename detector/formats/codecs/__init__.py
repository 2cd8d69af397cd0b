"""How bodies encode inputs and answers: one file a codec, found by its name.

A codec is a module with `request` and `response`. Each returns None where the body is not its own, so that no two
codecs take the same body, and raises `BodyError` where the body is its own and broken. `request` returns one entry for
each instance; `response` returns columns, each with one entry for each instance.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from typing import Any, Protocol, cast

from detector.events import Flag

_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)
_PLAIN = ({int}, {float}, {int, float})
_SHARED = frozenset({"answers"})


class BodyError(Exception):
    """A body cannot be read; `flag` says why. The event goes on without it."""

    def __init__(self, flag: Flag = Flag.SHAPE_MISMATCH) -> None:
        super().__init__(flag.name)
        self.flag = flag


class Codec(Protocol):
    """Reads one encoding of bodies, parsed from JSON; a text is a body that is no JSON."""

    def request(self, body: Any) -> list[Any] | None:
        """Return one entry for each instance."""

    def response(self, body: Any) -> list[list[Any]] | None:
        """Return columns of one entry for each instance."""


@cache
def discover() -> dict[str, Codec]:
    """Return all codecs by name."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED)
    return {name: cast("Codec", importlib.import_module(f"{__name__}.{name}")) for name in found}


def request(body: Any) -> list[Any]:
    """Return one entry for each instance; BodyError where no codec reads the body."""
    for codec in discover().values():
        found = codec.request(body)
        if found is not None:
            return found
    raise BodyError


def response(body: Any) -> list[list[Any]]:
    """Return columns of one entry for each instance; BodyError where no codec reads the body."""
    for codec in discover().values():
        found = codec.response(body)
        if found is not None:
            return found
    raise BodyError


def flat(entry: Any) -> list[float] | None:
    """Return the numbers of one instance in one order, None where it holds anything else.

    Named values come in the order of their names, because the caller chooses the order in which they are sent.
    Numbers as texts and truth values count as numbers; what is missing is NaN.
    """
    if isinstance(entry, list) and set(map(type, entry)) in _PLAIN:
        return entry
    if isinstance(entry, dict):
        entry = [entry[name] for name in sorted(entry)]
    if isinstance(entry, list):
        parts = [flat(part) for part in entry]
        return None if any(part is None for part in parts) else [x for part in parts for x in part or ()]
    number = _number(entry)
    return None if number is None else [number]


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return float("nan")
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float) else None
