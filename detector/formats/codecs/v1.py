"""V1 (TensorFlow Serving, KServe): `instances` and `predictions`; MLflow answers in the same form."""

from __future__ import annotations

from typing import Any

from detector.formats.codecs import BodyError


def request(body: Any) -> list[Any] | None:
    """Return the instances: numbers, lists or objects."""
    return _listed(body, "instances")


def response(body: Any) -> list[list[Any]] | None:
    """Return the predictions as one column."""
    found = _listed(body, "predictions")
    return None if found is None else [found]


def _listed(body: Any, field: str) -> list[Any] | None:
    if not isinstance(body, dict) or field not in body:
        return None
    found = body[field]
    if not isinstance(found, list):
        raise BodyError
    return found
