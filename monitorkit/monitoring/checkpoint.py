"""Summaries as bytes, without pickle; and a file of them, with a version and a checksum.

The bytes: a line of JSON that describes every value, then the arrays' bytes end to end. In a file
one line of JSON stands before them: `schema_version`, `sha256` and `bytes` of the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from monitorkit import durable, logs

SCHEMA_VERSION = 1

S = TypeVar("S")

_ARRAY_KINDS = "biuf"

log = logs.get(__name__)


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


def save(path: Path, document: Mapping[str, Any]) -> None:
    """Write what `encode` takes to a file, atomically.

    A crash leaves the old file or the new one. It is a cache, so it is not synced to the disk.

    Raises:
        TypeError, ValueError: as `encode`.
        OSError: when the file cannot be written.
    """
    body = encode(document)
    head = {
        "schema_version": SCHEMA_VERSION,
        "sha256": hashlib.sha256(body).hexdigest(),
        "bytes": len(body),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.clear_leftovers(path.parent)
    durable.replace_file(path, json.dumps(head).encode() + b"\n" + body, sync=False)


def load(path: Path) -> dict[str, Any] | None:
    """Read what `save` wrote; None when there is no file, or one that cannot be trusted.

    What is lost with it is time: the log is read again.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    head_line, _, body = content.partition(b"\n")
    try:
        head = json.loads(head_line)
        version, digest = head["schema_version"], head["sha256"]
    except (ValueError, TypeError, KeyError):
        log.warning("checkpoint_ignored", file=str(path), reason="it does not begin as it should")
        return None
    if version != SCHEMA_VERSION:
        log.info("checkpoint_ignored", file=str(path), reason=f"schema_version {version!r}")
        return None
    if hashlib.sha256(body).hexdigest() != digest:
        log.warning("checkpoint_ignored", file=str(path), reason="the checksum does not match")
        return None
    return decode(body)


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
    count = int(np.prod(shape))
    array = np.frombuffer(blob, dtype=np.dtype(dtype), count=count, offset=start).reshape(shape)
    return array.copy()
