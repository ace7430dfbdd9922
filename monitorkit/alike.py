"""Whether two summaries or two findings are alike, for the laws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


def fields_of(summary: Any) -> dict[str, Any]:
    """The fields of a dataclass, by name."""
    # Not asdict: it copies, and descends into what it takes for containers.
    return {field.name: getattr(summary, field.name) for field in fields(summary)}


def same_arrays(left: NDArray[Any], right: NDArray[Any], tolerance: float) -> bool:
    """Whether arrays differ by no more than the tolerance, relative and absolute; NaN is NaN."""
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f":
        return np.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    # NaT is unequal to itself, but not when read as the integer that it is.
    if left.dtype.kind == "M":
        left, right = left.view(np.int64), right.view(np.int64)
    return bool(np.array_equal(left, right))


def difference(left: Any, right: Any, tolerance: float) -> str | None:
    """Which field of two summaries differs, None when none does."""
    for name, value in fields_of(left).items():
        other = getattr(right, name)
        same = (
            same_arrays(value, np.asarray(other), tolerance)
            if isinstance(value, np.ndarray)
            else same_values(value, other, tolerance)
        )
        if not same:
            return f"field {name!r} is {value!r} one way and {other!r} the other way"
    return None


def same_values(left: object, right: object, tolerance: float) -> bool:
    """Whether values as JSON has them differ by no more than the tolerance."""
    if isinstance(left, Mapping):
        if not isinstance(right, Mapping) or left.keys() != right.keys():
            return False
        return all(same_values(left[key], right[key], tolerance) for key in left)
    if isinstance(left, list | tuple):
        if not isinstance(right, list | tuple) or len(left) != len(right):
            return False
        return all(same_values(a, b, tolerance) for a, b in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float):
        both_missing = math.isnan(left) and math.isnan(right)  # as in arrays
        return both_missing or math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)
    return bool(cast("Any", left) == right)
