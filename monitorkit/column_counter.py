"""Counts the values of one column by cell, in the order of its known values.

The sorted values u_1..u_m define 2m+1 cells: below u_1, at u_1, between u_1 and u_2, ..., at u_m,
above u_m. The even ones are gaps, and their values' distances from an edge are summed up as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Distances inside a cell are kept in whole units of 2**-32 of the cell's scale: integers add up to
# the same sum in any order, floats do not.
_UNIT_BITS = 32
UNITS = 1 << _UNIT_BITS
_LOW_BITS = UNITS - 1

# Whole numbers in so short a range are counted without sorting them: eight times as fast.
_SHORT_RANGE = 1 << 12
_INT32_END = 1 << 31

FARTHEST = float(1 << 30)
"""A value counts as at most so many scales away from the range (infinities too)."""

Part = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Occupied cells, sorted and each once; rows in each of them; sums of their distances in units."""


class ColumnCounter:
    """The cells of one column.

    Args:
        known: (m,) distinct finite values, sorted.
    """

    def __init__(self, known: NDArray[np.float64]) -> None:
        self._known = known
        self.scale = _scale(known)
        self._gaps = _Gaps.between(known, self.scale)
        self._whole_numbers = self._whole_numbers_between()

    def count(self, values: NDArray[np.float64]) -> tuple[Part, int, NDArray[np.int64]]:
        """Count values, in O(n log n).

        Returns:
            The rows by cell, how many values are missing, and (2,) sums of whole scales below and
            above the range, which the distances leave out.
        """
        part, missing, scales = None, 0, np.zeros(2, np.int64)
        if self._whole_numbers is not None:
            part, values = self._whole_numbers.count(values)
        if part is None or values.size:
            # Sorted keys make the look-up seven times faster, and equal cells neighbours. NaN
            # is sorted to the end.
            ordered = np.sort(values)
            present = ordered[: ordered.size - int(np.count_nonzero(np.isnan(values)))]
            missing = values.size - present.size
            counted = self._count_sorted(present, scales)
            part = counted if part is None else added(part, counted)
        return part, missing, scales

    def _count_sorted(self, present: NDArray[np.float64], scales: NDArray[np.int64]) -> Part:
        """Sorted values by cell; sets their whole scales outside the range."""
        cell, units = self._place(present)
        starts = _run_starts(cell)
        sums = _sums(units, starts)
        if present.size:
            for side, outer in enumerate((0, 2 * self._known.size)):
                # Distances outside the range may be huge: whole scales are summed apart.
                inside = slice(*np.searchsorted(cell, (outer, outer + 1)))
                scales[side] = (units[inside] >> _UNIT_BITS).sum()
                sums[cell[starts] == outer] = (units[inside] & _LOW_BITS).sum()
        return cell[starts], np.diff(starts, append=cell.size), sums

    def _whole_numbers_between(self) -> _WholeNumbers | None:
        """Those between a column's known values, when these are such numbers and near enough."""
        known = self._known
        if not known.size or np.abs(known).max() >= _INT32_END or np.any(known % 1):
            return None
        if known[-1] - known[0] >= _SHORT_RANGE:
            return None
        lowest = int(known[0])
        numbers = np.arange(lowest, lowest + int(known[-1] - known[0]) + 1)
        return _WholeNumbers(lowest, *self._place(numbers.astype(np.float64)))

    def _place(self, present: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The cell of each sorted value, and its distance from the cell's edge in units."""
        gaps, known = self._gaps, self._known
        below = known.searchsorted(present)
        at_known = gaps.right[below] == present
        cell = 2 * below + at_known
        units = np.zeros(present.size, np.int64)
        if not known.size:
            return cell, units
        inside = np.flatnonzero(~at_known)
        if inside.size:
            edge = below[inside]
            # Edges so far apart that their difference overflows give a coarse distance, no error.
            with np.errstate(over="ignore", invalid="ignore"):
                away = (present[inside] - gaps.left[edge]) / gaps.width[edge]
            if not 0.0 <= away.min() <= away.max() <= FARTHEST:
                away = np.clip(np.nan_to_num(away, nan=0.0, posinf=FARTHEST), 0.0, FARTHEST)
            units[inside] = np.rint(away * UNITS)
        return cell, units


@dataclass(frozen=True, slots=True, eq=False)
class _Gaps:
    """The m+1 gaps around m known values, the outer ones open.

    Attributes:
        left: (m+1,) the value from which distances are measured: the left end, or for the gap below
            the range its right one.
        right: (m+1,) the right end; NaN for the last.
        width: (m+1,) what a distance is divided by: the outer ones by the range's scale.
    """

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    width: NDArray[np.float64]

    @classmethod
    def between(cls, known: NDArray[np.float64], scale: float) -> _Gaps:
        with np.errstate(over="ignore"):
            width = np.concatenate(([-scale], np.diff(known), [scale]))
        left = np.concatenate((known[:1], known)) if known.size else np.zeros(1)
        return cls(left, np.append(known, np.nan), width)


@dataclass(frozen=True, slots=True, eq=False)
class _WholeNumbers:
    """The whole numbers from a column's lowest known value to its highest one.

    Attributes:
        lowest: the first of them.
        cells: (n,) the cell of each.
        units: (n,) its distance from the cell's edge.
    """

    lowest: int
    cells: NDArray[np.int64]
    units: NDArray[np.int64]

    def count(self, values: NDArray[np.float64]) -> tuple[Part, NDArray[np.float64]]:
        """Count those of the values that are such numbers, and give back the others."""
        highest = self.lowest + self.cells.size - 1
        inside = (values >= self.lowest) & (values <= highest)
        others = []
        if not inside.all():
            others.append(values[~inside])
            values = values[inside]
        numbers = values.astype(np.int32)
        whole = numbers == values
        if not whole.all():
            others.append(values[~whole])
            numbers = numbers[whole]
        rows = np.bincount(numbers - self.lowest, minlength=self.cells.size)
        occupied = np.flatnonzero(rows)
        rows = rows[occupied]
        part = _together(self.cells[occupied], rows, self.units[occupied] * rows)
        return part, np.concatenate(others) if others else values[:0]


def _scale(known: NDArray[np.float64]) -> float:
    """The unit of distance outside the range: its length, but not so small that all is too far."""
    length = float(known[-1] / 2 - known[0] / 2) * 2 if known.size else 0.0
    return min(max(length, 1.0), float(np.finfo(np.float64).max))


def _run_starts(ordered: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Where runs of equal numbers begin."""
    starts = np.ones(ordered.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    return np.flatnonzero(starts)


def added(left: tuple[NDArray[Any], ...], right: tuple[NDArray[Any], ...]) -> Part:
    """Two parts in one: sums of integers, so exact, associative and commutative."""
    cells, counts, sums = (np.concatenate(pair) for pair in zip(left, right, strict=True))
    order = np.argsort(cells, kind="stable")
    return _together(cells[order], counts[order], sums[order])


def _together(cells: NDArray[Any], counts: NDArray[np.int64], sums: NDArray[np.int64]) -> Part:
    """Sorted cells, each once."""
    starts = _run_starts(cells)
    return cells[starts], _sums(counts, starts), _sums(sums, starts)


def _sums(values: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.add.reduceat(values, starts) if starts.size else np.zeros(0, np.int64)
