"""Two scoreboards: what got better, what got worse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from replay.evaluate.score import BREAKDOWNS, Json


class CompareError(ValueError):
    """The old scoreboard is not whole; the message says what is missing."""


class Change(NamedTuple):
    """One measure that differs."""

    system: str
    measure: str
    before: float | None
    after: float | None
    better: bool


class Difference(NamedTuple):
    """What differs between two scoreboards; `note` where they do not measure the same."""

    changes: list[Change]
    note: str

    @property
    def worse(self) -> list[Change]:
        """Return what got worse."""
        return [change for change in self.changes if not change.better]


def compare(old: Json, new: Json) -> Difference:
    """Compare what both hold: detectors, groups and kinds that only one has are left out.

    CompareError where the old one lacks what a scoreboard has.
    """
    try:
        return Difference(_changes(old, new), _note(old, new))
    except (AttributeError, KeyError, TypeError) as fault:
        raise CompareError(f"the old scoreboard is not whole: {type(fault).__name__} {fault}") from None


def _changes(old: Json, new: Json) -> list[Change]:
    changes = []
    for system in new["systems"]:
        if system not in old.get("systems", {}):
            continue
        before = dict(_measures(old["systems"][system]))
        for (measure, up), after in dict(_measures(new["systems"][system])).items():
            was = before.get((measure, up), after)
            if _differs(was, after):
                changes.append(Change(system, measure, was, after, _is_better(was, after, up)))
    return changes


def _measures(system: Json) -> Iterator[tuple[tuple[str, bool], float | None]]:
    """Yield ((name, more is better), value)."""
    for breakdown in BREAKDOWNS:
        for group, row in system.get(breakdown, {}).items():
            name = group if breakdown == "all" else f"{breakdown}: {group}"
            yield (f"{name}, campaigns detected", True), row["campaigns"]["rate"]
            yield (f"{name}, clients detected", True), row["clients"]["rate"]
            yield (f"{name}, median queries", False), row["queries"]["median_of_all"]
    if "confusion" in system:
        for which in ("first", "highest"):
            yield (f"right family by the {which} alert", True), system["confusion"][which]["right"]["rate"]
    yield ("campaigns named", True), system["campaigns"]["named"]["rate"]
    benign = system["benign"]
    for name, row in {"ordinary": benign["ordinary"], "hard": benign["hard"], **benign["kinds"]}.items():
        yield (f"benign: {name}, false alerts per million", False), row["per_million"]
        for level in ("medium", "high"):
            yield (f"benign: {name}, clients alarmed at {level}", False), row[level]["rate"]


def _differs(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(before - after) > 1e-4 * max(abs(before), abs(after))  # saved ones have six digits


def _is_better(before: float | None, after: float | None, up: bool) -> bool:
    """None is the worst: no half of them was ever found; of a rate nothing was there to measure."""
    if before is None or after is None:
        return before is None
    return (after > before) == up


def _note(old: Json, new: Json) -> str:
    if old.get("half") != new["half"]:
        return f"the old scoreboard is of the half {old.get('half')!r}, the new one of {new['half']!r}"
    before, after = (board.get("level", "vectors") for board in (old, new))  # older ones know no levels
    if before != after:
        return f"the old scoreboard is of the level of detail {before!r}, the new one of {after!r}"
    if [c.get("digest") for c in old.get("captures", ())] != [c["digest"] for c in new["captures"]]:
        return "the scoreboards are of different captures"
    return ""
