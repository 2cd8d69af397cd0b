"""What pydantic finds wrong in a YAML file, told with position, stable code and the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import ConfigDict, Strict, StringConstraints
from pydantic_core import ErrorDetails, PydanticCustomError

from detector.rules_yaml import Source, clip, nearest

STRICT = ConfigDict(extra="forbid")
Line = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=200)]

_MESSAGES = {
    "dataclass_type": "a mapping was expected here",
    "tuple_type": "a list was expected here",
    "string_type": "text was expected here; put it in quotes (a colon and a blank make a mapping)",
    "int_type": "a whole number was expected here",
    "date_type": "a date was expected here, such as 2026-12-31",
}


def fault(code: str, message: str) -> PydanticCustomError:
    """Return a fault of our own for a validator to raise."""
    return PydanticCustomError(code, "{text}", {"text": message})


def note(source: Source, detail: ErrorDetails, owners: Mapping[str, Any]) -> None:
    """Note one of pydantic's errors in `source`; `owners`: which dataclass stands under which key ("" = the file)."""
    kind, where = detail["type"], detail["loc"]
    name = clip(where[-1]) if where and isinstance(where[-1], str) else ""
    if kind == "unexpected_keyword_argument":
        owner = next((str(part) for part in reversed(where[:-1]) if isinstance(part, str)), "")
        known = [f.name for f in fields(owners[owner])]
        source.problem(where, "QW104", f"unknown key {name!r}{nearest(name, known)}", key=True)
    elif kind == "missing":
        source.problem(where, "QW105", f"key {name!r} is missing")
    elif kind == "literal_error":
        known = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        source.problem(
            where, "QW106", f"{clip(detail['input'])!r} is not valid here{nearest(str(detail['input']), known)}"
        )
    elif kind.startswith("QW"):
        source.problem(where, kind, detail["msg"])
    else:
        message = _MESSAGES.get(kind, detail["msg"].removeprefix("Value error, "))
        source.problem(where, "QW106", f"{name}: {message}" if name else message)
