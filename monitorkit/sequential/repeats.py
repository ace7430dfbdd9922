"""How many rows of real traffic are repetitions, and so what the others are worth.

A client that asks ten times gives ten rows and little more than one piece of news; treated as ten,
a single busy client looks like a drift. A repeated row shows where values hardly ever are the same.

References:
    L. Kish, "Survey Sampling", Wiley (1965): the design effect. R. Pyke, "Spacings", Journal of the
    Royal Statistical Society B 27 (1965), 395-449.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Cells, Counts, ReferenceCells
from monitorkit.sequential.table import Table

MOSTLY_UNIQUE = 0.5
"""A column shows repeated rows when so large a share of the reference's values occur once."""

CHANCE_PAIRS = 0.25
"""Rows are compared with so many that each has less pairs than this by chance."""

CROWDED = 0.05
"""With so many pairs for each row beyond those of the reference's rows, one looks where they come
from."""

WITH_VALUE = 0.9
"""A column shows repeats where it has so large a share, or more, of the values that the reference's
shares let one expect beside the other columns."""

MOSTLY_FILLED = 0.5
"""A column that has less values in the reference shows repeats only when there is no other one."""

FEW_CELLS = 16
"""Cells that hold more than one row in so many are those of a column that crowds, more likely than
those of a client that repeats itself."""

CHANCE_DEVIATIONS = 3.0
"""So many standard deviations more rows in a cell than the reference has there may be chance."""

BY_ITSELF = 1.2
"""A start counts by itself when its rows repeat each other so many times as much as those of the
whole window."""

APART = 2
NEARER = 16
"""A piece is compared with the next but one, or with one a sixteenth of the window away when that
is farther: what lasts longer is no burst."""

COMPARED = 96
"""So many times at most, or a little more."""

COMPARED_OF_A_START = 6
"""There are dozens of starts, of which most are short."""

