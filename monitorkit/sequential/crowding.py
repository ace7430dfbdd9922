"""How rows share the cells of a column in which hardly any two have the same value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Cells

CHANCE_PAIRS = 0.25
"""Rows are compared with so many that each has less pairs than this by chance."""

FEW_CELLS = 16
"""Cells that hold more than one row in so many are those of a column that crowds, more likely than
those of a client that repeats itself."""

CHANCE_DEVIATIONS = 3.0
"""So many standard deviations more rows in a cell than the reference has there may be chance."""

APART = 2
NEARER = 16
"""A piece is compared with the next but one, or with one a sixteenth of the window away when that
is farther: what lasts longer is no burst."""

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
        largest: (columns,) the most rows in a cell, beyond those that chance may put there, as far
            as they may be the same in all columns; 0.0 where these are no more than two.
        where: (columns,) in which cell these are.
    """

    rows: NDArray[np.int64]
    pairs: NDArray[np.int64]
    largest: NDArray[np.float64]
    where: NDArray[np.int64]


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


@dataclass(frozen=True, slots=True, eq=False)
class Crowding:
    """How a column's rows share its cells, in pieces of a window in which chance makes few pairs.

    Attributes:
        at: its position in `Repeats.columns`.
        unique: the column.
        buckets: (k,) positions in the window of those that have rows.
        begins: (pieces,) the first bucket of each, of these.
        pieces: their buckets.
        pairs: (pieces,) ordered ones of rows in one cell.
        many: (pieces,) rows.
        counts: (k,) rows of each bucket.
        largest, where: (k,) as in `Repeated`, of each bucket.
    """

    at: int
    unique: Unique
    buckets: NDArray[np.int64]
    begins: NDArray[np.int64]
    pieces: Sequence[Sequence[Held]]
    pairs: NDArray[np.int64]
    many: NDArray[np.float64]
    counts: NDArray[np.int64]
    largest: NDArray[np.float64]
    where: NDArray[np.int64]

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
            many[0] = self.counts[bucket : bucket + len(rest)].sum()
        return replace(
            self,
            buckets=self.buckets[bucket:],
            begins=np.maximum(self.begins[at:] - bucket, 0),
            pieces=[rest, *self.pieces[at + 1 :]],
            pairs=pairs,
            many=many,
            counts=self.counts[bucket:],
            largest=self.largest[bucket:],
            where=self.where[bucket:],
        )

    def rows_since(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """(starts,) rows from a bucket on."""
        rows = np.append(np.cumsum(self.counts[::-1])[::-1], 0)
        return rows.take(np.searchsorted(self.buckets, starts))

    def bursts_since(
        self, starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(starts,) rows of the largest burst from a bucket on, and of all of them.

        A burst is the fullest cell of a bucket, with that of the next one when it is the same. What
        is so for longer is one burst all the same, for this is how traffic is then.
        """
        largest, together = np.zeros(len(self.buckets) + 1), np.zeros(len(self.buckets) + 1)
        after, next_rows, in_run, behind = (-1, -1), 0.0, 0.0, 0.0
        each = zip(self.buckets.tolist(), self.where.tolist(), self.largest.tolist(), strict=True)
        for at, (bucket, cell, rows) in reversed(list(enumerate(each))):
            if rows:
                if after != (bucket + 1, cell):
                    next_rows, in_run, behind = 0.0, 0.0, together[at + 1]
                in_run = max(in_run, rows + next_rows)
                after, next_rows = (bucket, cell), rows
            largest[at] = max(largest[at + 1], in_run if rows else 0.0)
            together[at] = behind + in_run if rows else together[at + 1]
        places = np.searchsorted(self.buckets, starts)
        return largest.take(places), together.take(places)

    def beyond_chance(self) -> float:
        """Pairs for each row beyond those that rows of the reference make."""
        return self._beyond(self._expected(np.array(self.unique.chance)))

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
        return self._beyond_most(self._expected(np.fmax(chances, self.unique.chance)))

    def beyond_common_on_the_whole(self, compared: int) -> float | None:
        """The same where few times are compared: 0.0 when what is left is what that is off by.

        Args:
            compared: as for `beyond_common`.

        Returns:
            None: no two times can be compared.
        """
        chances = _in_common(self.pieces, self.at, compared)
        told = np.flatnonzero(~np.isnan(chances))
        both = self.many * (self.many - 1)
        pairs, known = int(self.pairs.sum()), float(both[told].sum())
        if not pairs or not known:
            return None
        # Pieces that can be compared with none are like the others.
        chance = float((chances[told] * both[told]).sum()) / known
        common = self._expected(np.maximum(chance, self.unique.chance))
        return 0.0 if common > EXPLAINED * pairs else self._beyond_most(common)

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

    def _beyond_most(self, common: float) -> float:
        """Pairs for each row beyond those in common, when these are most of all."""
        most = 2 * common > int(self.pairs.sum())
        return self._beyond(common) if most else self.beyond_chance()

    def _beyond(self, expected: float) -> float:
        return (int(self.pairs.sum()) - expected) / self.rows


def crowding(window: Sequence[Held], at: int, unique: Unique) -> Crowding | None:
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
    where = np.array([held.repeated.where[at] for held in window])
    many = np.add.reduceat(rows, begins).astype(np.float64)
    return Crowding(at, unique, buckets, begins, pieces, pairs, many, rows, largest, where)


def rows_beyond(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
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
