"""MLflow scoring: `dataframe_split`, `dataframe_records`, or `inputs` as a list or as named columns.

Records carry names and `dataframe_split` names its columns: values come in the order of the names, whatever the caller
sent. Its `predictions` are V1's.
"""

from __future__ import annotations

from typing import Any

from detector.formats.codecs import BodyError


def request(body: Any) -> list[Any] | None:
    """Return one entry for each row."""
    if not isinstance(body, dict):
        return None
    if "dataframe_split" in body:
        return _split(body["dataframe_split"])
    if "dataframe_records" in body:
        return _listed(body["dataframe_records"])
    inputs = body.get("inputs")
    if isinstance(inputs, dict):
        return _columns(inputs)
    if isinstance(inputs, list) and not _is_tensors(inputs):
        return inputs
    return None


def response(body: Any) -> list[list[Any]] | None:
    """None: V1 reads `predictions`."""
    del body
    return None


def _is_tensors(inputs: list[Any]) -> bool:
    return bool(inputs) and all(isinstance(x, dict) and "name" in x and "shape" in x for x in inputs)


def _split(frame: Any) -> list[Any]:
    if not isinstance(frame, dict):
        raise BodyError
    rows, names = _listed(frame.get("data")), frame.get("columns")
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        return rows
    order = sorted(range(len(names)), key=lambda k: str(names[k]))
    return [[row[k] for k in order] if isinstance(row, list) and len(row) == len(names) else row for row in rows]


def _columns(inputs: dict[str, Any]) -> list[Any]:
    columns = [_listed(inputs[name]) for name in sorted(inputs)]
    if not columns or len({len(column) for column in columns}) > 1:
        raise BodyError
    return [list(parts) for parts in zip(*columns, strict=True)]


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BodyError
    return value
