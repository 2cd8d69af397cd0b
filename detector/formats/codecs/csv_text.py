"""CSV: one row an instance, an empty cell is a missing value; a first row without any number is a header."""

from __future__ import annotations

import csv
from typing import Any

from detector.formats.codecs import BodyError, flat


def request(body: Any) -> list[Any] | None:
    """Return the rows, as texts."""
    if not isinstance(body, str):
        return None
    try:
        rows = [row for row in csv.reader(body.splitlines()) if row]
    except csv.Error:
        raise BodyError from None
    if len(rows) > 1 and all(flat(cell) is None for cell in rows[0]):
        del rows[0]
    return rows


def response(body: Any) -> list[list[Any]] | None:
    """Return the rows as one column, numbers read."""
    rows = request(body)
    return None if rows is None else [[[_cell(cell) for cell in row] for row in rows]]


def _cell(cell: str) -> Any:
    if cell.strip().isdecimal() and len(cell) < 10:
        return int(cell)
    number = flat(cell)
    return cell if number is None else number[0]
