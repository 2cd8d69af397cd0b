"""A bare list: one entry for each instance; a list of numbers alone is one instance."""

from __future__ import annotations

from typing import Any


def request(body: Any) -> list[Any] | None:
    """Return the entries."""
    if not isinstance(body, list):
        return None
    return [body] if body and not {list, dict} & set(map(type, body)) else body


def response(body: Any) -> list[list[Any]] | None:
    """Return the answers as one column."""
    return [body] if isinstance(body, list) else None
