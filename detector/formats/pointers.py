"""Mapping files: for each field of an event the JSON pointer (RFC 6901) to where a log holds it.

    time = "/ts"
    client = ["/consumer", "/headers/x-api-user"]   # the first one that is there
    model = "=digits"                               # a fixed text
    request = "/body/request"

The file is TOML. Without one, the pointers are those of prediction_event/1.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from detector.settings import SettingsError

Pointers = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where each field stands: pointers, the first one that leads to a value counts; `=text` is that text."""

    time: Pointers = ("/event_time",)
    client: Pointers = ("/client/id",)
    client_kind: Pointers = ("/client/kind",)
    client_ip: Pointers = ("/client/ip",)
    model: Pointers = ("/model/name",)
    model_version: Pointers = ("/model/version",)
    status: Pointers = ("/status",)
    latency_ms: Pointers = ("/latency_ms",)
    request: Pointers = ("/input/vector",)  # a body that a codec reads
    response: Pointers = ()  # a body that a codec reads
    label: Pointers = ("/output/label",)  # of one instance
    confidence: Pointers = ("/output/confidence",)
    scores: Pointers = ("/output/scores",)
    entries: Pointers = ()  # a list of records inside the record

    def value(self, field: str, record: Any) -> Any:
        """Return what the field's pointers lead to, None where nothing is there."""
        for pointer in getattr(self, field):
            found = pointer[1:] if pointer.startswith("=") else follow(record, pointer)
            if found is not None:
                return found
        return None


NAMES = tuple(field.name for field in fields(Mapped))


def follow(value: Any, pointer: str) -> Any:
    """Return what a JSON pointer leads to, None where nothing is there; a text that holds JSON is not opened."""
    for name in _tokens(pointer):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and len(name) < 8 and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


@lru_cache(maxsize=256)
def _tokens(pointer: str) -> tuple[str, ...]:
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def load(path: Path) -> Mapped:
    """Read a mapping file; fields that it does not name are not in the log. SettingsError says what is wrong."""
    try:
        read = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    named = {name: _pointers(path, name, value) for name, value in read.items()}
    if not named.get("time"):
        raise SettingsError(f'{path}: time is missing: a pointer such as time = "/ts"')
    return Mapped(**{name: named.get(name, ()) for name in NAMES})


def _pointers(path: Path, name: str, value: Any) -> Pointers:
    if name not in NAMES:
        raise SettingsError(f"{path}: {name}: no such field; there are: {', '.join(NAMES)}")
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(p, str) and p[:1] in ("", "/", "=") for p in listed):
        raise SettingsError(f'{path}: {name}: a JSON pointer such as "/client/id", a list of them, or "=text"')
    return tuple(listed)
