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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Counts, ReferenceCells

PIECES = (64, 32, 16)
"""A look-back is cut into so many pieces: bursts are shorter than the longest of them."""

FEWEST = 8
"""Fewer pieces with rows say nothing of bursts."""

MOSTLY_UNIQUE = 0.5
"""A column shows repeated rows when so large a share of the reference's values occur once."""

CHANCE_PAIRS = 0.25
"""Rows are compared with so many that each has less pairs than this by chance."""


@dataclass(frozen=True, slots=True)
class _Unique:
    """A column whose values hardly ever are the same.

    Attributes:
        column: which.
        cells: how many it has.
        chance: that two independent rows are in one cell.
    """

    column: int
    cells: int
    chance: float


Occupied = tuple[NDArray[np.int64], NDArray[np.int64]]
"""A column's cells that hold some rows, and how many."""


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
    """

    def __init__(self, cells: ReferenceCells, columns: Sequence[int]) -> None:
        self._cells = cells
        self._unique: list[_Unique] = []
        for column in columns:
            counts = cells.column(column, cells.reference).reference[1::2]
            rows = int(counts.sum())
            if rows and np.count_nonzero(counts == 1) / rows >= MOSTLY_UNIQUE:
                # Spacings of N values have a mean square of 2/N^2 (R. Pyke, 1965).
                chance = float(((counts[counts > 1] / rows) ** 2).sum()) + 2 / rows
                self._unique.append(_Unique(column, 2 * cells.known[column].size + 1, chance))

    @property
    def columns(self) -> tuple[int, ...]:
        """Those that show repeats."""
        return tuple(each.column for each in self._unique)

    def occupied(self, counts: Counts) -> list[Occupied]:
        """Of each of the columns."""
        return [self._cells.occupied(each.column, counts) for each in self._unique]

    def design_effect(self, buckets: Sequence[Sequence[Occupied]]) -> float | None:
        """Of a window, at least 1; None: no column shows repeats.

        Args:
            buckets: what `occupied` says of each, in time order.
        """
        found = (
            _beyond_chance([bucket[at] for bucket in buckets], each)
            for at, each in enumerate(self._unique)
        )
        known = [beyond for beyond in found if beyond is not None]
        return 1.0 + max(min(known), 0.0) if known else None


def _beyond_chance(buckets: Sequence[Occupied], unique: _Unique) -> float | None:
    """Pairs for each row; None: the column has no values."""
    sizes = np.array([int(rows.sum()) for _, rows in buckets], np.int64)
    if not sizes.sum():
        return None
    piece = (np.cumsum(sizes) - sizes) // max(int(CHANCE_PAIRS / unique.chance), 1)
    cells = np.concatenate([cells for cells, _ in buckets])
    rows = np.concatenate([rows for _, rows in buckets])
    places = np.repeat(piece, [cells.size for cells, _ in buckets])
    place, first = np.unique(places * unique.cells + cells, return_inverse=True)
    together = np.bincount(first, rows, place.size)
    pairs = float((together * (together - 1)).sum())
    many = np.bincount(piece, sizes)
    chance = unique.chance * float((many * (many - 1)).sum())
    return (pairs - chance) / float(sizes.sum())


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
