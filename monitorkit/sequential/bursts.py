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

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Counts, ReferenceCells

PIECES = (64, 32, 16)
"""A look-back is cut into so many pieces: bursts are shorter than the longest of them."""

FEWEST = 8
"""Fewer pieces with rows say nothing of bursts."""


MOSTLY_UNIQUE = 0.5
"""A column shows repeated rows when so large a share of the reference's values occur once."""


class Repeats:
    """How often rows of one bucket have the same value where values hardly ever are the same.

    Rows that come m times give m(m - 1) ordered pairs, and an independent row (m - 1) of them more
    than chance has: so the pairs beyond chance, for each row, are the design effect less one. This
    shows a client that repeats itself in the first minute already.

    Args:
        cells: of the reference.
        columns: those to choose from: the one with the most values that occur once.
    """

    def __init__(self, cells: ReferenceCells, columns: Sequence[int]) -> None:
        self.column: int | None = None
        self._chance, self._slice = 0.0, (0, 0)
        most = MOSTLY_UNIQUE
        for column in columns:
            counts = cells.column(column, cells.reference).reference[1::2]
            rows = int(counts.sum())
            unique = int(np.count_nonzero(counts == 1)) / max(rows, 1)
            if unique >= most:
                most, self.column = unique, column
                # Spacings of N values have a mean square of 2/N^2 (R. Pyke, 1965).
                self._chance = float(((counts[counts > 1] / rows) ** 2).sum()) + 2 / rows
                first, end = cells.starts[column : column + 2].tolist()
                self._slice = first, end

    def pairs(self, counts: Counts) -> int:
        """Ordered pairs of a bucket's rows that have the same value."""
        first, end = self._slice
        if counts.dense:
            rows = counts.counts[first:end]
        else:
            rows = counts.counts[slice(*np.searchsorted(counts.cells, (first, end)))]
        rows = rows.astype(np.int64)
        return int((rows * (rows - 1)).sum())

    def design_effect(self, pairs: NDArray[np.int64], rows: NDArray[np.int64]) -> float | None:
        """Of buckets with so many pairs and rows, at least 1; None: no column shows repeats."""
        if self.column is None or not rows.sum():
            return None
        beyond = pairs.sum() - self._chance * float((rows * (rows - 1)).sum())
        return 1.0 + max(float(beyond / rows.sum()), 0.0)


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
    both = trials[1:] + trials[:-1]
    usable = (trials[1:] > 0) & (trials[:-1] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = successes / trials
        expected = 1 / trials[1:] + 1 / trials[:-1]
        pooled = successes.sum(axis=0) / trials.sum(axis=0)
        ratios = np.diff(shares, axis=0) ** 2 / (expected * pooled * (1 - pooled))
    usable &= np.isfinite(ratios) & (both > 0)
    counted = usable.sum(axis=1)
    if not counted.any():
        return 1.0
    pairs = np.where(usable, ratios, 0.0).sum(axis=1)[counted > 0] / counted[counted > 0]
    kept = np.sort(pairs)[:-1]
    if kept.size < 2:  # noqa: PLR2004 - no standard error
        return 1.0
    return float(kept.mean() - kept.std(ddof=1) / np.sqrt(kept.size))
