"""The design effect: how many rows of real traffic say as much as one independent row.

There are two estimates, and the larger one counts.

A client that asks ten times gives ten rows and little more than one piece of news; treated as ten,
a single busy client looks like a drift. When rows are independent, the shares of two neighbouring
pieces of time differ by chance as much as their numbers of rows say; the design effect is how much
more they do.

References:
    L. Kish, "Survey Sampling", Wiley (1965): the design effect. J. von Neumann, "Distribution of
    the ratio of the mean square successive difference to the variance", Annals of Mathematical
    Statistics 12 (1941), 367-395: neighbours are compared, so that a change counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Cells, Counts, ReferenceCells
from monitorkit.sequential.table import Table

PIECES = (64, 32, 16)
"""A look-back is cut into so many pieces: bursts are shorter than the longest of them."""

FEWEST = 8
"""Fewer pieces with rows say nothing of bursts."""

MOSTLY_UNIQUE = 0.5
"""A column shows repeated rows when so large a share of the reference's values occur once."""

CHANCE_PAIRS = 0.25
"""Rows are compared with so many that each has less pairs than this by chance."""

CROWDED = 0.05
"""With so many pairs for each row beyond those of the reference's rows, one looks where they come
from."""

APART = 2
NEARER = 16
"""A piece is compared with the next but one, or with one a sixteenth of the window away when that
is farther: what lasts longer is no burst."""

COMPARED = 96
"""So many times at most, or a little more."""


