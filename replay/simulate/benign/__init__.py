"""Benign clients. A file ends with `KINDS`, and is found by itself: ordinary.py and the hard kinds of all sorts."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from replay.simulate.benign.protocol import Kind
from replay.simulate.data import UnknownNameError


@cache
def catalogue() -> dict[str, Kind]:
    """Return every benign kind by name, in alphabetical order."""
    found: dict[str, Kind] = {}
    for info in pkgutil.iter_modules(__path__):
        for kind in getattr(importlib.import_module(f"{__name__}.{info.name}"), "KINDS", ()):
            if kind.name in found:
                raise ValueError(f"two benign kinds are called {kind.name}")
            found[kind.name] = kind
    return dict(sorted(found.items()))


def kind_named(name: str) -> Kind:
    """Return one benign kind. Raises UnknownNameError for an unknown name."""
    if name not in catalogue():
        raise UnknownNameError(f"unknown benign kind {name!r}: there are {', '.join(catalogue())}")
    return catalogue()[name]
