"""How many rows of real traffic are repetitions, and so what the others are worth.

A client that asks ten times gives ten rows and little more than one piece of news; treated as ten,
a single busy client looks like a drift. A repeated row shows where values hardly ever are the same.

References:
    L. Kish, "Survey Sampling", Wiley (1965): the design effect. R. Pyke, "Spacings", Journal of the
    Royal Statistical Society B 27 (1965), 395-449.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Cells, Counts, ReferenceCells
from monitorkit.sequential.crowding import (
    Crowding,
    Held,
    Repeated,
    Unique,
    crowding,
    rows_beyond,
)
from monitorkit.sequential.table import Table

MOSTLY_UNIQUE = 0.5
"""A column shows repeated rows when so large a share of the reference's values occur once."""

CROWDED = 0.05
"""With so many pairs for each row beyond those of the reference's rows, one looks where they come
from."""

WITH_VALUE = 0.9
"""A column shows repeats where it has so large a share, or more, of the values that the reference's
shares let one expect beside the other columns."""

MOSTLY_FILLED = 0.5
"""A column that has less values in the reference shows repeats only when there is no other one."""

BY_ITSELF = 1.2
"""A start counts by itself when its rows repeat each other so many times as much as those of the
whole window."""

FEW = 2
"""So many rows in a cell are no burst."""

COMPARED = 96
"""So many times at most, or a little more."""

COMPARED_OF_A_START = 6
"""There are dozens of starts, of which most are short."""


