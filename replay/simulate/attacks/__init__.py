"""Attacks, one a file, found by themselves: a file ends with `ATTACK`, or with `ATTACKS` for variants of one idea."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from replay.simulate.attacks.protocol import Attack
from replay.simulate.data import UnknownNameError


@cache
def catalogue() -> dict[str, Attack]:
    """Return every attack by name, in alphabetical order."""
    found: dict[str, Attack] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        one = getattr(module, "ATTACK", None)
        for attack in getattr(module, "ATTACKS", () if one is None else (one,)):
            if attack.name in found:
                raise ValueError(f"two attacks are called {attack.name}")
            found[attack.name] = attack
    return dict(sorted(found.items()))


def attack_named(name: str) -> Attack:
    """Return one attack. Raises UnknownNameError for an unknown name."""
    if name not in catalogue():
        raise UnknownNameError(f"unknown attack {name!r}: there are {', '.join(catalogue())}")
    return catalogue()[name]
