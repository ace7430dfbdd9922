"""Where values belong among sorted ones: by a table, without sorting them, nor a binary search."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 13
"""More known values make tables that leave the processor's cache: sorting is as fast then."""

_ENTRIES = 4  # of the table for each known value
_SCALES = range(0, 36, 4)  # powers of two between the range and where the logarithm begins
_STEPS = 4  # then a binary search is faster for the few values that are left


class ValueLookup:
    """Finds what `known.searchsorted(values)` finds, in a sixth of the time for unsorted values.

    The leading bits of a float are a logarithm, drawn with straight lines. Those of the distance
    from the lowest known value, plus an offset, number the entries of a table: even up to the
    offset, by ratio beyond it, so that a long tail takes few of them. An entry says how many known
    values are surely lower; a step up for each of those that share the entry does the rest.

    Args:
        known: (m,) distinct finite values, sorted, at least two of them; those in a range so long
            that its length is no finite number have no lookup.

    Raises:
        ValueError: there is no table for them.
    """

    def __init__(self, known: NDArray[np.float64]) -> None:
        self._known = known
        self._right = np.append(known, np.inf)
        shared = math.inf
        for scale in _SCALES:
            with np.errstate(over="ignore", invalid="ignore"):
                offset = float((known[-1] - known[0]) / 2.0**scale - known[0])
                lowest, highest = _bits(known[[0, -1]] + offset).tolist()
            if not 0 <= lowest < highest < _INFINITE:
                continue
            shift = max((highest - lowest).bit_length() - (_ENTRIES * known.size).bit_length(), 1)
            entries = self._entries(known, offset, lowest >> shift, highest >> shift, shift)
            rows = np.bincount(entries)
            together = int(rows @ rows)
            if together < shared:
                shared = together
                self._offset, self._shift = offset, shift
                self._lowest, self._highest = lowest >> shift, highest >> shift
                lower = np.cumsum(rows) - rows
        if shared == math.inf:
            raise ValueError("the range of the known values has no finite length")
        self._lower = lower.astype(np.int32)

    def below(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """(n,) how many known values are lower than each of some values, NaN not among them."""
        with np.errstate(over="ignore"):  # infinite is beyond all of them, as it should be
            entries = self._entries(values, self._offset, self._lowest, self._highest, self._shift)
        below = self._lower.take(entries)
        higher = self._right.take(below) < values
        below += higher
        rest = np.flatnonzero(higher)
        for _ in range(_STEPS):
            rest = rest[self._right.take(below[rest]) < values[rest]]
            if not rest.size:
                return below
            below[rest] += 1
        below[rest] = self._known.searchsorted(values[rest])
        return below

    @staticmethod
    def _entries(
        values: NDArray[np.float64], offset: float, lowest: int, highest: int, shift: int
    ) -> NDArray[np.int64]:
        """The entry of each value; of two values, the higher one never has the lower entry.

        Both the sum's rounding and the bits of what is positive keep the order; what is negative
        has the first entry.
        """
        entries = _bits(values + offset)
        entries >>= shift
        np.clip(entries, lowest, highest, out=entries)
        entries -= lowest
        return entries


def _bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return values.view(np.int64)


_INFINITE = int(_bits(np.array([np.inf]))[0])