class Repeats:
    """How often rows have the same value in columns where values hardly ever are the same.

    Rows that come m times give m(m - 1) ordered pairs, (m - 1) for each of them: so the pairs for
    each row, beyond those by chance, are the design effect less one. This shows a client that
    repeats itself in the first minute already, if it does not go on. Buckets are put together as
    long as chance makes few pairs: the less traffic, the longer may bursts last. Of several columns
    the least counts: a row that is repeated is so in all of them, while a column that drifts may
    crowd by itself.

    Where all of them drift, all crowd: everything beyond the reference's range is in one cell. But
    then rows share their cells with those of another time as often as with their neighbours, and
    repeated ones do not. So what pieces apart in time have in common counts as chance, if it is the
    larger part of all pairs, in every column.

    Args:
        cells: of the reference.
        columns: those to choose from.

    Attributes:
        columns: those that show repeats.
    """

    def __init__(self, cells: ReferenceCells, columns: Sequence[int]) -> None:
        found = []
        for column in columns:
            counts = cells.column(column, cells.reference).reference[1::2]
            rows = int(counts.sum())
            if rows and np.count_nonzero(counts == 1) / rows >= MOSTLY_UNIQUE:
                # Spacings of N values have a mean square of 2/N^2 (R. Pyke, 1965).
                chance = float(((counts[counts > 1] / rows) ** 2).sum()) + 2 / rows
                first, end = cells.starts[column : column + 2].tolist()
                shares = np.full(end - first, 1 / rows)
                shares[1::2] = counts / rows
                filled = rows / cells.reference.rows
                found.append(Unique(column, first, end, chance, filled, shares))
        self.columns: tuple[Unique, ...] = tuple(found)
        self._reference = cells
        self._edges = np.array([(each.first, each.end) for each in found], np.int64).ravel()
        self._column = np.full(cells.starts[-1], len(found), np.int64)
        self._shares = np.zeros(cells.starts[-1])
        for at, each in enumerate(found):
            self._column[each.first : each.end] = at
            self._shares[each.first : each.end] = each.shares

    def repeated(self, table: Table) -> list[Repeated]:
        """Of each of a table's buckets by itself."""
        ordered = table.count * (table.count - 1)
        before = table.before(self._edges, table.count, ordered)
        rows, pairs = (each[:, 1::2] - each[:, ::2] for each in before)
        largest, where = self._largest(table, rows)
        return [
            Repeated(*(each.copy() for each in of_bucket))
            for of_bucket in zip(rows, pairs, largest, where, strict=True)
        ]

    def _largest(
        self, table: Table, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(buckets, columns) as in `Repeated`, both."""
        found, where = np.zeros(rows.shape), np.zeros(rows.shape, np.int64)
        many = np.flatnonzero(table.count > FEW)
        column = self._column.take(table.cell[many])
        shown = column < len(self.columns)
        many, column = many[shown], column[shown]
        if many.size:
            place = table.bucket(many) * len(self.columns) + column  # ascending, as cells are
            expected: NDArray[np.float64] = self._shares.take(table.cell[many])
            expected *= rows.ravel()[place]
            begins = np.flatnonzero(np.diff(place, prepend=-1))
            beyond = rows_beyond(table.count[many], expected)
            most = np.maximum.reduceat(beyond, begins)
            sizes = np.diff(begins, append=many.size)
            largest = np.flatnonzero(beyond == np.repeat(most, sizes))
            largest = largest[np.diff(place[largest], prepend=-1) > 0]  # the first of equal ones
            found.ravel()[place[begins]] = most
            where.ravel()[place[begins]] = table.cell[many[largest]]
            # Rows that are the same share a cell of each column, or all lack a value: where one
            # column has them apart, the others crowd by themselves.
            shared = np.full(rows.shape, FEW, np.int64)
            shared.ravel()[place[begins]] = np.maximum.reduceat(table.count[many], begins)
            shared = np.maximum(shared, table.rows[:, np.newaxis] - rows)
            np.minimum(found, shared.min(axis=1, keepdims=True), out=found)
        return np.where(found > FEW, found, 0.0), where

    def cells(self, counts: Counts, at: int) -> Cells:
        """Of the column at a position in `columns`."""
        return self._reference.occupied(self.columns[at].column, counts)

    def of(self, window: Sequence[Held]) -> WindowRepeats:
        """Those of a window.

        Args:
            window: its buckets, in time order.
        """
        found = (crowding(window, at, unique) for at, unique in enumerate(self.columns))
        return WindowRepeats([each for each in found if each is not None])


@dataclass(frozen=True, slots=True, eq=False)
class WindowRepeats:
    """How often the rows of a window repeat each other.

    Attributes:
        columns: that have values.
    """

    columns: Sequence[Crowding]

    def design_effect(self) -> float | None:
        """Of the window, at least 1; None: it cannot be told."""
        columns = self._showing_all_along()
        beyond = [each.beyond_chance() for each in columns]
        if not beyond:
            return None
        if min(beyond) > CROWDED:
            common = [each.beyond_common(COMPARED) for each in columns]
            told = [each for each in common if each is not None]
            if not told:
                return None
            # A repeated row is alone in its cell at other times, in each of the columns.
            beyond.append(max(told))
        return 1.0 + max(min(beyond), 0.0)

    def of_starts(self, starts: NDArray[np.int64], least: float) -> NDArray[np.float64]:
        """(starts,) design effects of what comes from some buckets on, at least the window's.

        One burst in a day is hardly any of the window's rows, and most of the last minutes'.

        Args:
            starts: positions of buckets.
            least: of the whole window.
        """
        rows = np.array([each.rows_since(starts) for each in self.columns]).reshape(-1, starts.size)
        found = np.full(starts.size, least)
        for at, start in enumerate(starts.tolist()):
            columns = _showing(self.columns, rows[:, at])
            found[at] = _since(columns, start, least)
        return found

    def bursts(self, starts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(starts,) rows of the largest burst from a bucket on, and of all of them.

        As much of it as two columns show, where there are so many: one of them may crowd by itself,
        and others have no value in these rows, or one that many rows have.

        Args:
            starts: positions of buckets.
        """
        columns = self._showing_all_along()
        if not columns:
            return np.zeros(starts.size), np.zeros(starts.size)
        largest, together = zip(*(column.bursts_since(starts) for column in columns), strict=True)
        return np.sort(largest, axis=0)[-2:][0], np.sort(together, axis=0)[-2:][0]

    def _showing_all_along(self) -> Sequence[Crowding]:
        return _showing(self.columns, [each.rows for each in self.columns])


def _since(columns: Sequence[Crowding], start: int, least: float) -> float:
    """The design effect of what comes from a bucket on, at least the window's."""
    found, beyond = [], []
    for column in columns:
        rest = column.since(start)
        if rest is not None:
            beyond.append(rest.beyond_chance())
            if beyond[-1] <= BY_ITSELF * least - 1.0:
                return least
            found.append(rest)
    most = 0.0
    for rest, by_chance in zip(found, beyond, strict=True):
        common = rest.beyond_common_on_the_whole(COMPARED_OF_A_START)
        # Where it cannot be told yet, later rows will tell.
        most = max(most, by_chance if common is None else common)
        if most >= min(beyond):
            break
    return max(least, 1.0 + min(*beyond, most)) if found else least


def _showing(
    columns: Sequence[Crowding], rows: Sequence[float] | NDArray[np.int64]
) -> Sequence[Crowding]:
    """Those in which repeated rows would show: a row shows nothing where it has no value.

    As many rows may lack one as in the reference; where far more do, all that are repeated may.

    Args:
        columns: to choose from.
        rows: of each that have a value.
    """
    both = [(each, many / each.unique.filled) for each, many in zip(columns, rows, strict=True)]
    usual = [(each, of) for each, of in both if each.unique.filled >= MOSTLY_FILLED] or both
    most = max((of for _, of in usual), default=0.0)
    return [each for each, of in usual if of >= WITH_VALUE * most]
