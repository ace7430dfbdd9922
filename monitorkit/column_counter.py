"""Counts the values of one column by cell, in the order of its known values.

The sorted values u_1..u_m define 2m+1 cells: below u_1, at u_1, between u_1 and u_2, ..., at u_m,
above u_m. The even ones are gaps, and their values' distances from an edge are summed up as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.value_lookup import LARGEST, ValueLookup

# Distances inside a cell are kept in whole units of 2**-32 of the cell's scale: integers add up to
# the same sum in any order, floats do not.
UNIT_BITS = 32
UNITS = 1 << UNIT_BITS
LOW_BITS = UNITS - 1

# Whole numbers in so short a range are counted without sorting them: eight times as fast.
_SHORT_RANGE = 1 << 12
_INT32_END = 1 << 31

FARTHEST = float(1 << 30)
"""A value counts as at most so many scales away from the range (infinities too)."""

Part = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Occupied cells, sorted and each once; rows in each of them; sums of their distances in units."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """Rows in some runs, of which each is counted by itself.

    Attributes:
        of: (rows,) which chunk, ascending.
        number: of chunks.
    """

    of: NDArray[np.int64]
    number: int

    @cached_property
    def bounds(self) -> list[int]:
        """(chunks + 1,) the first row of each, and the end."""
        return [0, *np.cumsum(self.sums(self.of)).tolist()]

    def sums(self, of: NDArray[np.int64], values: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """(chunks,) rows, or the sums of values, which are whole and exact up to 2**53."""
        return np.bincount(of, values, self.number).astype(np.int64)


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

    @property
    def cells(self) -> int:
        """How many there are, 2m+1."""
        return 2 * self._known.size + 1

    def count(
        self, values: NDArray[np.float64], chunks: Chunks
    ) -> tuple[Part, NDArray[np.int64], NDArray[np.int64]]:
        """Count the values of each chunk, at most in O(n log n); fewer than 2**21 together.

        Returns:
            The rows by cell, those of each chunk's `cells` laid end to end; (chunks,) how many
            values are missing; and (chunks, 2) sums of whole scales below and above the range,
            which the distances leave out.
        """
        part, missing = None, np.zeros(chunks.number, np.int64)
        scales = np.zeros((chunks.number, 2), np.int64)
        if self._whole_numbers is not None:
            part, others = self._whole_numbers.count(values, chunks, self.cells)
            if others is not None:
                values, chunks = values[others], Chunks(chunks.of[others], chunks.number)
        if part is None or others is not None:
            absent = np.isnan(values)
            if absent.any():
                missing = chunks.sums(chunks.of[absent])
                values, chunks = values[~absent], Chunks(chunks.of[~absent], chunks.number)
            if part is None or values.size:
                counted = self._count_present(values, chunks, scales)
                part = counted if part is None else added((part, counted))
        return part, missing, scales

    def _count_present(
        self, present: NDArray[np.float64], chunks: Chunks, scales: NDArray[np.int64]
    ) -> Part:
        """Values by cell; sets their whole scales outside the range."""
        number = chunks.number * self.cells
        lookup = self._lookup if _few(number, present.size) else None
        if lookup is not None:
            key, units = self._keyed(present, lookup.below(present), chunks, scales)
            rows = np.bincount(key, minlength=number)
            occupied = np.flatnonzero(rows)
            sums = np.bincount(key, units, number)[occupied]  # whole, and exact up to 2**53
            return occupied, rows[occupied], sums.astype(np.int64)
        # Sorted keys make the look-up four times faster, and equal cells neighbours.
        ordered = present.copy()
        for begin, end in pairwise(chunks.bounds):
            ordered[begin:end].sort()
        key, units = self._keyed(ordered, self._known.searchsorted(ordered), chunks, scales)
        starts = _run_starts(key)
        return key[starts], np.diff(starts, append=key.size), _sums(units, starts)

    def _keyed(
        self,
        present: NDArray[np.float64],
        below: NDArray[np.integer[Any]],
        chunks: Chunks,
        scales: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The cell of each value among those of all chunks, and its distance from the edge."""
        cell, units = self._place(present, below)
        for side, outer in enumerate((0, self.cells - 1)):
            # Distances outside the range may be huge: whole scales are summed apart.
            beyond = np.flatnonzero(cell == outer)
            if beyond.size:
                scales[:, side] = chunks.sums(chunks.of[beyond], units[beyond] >> UNIT_BITS)
                units[beyond] &= LOW_BITS
        return chunks.of * self.cells + cell, units

    @cached_property
    def _lookup(self) -> ValueLookup | None:
        """Made when there are many rows for the first time; None: these values have none."""
        try:
            return ValueLookup(self._known) if 1 < self._known.size <= LARGEST else None
        except ValueError:
            return None

    def _whole_numbers_between(self) -> _WholeNumbers | None:
        """Those between a column's known values, when these are such numbers and near enough."""
        known = self._known
        if not known.size or np.abs(known).max() >= _INT32_END or np.any(known % 1):
            return None
        if known[-1] - known[0] >= _SHORT_RANGE:
            return None
        lowest = int(known[0])
        numbers = np.arange(lowest, lowest + int(known[-1] - known[0]) + 1)
        values = numbers.astype(np.float64)
        return _WholeNumbers(lowest, *self._place(values, known.searchsorted(values)))

    def _place(
        self, present: NDArray[np.float64], below: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The cell of each value, and its distance from the cell's edge in units.

        Args:
            present: (n,) none of them NaN.
            below: (n,) how many known values are lower.
        """
        gaps, known = self._gaps, self._known
        at_known = gaps.right.take(below) == present
        cell = 2 * below + at_known
        units = np.zeros(present.size, np.int64)
        if not known.size:
            return cell, units
        inside = np.flatnonzero(~at_known)
        if inside.size:
            edge = below[inside]
            # Edges so far apart that their difference overflows give a coarse distance, no error.
            with np.errstate(over="ignore", invalid="ignore"):
                away = (present[inside] - gaps.left.take(edge)) / gaps.width.take(edge)
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

    def count(
        self, values: NDArray[np.float64], chunks: Chunks, cells: int
    ) -> tuple[Part, NDArray[np.bool_] | None]:
        """Count those of the values that are such numbers.

        Returns:
            What `ColumnCounter.count` does, of so many cells, and which of the values are others;
            None: none is.
        """
        highest = self.lowest + self.cells.size - 1
        inside = (values >= self.lowest) & (values <= highest)
        if inside.all():
            numbers = values.astype(np.int32)
        else:  # what is no such number is none of these, whatever stands in its place
            numbers = np.where(inside, values, self.lowest).astype(np.int32)
        whole, of = numbers == values, chunks.of
        others = None if whole.all() else ~whole
        if others is not None:
            numbers, of = numbers[whole], of[whole]
        place = of * self.cells.size + (numbers - self.lowest)
        place, rows = _counted(place, chunks.number * self.cells.size)
        chunk, number = np.divmod(place, self.cells.size)
        part = _together(chunk * cells + self.cells[number], rows, self.units[number] * rows)
        return part, others


def _scale(known: NDArray[np.float64]) -> float:
    """The unit of distance outside the range: its length, but not so small that all is too far."""
    length = float(known[-1] / 2 - known[0] / 2) * 2 if known.size else 0.0
    return min(max(length, 1.0), float(np.finfo(np.float64).max))


def _counted(places: NDArray[np.int64], number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of so many places that occur, sorted, and how often."""
    if _few(number, places.size):
        rows = np.bincount(places, minlength=number)
        occupied = np.flatnonzero(rows)
        return occupied, rows[occupied]
    ordered = np.sort(places)
    starts = _run_starts(ordered)
    return ordered[starts], np.diff(starts, append=ordered.size)


def _few(places: int, values: int) -> bool:
    """Whether there are so few places for so many values that looking at each is no effort."""
    return places <= _SHORT_RANGE + 4 * values


def _run_starts(ordered: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Where runs of equal numbers begin."""
    starts = np.ones(ordered.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    return np.flatnonzero(starts)


def added(parts: Sequence[tuple[NDArray[Any], ...]]) -> Part:
    """Parts in one: sums of integers, so exact in any order."""
    cells, counts, sums = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(cells, kind="stable")
    return _together(cells[order], counts[order], sums[order])


def _together(cells: NDArray[Any], counts: NDArray[np.int64], sums: NDArray[np.int64]) -> Part:
    """Sorted cells, each once."""
    starts = _run_starts(cells)
    return cells[starts], _sums(counts, starts), _sums(sums, starts)


def _sums(values: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.add.reduceat(values, starts) if starts.size else np.zeros(0, np.int64)
