"""Sums of floats without any rounding: whole numbers of the smallest unit that a float can have.

So a sum is the same to the last bit in any order and any grouping, which sums of floats are not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BYTES = 288
"""Of a sum: 2,150 bits of the largest float in the smallest unit, a sign, and 2**63 rows."""

_HALF = 27
_EXPONENT = 1073  # 2**-1073 is twice the smallest float, of which frexp makes 0.5 * 2**-1073
_UNIT_BITS = _EXPONENT + 53


def total(values: NDArray[np.float64]) -> int:
    """The sum in units of 2**-1126.

    Args:
        values: (n,) finite, n < 2**31.
    """
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    present, group = np.unique(exponents, return_inverse=True)
    # In two halves, so that a sum of many does not leave int64.
    high, low = np.zeros(present.size, np.int64), np.zeros(present.size, np.int64)
    np.add.at(high, group, whole >> _HALF)
    np.add.at(low, group, whole & ((1 << _HALF) - 1))
    return sum(
        ((int(upper) << _HALF) + int(lower)) << (int(exponent) + _EXPONENT)
        for exponent, upper, lower in zip(present, high, low, strict=True)
    )


def packed(sums: list[int]) -> NDArray[np.uint8]:
    """(len(sums), BYTES): sums as a summary may hold them."""
    content = b"".join(value.to_bytes(BYTES, "little", signed=True) for value in sums)
    return np.frombuffer(content, np.uint8).reshape(len(sums), BYTES)


def unpacked(sums: NDArray[np.uint8]) -> list[int]:
    """What `packed` packed."""
    return [int.from_bytes(row.tobytes(), "little", signed=True) for row in sums]


def added(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The packed sums of both, one by one."""
    pairs = zip(unpacked(left), unpacked(right), strict=True)
    return packed([one + other for one, other in pairs])


def mean(sum_: int, rows: int) -> float:
    """The exact sum divided by the rows, rounded once; rows > 0."""
    return sum_ / (rows << _UNIT_BITS)
