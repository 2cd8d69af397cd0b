"""Open Inference V2 (MLServer, Triton, KServe): named tensors, `data` flat or nested, `shape` decides.

Axis 0 counts the instances, in all tensors alike. Tensors come in the order of their names: the caller chooses the
order in which they are sent. `unpacked` reads tensors whose data follow the JSON as bytes.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import orjson

from detector.events import Flag
from detector.formats.codecs import BodyError

_DTYPES = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def request(body: Any) -> list[Any] | None:
    """Return one row for each instance: the tensors side by side."""
    tensors = _tensors(body, "inputs")
    if tensors is None:
        return None
    columns = [_entries(tensor) for tensor in sorted(tensors, key=lambda tensor: str(tensor.get("name")))]
    if len({len(column) for column in columns}) > 1:
        raise BodyError
    return [[x for part in parts for x in part] for parts in zip(*columns, strict=True)]


def response(body: Any) -> list[list[Any]] | None:
    """Return one column for each tensor; what no shape holds together is left out."""
    tensors = _tensors(body, "outputs")
    if tensors is None:
        return None
    columns = []
    for tensor in tensors:
        try:
            columns.append([part[0] if len(part) == 1 else part for part in _entries(tensor)])
        except BodyError:
            continue
    if not columns:
        raise BodyError
    return columns


def _tensors(body: Any, field: str) -> list[dict[str, Any]] | None:
    tensors = body.get(field) if isinstance(body, dict) else None
    if not isinstance(tensors, list) or not tensors:
        return None
    good = all(isinstance(tensor, dict) and "name" in tensor and "shape" in tensor for tensor in tensors)
    return tensors if good else None


def _entries(tensor: dict[str, Any]) -> list[list[Any]]:
    return reshaped(tensor.get("data"), tensor["shape"])


def reshaped(data: Any, shape: Any) -> list[list[Any]]:
    """Return one flat list for each index of axis 0; BodyError where data and shape do not fit."""
    values = _flat(data)
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 32 for size in shape):
        raise BodyError
    if not values or not shape or len(shape) > 16 or prod(shape) != len(values):
        raise BodyError
    width = len(values) // shape[0]
    return [values[start : start + width] for start in range(0, len(values), width)]


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise BodyError
    if list not in set(map(type, data)):
        return data
    return [x for part in data for x in (_flat(part) if isinstance(part, list) else [part])]


def unpacked(raw: bytes, size: int, max_numbers: int) -> bytes:
    """Return plain JSON for a body whose first `size` bytes are JSON and whose tensors' data follow as bytes.

    BodyError where the sizes that it declares do not fit.
    """
    try:
        body = orjson.loads(raw[:size])
    except orjson.JSONDecodeError:
        raise BodyError from None
    tensors = body.get("inputs", body.get("outputs")) if isinstance(body, dict) else None
    if not isinstance(tensors, list):
        raise BodyError
    at = size
    for tensor in tensors:
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        length = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if length is None:
            continue
        dtype = _DTYPES.get(str(tensor.get("datatype")))
        if type(length) is not int or not 0 <= length <= len(raw) - at or dtype is None:
            raise BodyError
        count, rest = divmod(length, np.dtype(dtype).itemsize)
        if rest or count > max_numbers:
            raise BodyError(Flag.TOO_LARGE if count > max_numbers else Flag.SHAPE_MISMATCH)
        tensor["data"] = np.frombuffer(raw, dtype, count, at).astype(np.float64).tolist()
        at += length
    return orjson.dumps(body)
