"""Seldon protocol v1: `data.ndarray`, or `data.tensor` with `shape` and `values`; requests and answers alike."""

from __future__ import annotations

from typing import Any

from detector.formats.codecs import BodyError
from detector.formats.codecs.open_inference import reshaped


def request(body: Any) -> list[Any] | None:
    """Return one entry for each instance."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        return None
    if "ndarray" in data:
        if not isinstance(data["ndarray"], list):
            raise BodyError
        return data["ndarray"]
    tensor = data.get("tensor")
    if not isinstance(tensor, dict):
        return None
    return reshaped(tensor.get("values"), tensor.get("shape"))


def response(body: Any) -> list[list[Any]] | None:
    """Return the answers as one column."""
    found = request(body)
    return None if found is None else [found]