EXPLAINED = 0.75
"""What times have in common explains a start's crowd when it makes so large a part of its pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class Unique:
    """A column whose values hardly ever are the same.

    Attributes:
        column: which.
        first, end: its cells.
        chance: that two independent rows are in one cell.
        filled: share of the reference's rows that have a value.
        shares: (cells,) of these; of a gap, that of one row.
    """

    column: int
    first: int
    end: int
    chance: float
    filled: float
    shares: NDArray[np.float64]

    def largest(self, cells: Cells) -> float:
        """The most rows in a cell of some rows, beyond those that chance may put there.

        Args:
            cells: of the rows, one at least.
        """
        where, counts = cells
        return float(_beyond(counts, self.shares.take(where) * counts.sum()).max())

    @property
    def together(self) -> int:
        """Rows among which each has less than `CHANCE_PAIRS` by chance."""
        return max(int(CHANCE_PAIRS / self.chance), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """How often a bucket's rows repeat each other, in each of `Repeats.columns`.

    Attributes:
        rows: (columns,) that have a value.
        pairs: (columns,) ordered ones of rows in one cell.
        largest: (columns,) as `Unique.largest`; 0.0 without rows.
    """

    rows: NDArray[np.int64]
    pairs: NDArray[np.int64]
    largest: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What a bucket holds.

    Attributes:
        repeated: by itself.
        cells: of the column at a position in `Repeats.columns`; looked up where several buckets are
            put together, for of a busy day they are millions.
    """

    repeated: Repeated
    cells: Callable[[int], Cells]


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
        self._column = np.full(cells.starts[-1], len(found), np.int64)
        self._shares = np.zeros(cells.starts[-1])
        for at, each in enumerate(found):
            self._column[each.first : each.end] = at
            self._shares[each.first : each.end] = each.shares

    def repeated(self, table: Table) -> list[Repeated]:
        """Of each of a table's buckets by itself."""
        ordered = table.count * (table.count - 1)
        rows, pairs = table.sums(self._column, len(self.columns), table.count, ordered)
        largest = self._largest(table, rows)
        return [
            Repeated(*(each.copy() for each in of_bucket))
            for of_bucket in zip(rows, pairs, largest, strict=True)
        ]

    def _largest(self, table: Table, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(buckets, columns) `Unique.largest` of each."""
        found = np.zeros(rows.shape)
        column = self._column.take(table.cell)
        shown = np.flatnonzero(column < len(self.columns))
        if shown.size:
            column = column[shown]
            place = table.bucket[shown] * len(self.columns) + column  # ascending, as cells are
            expected: NDArray[np.float64] = self._shares.take(table.cell[shown])
            expected *= rows.ravel()[place]
            begins = np.flatnonzero(np.diff(place, prepend=-1))
            beyond = _beyond(table.count[shown], expected)
            found.ravel()[place[begins]] = np.maximum.reduceat(beyond, begins)
        return found

    def cells(self, counts: Counts, at: int) -> Cells:
        """Of the column at a position in `columns`."""
        return self._reference.occupied(self.columns[at].column, counts)

    def of(self, window: Sequence[Held]) -> WindowRepeats:
        """Those of a window.

        Args:
            window: its buckets, in time order.
        """
        found = (_crowding(window, at, unique) for at, unique in enumerate(self.columns))
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
        columns = _showing(self.columns)
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

    def largest(self, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """(starts,) rows of the largest burst within a bucket from some on, but for two by chance.

        Args:
            starts: positions of buckets.
        """
        found = [column.largest_since(starts) for column in _showing(self.columns)]
        least: NDArray[np.float64] = np.min(found, axis=0) if found else np.zeros(starts.size)
        return np.maximum(least - 2.0, 0.0)


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
    for rest in found:
        # Where it cannot be told yet, later rows will tell.
        part = rest.explained(COMPARED_OF_A_START)
        most = max(most, rest.beyond_chance() if part is None else rest.unexplained(part))
        if most >= min(beyond):
            break
    return max(least, 1.0 + min(*beyond, most)) if found else least


@dataclass(frozen=True, slots=True, eq=False)
class Crowding:
    """How a column's rows share its cells, in pieces of a window in which chance makes few pairs.

    Attributes:
        at: its position in `Repeats.columns`.
        chance: that two rows of the reference are in one cell.
        buckets: (k,) positions in the window of those that have rows.
        begins: (pieces,) the first bucket of each, of these.
        pieces: their buckets.
        pairs: (pieces,) ordered ones of rows in one cell.
        many: (pieces,) rows.
        counts: (k,) rows of each bucket.
        largest: (k,) as `Unique.largest`, of each bucket.
        filled: as in `Unique`.
    """

    at: int
    chance: float
    buckets: NDArray[np.int64]
    begins: NDArray[np.int64]
    pieces: Sequence[Sequence[Held]]
    pairs: NDArray[np.int64]
    many: NDArray[np.float64]
    counts: NDArray[np.int64]
    largest: NDArray[np.float64]
    filled: float

    @property
    def rows(self) -> float:
        """Of all pieces."""
        return float(self.many.sum())

    def since(self, start: int) -> Crowding | None:
        """The same of what comes from a bucket on, of the same pieces; None: no rows."""
        bucket = int(np.searchsorted(self.buckets, start))
        if bucket == len(self.buckets):
            return None
        at = int(np.searchsorted(self.begins, bucket, side="right")) - 1
        rest = self.pieces[at][bucket - int(self.begins[at]) :]
        pairs, many = self.pairs[at:].copy(), self.many[at:].copy()
        if len(rest) < len(self.pieces[at]):
            pairs[0] = _pairs(rest, self.at)
            many[0] = sum(held.repeated.rows[self.at] for held in rest)
        return replace(
            self,
            buckets=self.buckets[bucket:],
            begins=np.maximum(self.begins[at:] - bucket, 0),
            pieces=[rest, *self.pieces[at + 1 :]],
            pairs=pairs,
            many=many,
            counts=self.counts[bucket:],
            largest=self.largest[bucket:],
        )

    def rows_since(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """(starts,) rows from a bucket on."""
        rows = np.append(np.cumsum(self.counts[::-1])[::-1], 0)
        return rows.take(np.searchsorted(self.buckets, starts))

    def largest_since(self, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """(starts,) the largest of the buckets from one on; 0.0 without rows."""
        most = np.append(np.maximum.accumulate(self.largest[::-1])[::-1], 0.0)
        return most.take(np.searchsorted(self.buckets, starts))

    def beyond_chance(self) -> float:
        """Pairs for each row beyond those that rows of the reference make."""
        return self._beyond(self._expected(np.array(self.chance)))

    def beyond_common(self, compared: int) -> float | None:
        """The same beyond those that rows of different times make, when these are most of all.

        Two bursts that meet by chance make some of them, too.

        Args:
            compared: so many times at most, or a little more.

        Returns:
            None: most pairs are of times that can be compared with no other, and in so few cells
            that the column may crowd.
        """
        chances = _in_common(self.pieces, self.at, compared)
        untold = np.isnan(chances)
        if 2 * int(self.pairs[untold].sum()) > int(self.pairs.sum()) and self._in_few_cells(untold):
            return None
        common = self._expected(np.fmax(chances, self.chance))
        most = 2 * common > int(self.pairs.sum())
        return self._beyond(common) if most else self.beyond_chance()

    def explained(self, compared: int) -> float | None:
        """The part of the pairs that rows of different times would make, on the whole.

        Args:
            compared: as for `beyond_common`.

        Returns:
            None: no two times can be compared.
        """
        chances = _in_common(self.pieces, self.at, compared)
        told = np.flatnonzero(~np.isnan(chances))
        both = self.many * (self.many - 1)
        pairs, known = float(self.pairs.sum()), float(both[told].sum())
        if not pairs or not known:
            return None
        # Pieces that can be compared with none are like the others.
        common = float((chances[told] * both[told]).sum()) / known
        return self._expected(np.maximum(common, self.chance)) / pairs

    def unexplained(self, part: float) -> float:
        """Pairs for each row beyond such a part of them, once that is the larger one.

        Where it is nearly all, the rest is what the comparison is off by.
        """
        if part > EXPLAINED:
            return 0.0
        return (
            self._beyond(part * float(self.pairs.sum())) if part > 1 / 2 else self.beyond_chance()
        )

    def _in_few_cells(self, which: NDArray[np.bool_]) -> bool:
        """Whether most pairs of some pieces are of rows in cells that hold many of their rows."""
        crowded = 0.0
        for at in np.flatnonzero(which).tolist():
            rows = _together(self.pieces[at], self.at)
            large = rows[rows * FEW_CELLS > self.many[at]]
            crowded += float((large * (large - 1)).sum())
        return 2 * crowded > int(self.pairs[which].sum())

    def _expected(self, chances: NDArray[np.float64]) -> float:
        """Pairs, when two rows of a piece are in one cell by such a chance."""
        return float((chances * (self.many * (self.many - 1))).sum())

    def _beyond(self, expected: float) -> float:
        return (int(self.pairs.sum()) - expected) / self.rows


def _crowding(window: Sequence[Held], at: int, unique: Unique) -> Crowding | None:
    """None: the column has no values."""
    rows = np.array([held.repeated.rows[at] for held in window], np.int64)
    buckets = np.flatnonzero(rows)
    if not buckets.size:
        return None
    window, rows = [window[bucket] for bucket in buckets.tolist()], rows[buckets]
    piece = (np.cumsum(rows) - rows) // unique.together
    begins = np.flatnonzero(np.diff(piece, prepend=-1))
    pieces = [window[begin:end] for begin, end in pairwise([*begins.tolist(), len(window)])]
    pairs = np.array([_pairs(each, at) for each in pieces], np.int64)
    largest = np.array([held.repeated.largest[at] for held in window])
    many = np.add.reduceat(rows, begins).astype(np.float64)
    return Crowding(
        at, unique.chance, buckets, begins, pieces, pairs, many, rows, largest, unique.filled
    )


def _showing(
    columns: Sequence[Crowding], rows: Sequence[float] | NDArray[np.int64] | None = None
) -> Sequence[Crowding]:
    """Those in which repeated rows would show: a row shows nothing where it has no value.

    As many rows may lack one as in the reference; where far more do, all that are repeated may.

    Args:
        columns: to choose from.
        rows: of each that have a value; None: those of all its pieces.
    """
    counted = [each.rows for each in columns] if rows is None else rows
    both = [(each, many / each.filled) for each, many in zip(columns, counted, strict=True)]
    usual = [(each, of) for each, of in both if each.filled >= MOSTLY_FILLED] or both
    most = max((of for _, of in usual), default=0.0)
    return [each for each, of in usual if of >= WITH_VALUE * most]


def _beyond(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows in cells beyond those that chance may put there."""
    return counts - expected - CHANCE_DEVIATIONS * np.sqrt(expected)


def _pairs(piece: Sequence[Held], at: int) -> int:
    """Ordered pairs of rows in one cell, once its buckets are put together: exact."""
    if len(piece) == 1:  # as all are where there is much traffic
        return int(piece[0].repeated.pairs[at])
    together = _together(piece, at)
    return int((together * (together - 1)).sum())


def _together(piece: Sequence[Held], at: int) -> NDArray[np.float64]:
    """Rows by cell, up to the last one that holds any."""
    cells, counts = (np.concatenate(of) for of in zip(*(h.cells(at) for h in piece), strict=True))
    found: NDArray[np.float64] = np.bincount(cells, counts).astype(np.float64, copy=False)
    return found


def _in_common(pieces: Sequence[Sequence[Held]], at: int, compared: int) -> NDArray[np.float64]:
    """(pieces,) chance that a row of each and one of another time are in one cell; NaN: unknown.

    Of the times before and after, that which has more in common counts: something may have changed.
    A few pieces are long ones of little traffic, whose own ends are compared, or a few buckets.
    """
    count = len(pieces)
    if count < 2 * APART:
        return np.array([_ends_in_common(piece, at) for piece in pieces])
    apart = max(APART, count // NEARER)
    step = -(-(count - apart) // compared)
    firsts = range(0, count - apart, step)
    found = np.array([_meet(pieces[n], pieces[n + apart], at) for n in firsts])
    which = np.arange(count - apart) // step
    chances = np.zeros(count)
    chances[:-apart] = found[which]
    chances[apart:] = np.maximum(chances[apart:], found[which])
    return chances


def _ends_in_common(piece: Sequence[Held], at: int) -> float:
    """The same of a piece's first third and its last; NaN when it has no three buckets."""
    rows = np.cumsum([held.repeated.rows[at] for held in piece])
    first = int(np.searchsorted(rows, rows[-1] / 3)) + 1
    last = int(np.searchsorted(rows, rows[-1] * 2 / 3)) + 1
    if not first < last < len(piece):
        return np.nan
    return _meet(piece[:first], piece[last:], at)


def _meet(one: Sequence[Held], other: Sequence[Held], at: int) -> float:
    """The chance that a row of one and a row of the other are in one cell.

    No dot product: it would go to BLAS, whose threads wait for each other on a busy machine.
    """
    here, there = _together(one, at), _together(other, at)
    cells = min(here.size, there.size)
    return float((here[:cells] * there[:cells]).sum() / (here.sum() * there.sum()))
