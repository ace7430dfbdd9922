"""Summaries as bytes, without pickle.

A line of JSON that describes every value, then the arrays' bytes end to end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

S = TypeVar("S")

_ARRAY_KINDS = "biuf"


def encode(document: Mapping[str, Any]) -> bytes:
    """A tree of dicts, lists, JSON values and numpy arrays of numbers as bytes.

    Raises:
        TypeError, ValueError: for anything else in the tree.
    """
    blobs: list[bytes] = []
    described = json.dumps(_describe(document, blobs, [0]), allow_nan=False, separators=(",", ":"))
    return b"".join([described.encode(), b"\n", *blobs])


def decode(body: bytes) -> dict[str, Any]:
    """What `encode` was given."""
    described, _, blob = body.partition(b"\n")
    document: dict[str, Any] = _restore(json.loads(described), blob)
    return document


def dump_summary(summary: Any) -> bytes:
    """The fields of a summary as bytes.

    Raises:
        TypeError, ValueError: as `encode`.
    """
    return encode({field.name: getattr(summary, field.name) for field in fields(summary)})


def load_summary(kind: type[S], dumped: bytes) -> S:
    """A summary from what `dump_summary` gave.

    Raises:
        TypeError: when the fields are not those of the class.
    """
    return kind(**decode(dumped))


def _describe(value: Any, blobs: list[bytes], offset: list[int]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _ARRAY_KINDS:
            raise TypeError(f"arrays of {value.dtype} cannot be kept; use numbers")
        data = np.ascontiguousarray(value).tobytes()
        blobs.append(data)
        described = {"a": [value.dtype.str, list(value.shape), offset[0]]}
        offset[0] += len(data)
        return described
    if isinstance(value, Mapping):
        return {"d": {str(key): _describe(item, blobs, offset) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return {"l": [_describe(item, blobs, offset) for item in value]}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return {"f": value.hex()}  # to the last bit, infinities and NaN too
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept; use arrays, numbers and strings")


def _restore(described: Any, blob: bytes) -> Any:
    if not isinstance(described, dict):
        return described
    ((kind, value),) = described.items()
    if kind == "d":
        return {key: _restore(item, blob) for key, item in value.items()}
    if kind == "l":
        return [_restore(item, blob) for item in value]
    if kind == "f":
        return float.fromhex(value)
    dtype, shape, start = value
    array = np.frombuffer(blob, np.dtype(dtype), math.prod(shape), start).reshape(shape)
    return array.copy()
