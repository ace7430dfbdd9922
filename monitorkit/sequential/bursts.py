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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import ReferenceCells
from monitorkit.sequential.table import Occupied, Table

PIECES = (64, 32, 16)
"""A look-back is cut into so many pieces: bursts are shorter than the longest of them."""

FEWEST = 8
"""Fewer pieces with rows say nothing of bursts."""

MOSTLY_UNIQUE = 0.5
"""A column shows repeated rows when so large a share of the reference's values occur once."""

CHANCE_PAIRS = 0.25
"""Rows are compared with so many that each has less pairs than this by chance."""


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


class Repeats:
    """How often rows have the same value in columns where values hardly ever are the same.

    Rows that come m times give m(m - 1) ordered pairs, (m - 1) for each of them: so the pairs for
    each row, beyond those by chance, are the design effect less one. This shows a client that
    repeats itself in the first minute already. Buckets are put together as long as chance makes few
    pairs: the less traffic, the longer may bursts last. Of several columns the least counts: a row
    that is repeated is so in all of them, while a column that drifts may crowd by itself.

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

    def occupied(self, table: Table) -> list[Occupied]:
        """Of each of the columns."""
        return [table.column(each.first, each.end) for each in self.columns]

    def design_effect(self, runs: Iterable[Sequence[Occupied]]) -> float | None:
        """Of a window, at least 1; None: no column shows repeats.

        Args:
            runs: of buckets in time order; of each of the columns, what a run's buckets hold.
        """
        columns = [_Pairs(each) for each in self.columns]
        for run in runs:
            for pairs, occupied in zip(columns, run, strict=True):
                pairs.add(occupied)
        found = [pairs.beyond_chance() for pairs in columns]
        known = [beyond for beyond in found if beyond is not None]
        return 1.0 + max(min(known), 0.0) if known else None


class _Pairs:
    """Ordered pairs of rows in one cell and one piece, of one run of buckets after the other.

    A piece is the buckets that begin within so many rows (`Unique.together`). The last one of a run
    may go on in the next run, so its cells stay open.
    """

    def __init__(self, unique: Unique) -> None:
        self._unique = unique
        self._rows = 0
        self._pairs = self._all_pairs = 0.0
        self._places = self._counts = np.zeros(0, np.int64)

    def add(self, occupied: Occupied) -> None:
        """Count one more run of buckets."""
        bucket, cell, rows = occupied
        if not rows.size:
            return
        sizes = np.bincount(bucket, rows).astype(np.int64)
        piece = (self._rows + np.cumsum(sizes) - sizes) // self._unique.together
        self._rows += int(sizes.sum())
        width = self._unique.end - self._unique.first
        places = np.concatenate((self._places, piece[bucket] * width + cell))
        counts = np.concatenate((self._counts, rows))
        order = np.argsort(places, kind="stable")
        places = places[order]
        begins = np.flatnonzero(np.diff(places, prepend=-1))
        places, counts = places[begins], np.add.reduceat(counts[order], begins)
        closed = int(np.searchsorted(places, piece[-1] * width))
        self._places, self._counts = places[closed:], counts[closed:]
        self._close(places[:closed] // width, counts[:closed])

    def beyond_chance(self) -> float | None:
        """Pairs for each row; None: the column has no values."""
        if not self._rows:
            return None
        self._close(np.zeros_like(self._places), self._counts)
        self._places = self._counts = self._places[:0]
        return (self._pairs - self._unique.chance * self._all_pairs) / self._rows

    def _close(self, piece: NDArray[np.int64], counts: NDArray[Any]) -> None:
        if counts.size:
            counts = counts.astype(np.float64)
            many = np.add.reduceat(counts, np.flatnonzero(np.diff(piece, prepend=-1)))
            self._pairs += float((counts * (counts - 1)).sum())
            self._all_pairs += float((many * (many - 1)).sum())


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