@dataclass(frozen=True, slots=True)
class Unique:
    """A column whose values hardly ever are the same.

    Attributes:
        column: which.
        first, end: its cells.
        chance: that two independent rows are in one cell.
    """

    column: int
    first: int
    end: int
    chance: float

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
    """

    rows: NDArray[np.int64]
    pairs: NDArray[np.int64]


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
                found.append(Unique(column, first, end, chance))
        self.columns: tuple[Unique, ...] = tuple(found)
        self._reference = cells
        self._column = np.full(cells.starts[-1], len(found), np.int64)
        for at, each in enumerate(found):
            self._column[each.first : each.end] = at

    def repeated(self, table: Table) -> list[Repeated]:
        """Of each of a table's buckets by itself."""
        ordered = table.count * (table.count - 1)
        rows, pairs = table.sums(self._column, len(self.columns), table.count, ordered)
        both = zip(rows, pairs, strict=True)
        return [Repeated(of_rows.copy(), of_pairs.copy()) for of_rows, of_pairs in both]

    def cells(self, counts: Counts, at: int) -> Cells:
        """Of the column at a position in `columns`."""
        return self._reference.occupied(self.columns[at].column, counts)

    def design_effect(self, window: Sequence[Held]) -> float | None:
        """Of a window, at least 1; None: no column shows repeats.

        Args:
            window: its buckets, in time order.
        """
        found = [_crowding(window, at, unique) for at, unique in enumerate(self.columns)]
        known = [each for each in found if each is not None]
        if not known:
            return None
        least = min(each.beyond_chance() for each in known)
        if least > CROWDED:
            # A repeated row is alone in its cell at other times, in each of the columns.
            least = min(least, max(each.beyond_common() for each in known))
        return 1.0 + max(least, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Crowding:
    """How a column's rows share its cells, in pieces of a window in which chance makes few pairs.

    Attributes:
        at: its position in `Repeats.columns`.
        chance: that two rows of the reference are in one cell.
        pieces: their buckets.
        pairs: (pieces,) ordered ones of rows in one cell.
        many: (pieces,) rows.
    """

    at: int
    chance: float
    pieces: Sequence[Sequence[Held]]
    pairs: NDArray[np.int64]
    many: NDArray[np.float64]

    def beyond_chance(self) -> float:
        """Pairs for each row beyond those that rows of the reference make."""
        return self._beyond(self._expected(np.array(self.chance)))

    def beyond_common(self) -> float:
        """The same beyond those that rows of different times make, when these are most of all.

        Two bursts that meet by chance make some of them, too.
        """
        common = self._expected(np.maximum(_in_common(self.pieces, self.at), self.chance))
        most = 2 * common > int(self.pairs.sum())
        return self._beyond(common) if most else self.beyond_chance()

    def _expected(self, chances: NDArray[np.float64]) -> float:
        """Pairs, when two rows of a piece are in one cell by such a chance."""
        return float((chances * (self.many * (self.many - 1))).sum())

    def _beyond(self, expected: float) -> float:
        return (int(self.pairs.sum()) - expected) / float(self.many.sum())


def _crowding(window: Sequence[Held], at: int, unique: Unique) -> _Crowding | None:
    """None: the column has no values."""
    window = [held for held in window if held.repeated.rows[at]]
    if not window:
        return None
    rows = np.array([held.repeated.rows[at] for held in window], np.int64)
    piece = (np.cumsum(rows) - rows) // unique.together
    begins = np.flatnonzero(np.diff(piece, prepend=-1))
    pieces = [window[begin:end] for begin, end in pairwise([*begins.tolist(), len(window)])]
    pairs = np.array([_pairs(each, at) for each in pieces], np.int64)
    many = np.add.reduceat(rows, begins).astype(np.float64)
    return _Crowding(at, unique.chance, pieces, pairs, many)


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


def _in_common(pieces: Sequence[Sequence[Held]], at: int) -> NDArray[np.float64]:
    """(pieces,) chance that a row of each and one of another time are in one cell.

    Of the times before and after, that which has more in common counts: something may have changed.
    A few pieces are long ones of little traffic, whose own ends are compared.
    """
    count = len(pieces)
    if count < 2 * APART:
        return np.array([_ends_in_common(piece, at) for piece in pieces])
    apart = max(APART, count // NEARER)
    step = -(-(count - apart) // COMPARED)
    firsts = range(0, count - apart, step)
    found = np.array([_meet(pieces[n], pieces[n + apart], at) for n in firsts])
    which = np.arange(count - apart) // step
    chances = np.zeros(count)
    chances[:-apart] = found[which]
    chances[apart:] = np.maximum(chances[apart:], found[which])
    return chances


def _ends_in_common(piece: Sequence[Held], at: int) -> float:
    """The same of a piece's first third and its last; 0.0 when it has no three buckets."""
    rows = np.cumsum([held.repeated.rows[at] for held in piece])
    first = int(np.searchsorted(rows, rows[-1] / 3)) + 1
    last = int(np.searchsorted(rows, rows[-1] * 2 / 3)) + 1
    if not first < last < len(piece):
        return 0.0
    return _meet(piece[:first], piece[last:], at)


def _meet(one: Sequence[Held], other: Sequence[Held], at: int) -> float:
    """The chance that a row of one and a row of the other are in one cell.

    No dot product: it would go to BLAS, whose threads wait for each other on a busy machine.
    """
    here, there = _together(one, at), _together(other, at)
    cells = min(here.size, there.size)
    return float((here[:cells] * there[:cells]).sum() / (here.sum() * there.sum()))


def design_effect(
    times: NDArray[np.float64], successes: NDArray[np.float64], trials: NDArray[np.float64]
) -> float | None:
    """The largest of the design effects of pieces of different lengths, at least 1.

    For each piece length, the mean over all properties and pairs of neighbours of
    (p_i - p_j)**2 / (p (1 - p) (1/n_i + 1/n_j)), without the pair in which it is largest, for there
    something may have changed, and less its standard error, so that chance makes no bursts.

    Args:
        times: (buckets,) when they begin.
        successes: (buckets, properties) rows that have a property.
        trials: (buckets, properties) rows that could have it.

    Returns:
        None: there are too few pieces with rows to tell.
    """
    found = [_of(*part) for part in _pieces(times, successes, trials)]
    return max([1.0, *found]) if found else None


def _pieces(
    times: NDArray[np.float64], successes: NDArray[np.float64], trials: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    length = times[-1] - times[0] if times.size >= FEWEST else 0.0
    if not length:
        return
    for pieces in PIECES:
        piece = np.minimum((times - times[0]) * pieces // length, pieces - 1)
        begins = np.flatnonzero(np.diff(piece, prepend=-1))
        if begins.size >= FEWEST:
            yield np.add.reduceat(successes, begins), np.add.reduceat(trials, begins)


def _of(successes: NDArray[np.float64], trials: NDArray[np.float64]) -> float:
    usable = (trials[1:] > 0) & (trials[:-1] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = successes / trials
        expected = 1 / trials[1:] + 1 / trials[:-1]
        pooled = successes.sum(axis=0) / trials.sum(axis=0)
        ratios = np.diff(shares, axis=0) ** 2 / (expected * pooled * (1 - pooled))
    usable &= np.isfinite(ratios)
    counted = usable.sum(axis=1)
    if not counted.any():
        return 1.0
    pairs = np.where(usable, ratios, 0.0).sum(axis=1)[counted > 0] / counted[counted > 0]
    kept = np.sort(pairs)[:-1]
    if kept.size < 2:  # noqa: PLR2004 - no standard error
        return 1.0
    return float(kept.mean() - kept.std(ddof=1) / np.sqrt(kept.size))
