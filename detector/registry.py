"""models.yml: what the owner knows of the protected models, and what that does to severity.

A list of entries; the first one whose glob fits a model's name (and version, where given) holds. It says how much harm
an attack on the model does (`sensitivity`), what its API answers with (`output`) and who answers for it (`owner`). A
model that no entry fits counts as of medium sensitivity.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from detector.alerts import SEVERITIES
from detector.events import ModelRef, OutputLevel
from detector.rules_faults import STRICT, Line, note
from detector.rules_yaml import Source, read_source
from detector.settings import SettingsError

OUTPUTS = {"label": OutputLevel.LABEL, "confidence": OutputLevel.CONFIDENCE, "scores": OutputLevel.SCORES}
_REMEMBERED = 1 << 12  # answers kept: the names of models come from the log

# The severity that an alert has, by what the rule says (row) and the sensitivity of the model (column), both from low
# to critical. Rising to the right and downwards; what a rule calls low (volume, explainers) stays low.
SEVERITY = np.array(
    [
        [1, 1, 1, 1],
        [1, 2, 2, 3],
        [2, 3, 4, 4],
        [3, 4, 4, 4],
    ],
    np.uint8,
)


@dataclass(frozen=True, slots=True, config=STRICT)
class Entry:
    """What is known of the models that it fits."""

    name: Line  # a glob
    version: Line | None = None  # a glob; None: every version
    sensitivity: Literal["low", "medium", "high", "critical"] = "medium"
    output: Literal["label", "confidence", "scores"] | None = None  # the most that its API answers with
    owner: Annotated[str, Field(max_length=200)] = ""

    def fits(self, model: ModelRef) -> bool:
        """Say whether it speaks of a model."""
        return fnmatchcase(model.name, self.name) and fnmatchcase(model.version, self.version or "*")

    @property
    def rank(self) -> int:
        """The sensitivity as a number, 0 (low) to 3 (critical)."""
        return SEVERITIES.index(self.sensitivity)


UNKNOWN = Entry("*")


class Registry:
    """All entries, in the order of the file."""

    def __init__(self, entries: tuple[Entry, ...] = ()) -> None:
        self.entries = entries
        self._found: dict[ModelRef, Entry] = {}

    def entry(self, model: ModelRef) -> Entry:
        """Return the first entry that fits a model, else `UNKNOWN`."""
        found = self._found.get(model)
        if found is None:
            found = next((entry for entry in self.entries if entry.fits(model)), UNKNOWN)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[model] = found
        return found


@dataclass(frozen=True, slots=True, config=STRICT)
class _File:
    models: tuple[Entry, ...]


_FILE = TypeAdapter(_File)
_OWNERS: dict[str, Any] = {"": _File, "models": Entry}


def load_registry(path: Path | None) -> Registry:
    """Read models.yml; an empty registry for None. SettingsError tells all that is wrong, with file:line:column."""
    if path is None:
        return Registry()
    source = read_source(path, str(path))
    entries = _read(source)
    if source.problems:
        raise SettingsError("\n".join(str(problem) for problem in source.problems))
    return Registry(entries)


def _read(source: Source) -> tuple[Entry, ...]:
    if source.data is None:
        return ()
    if not isinstance(source.data, dict):
        source.problem((), "QW106", "a mapping with the key 'models' was expected")
        return ()
    try:
        entries = _FILE.validate_python(source.data).models
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            note(source, detail, _OWNERS)
        return ()
    for i, entry in enumerate(entries):
        first = next(k for k, earlier in enumerate(entries) if k == i or _hides(earlier, entry))
        if first != i:
            source.problem(("models", i, "name"), "QW801", f"never asked: entry {first + 1} fits these models first")
    return entries


def _hides(earlier: Entry, later: Entry) -> bool:
    """Say whether nothing is left for the later of two entries; false where that takes more than a look."""
    plain = not set(later.name) & set("*?[")
    named = earlier.name in ("*", later.name) or (plain and fnmatchcase(later.name, earlier.name))
    return named and earlier.version in (None, "*", later.version)
