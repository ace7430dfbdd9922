"""Values as JSON has them: what NumPy, dataclasses and clocks give, and numbers that JSON lacks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np

from monitorkit.contracts import Finding
from monitorkit.units import timestamp


def plain(value: Any) -> Any:
    """A value of a result as None, bool, int, float, str, list or dict.

    NaN and infinities are None; times end in Z.

    Raises:
        TypeError: for a value that JSON does not have, or a time without a zone.
    """
    # A result has thousands of values, and every millisecond here is one of the service's
    # interpreter: what is frequent goes by its exact type.
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is str:
        return value if value.isascii() else _text(value)
    if kind is list or kind is tuple:
        return [plain(item) for item in value]
    if kind is dict:
        return {plain(str(key)): plain(item) for key, item in value.items()}
    return _of_others(value)


def _of_others(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        simpler = value.tolist()
    elif isinstance(value, str | datetime):
        return _text(value)
    elif isinstance(value, bool | int):
        return value
    elif isinstance(value, float):
        simpler = float(value)
    elif isinstance(value, Mapping):
        simpler = dict(value)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        simpler = list(value)
    elif is_dataclass(value):
        if isinstance(value, Finding) and not all(map(math.isfinite, value.interval or ())):
            value = replace(value, interval=None)
        kind: type = type(value)
        simpler = {name: getattr(value, name) for name in _names(kind)}
    else:
        simpler = value
    if type(simpler) is type(value):  # numpy has numbers, too, that Python has not
        raise TypeError(f"a {type(value).__name__} cannot stand in a result")
    return plain(simpler)


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _text(value: str | datetime) -> str:
    if isinstance(value, str):
        # What is no text in UTF-8, such as a broken file name in an error, stays legible.
        return value.encode("utf-8", "backslashreplace").decode()
    if value.tzinfo is None:
        raise TypeError(f"{value!r} has no time zone")
    return timestamp(value)
