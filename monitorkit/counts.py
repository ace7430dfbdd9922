"""Monitors on exact counts, and tests made on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitorkit.cells import ColumnCells, Counts, ReferenceCells
from monitorkit.contracts import Chunk, Finding, Monitor, Options, Timeline, excluded
from monitorkit.errors import PluginError
from monitorkit.kolmogorov import two_sided_sf

__all__ = [
    "ColumnCells",
    "ColumnOptions",
    "Counts",
    "CountsMonitor",
    "EffectOptions",
    "ReferenceCells",
    "chi_square_test",
    "ks_test",
    "quantile_bins",
]


class ColumnOptions(Options):
    """Which columns a monitor looks at.

    Attributes:
        columns: features to compare; None: all, empty: none. `exclude`: columns to leave out.
        score: compare the model's score as well.
    """

    columns: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    score: bool = True


class EffectOptions(ColumnOptions):
    """Options of a monitor whose verdict rests on the size of a difference.

    Attributes:
        false_alarm_rate: a difference larger than the threshold counts only when a test finds it,
            too, at this rate of false alarms per cycle, over all columns: in a few hundred rows
            chance alone exceeds the usual thresholds. 1: the threshold decides alone.
    """

    false_alarm_rate: float = Field(default=0.01, gt=0, le=1)

    def beyond_chance(self, p_value: float, columns: int) -> bool:
        """Whether a p-value is below its share of the rate (Bonferroni over the columns)."""
        return self.false_alarm_rate == 1 or p_value < self.false_alarm_rate / columns


C = TypeVar("C", bound=ColumnOptions)


@lru_cache(maxsize=2)
def _cells_of(reference: Chunk) -> ReferenceCells:
    """Made once for all monitors of a reference: with many columns they take much memory."""
    return ReferenceCells(reference)


class CountsMonitor(Monitor[C, Counts]):
    """Base of the monitors that judge from exact counts; they share one summary per bucket.

    Attributes:
        cells: of the reference.
        chosen: positions in `cells.names` of the columns that the options choose.
    """

    _counting: tuple[Chunk, ReferenceCells] | None = None

    def __init__(self, options: C, reference: Chunk) -> None:
        super().__init__(options, reference)
        self.cells = _cells_of(reference)
        self._counting = (reference, self.cells)
        named = {*(options.columns or ()), *options.exclude}
        if unknown := sorted(named - set(self.cells.names)):
            raise PluginError(type(self).__name__, f"there is no column {', '.join(unknown)}")
        wanted = self.cells.names if options.columns is None else options.columns
        self.chosen = [
            index
            for index, name in enumerate(self.cells.names)
            if name not in options.exclude
            and (name in wanted or index == len(reference.columns))
            and (options.score or index < len(reference.columns))
        ]
        if not self.chosen:
            problem = "no column is chosen: see columns, exclude and score"
            raise PluginError(type(self).__name__, problem)

    def summarise(self, chunk: Chunk) -> Counts:
        """Count the chunk; options play no part, for the summary is shared."""
        return self.cells.summarise(chunk)

    def summarise_each(self, chunks: Sequence[Chunk]) -> Sequence[Counts]:
        """Count chunks, all at once."""
        return self.cells.summarise_each(chunks)

    def merge(self, left: Counts, right: Counts) -> Counts:
        """Add up."""
        return self.cells.merge(left, right)

    def merge_all(self, summaries: Sequence[Counts]) -> Counts:
        """Add up, all at once."""
        return self.cells.merge_all(summaries)

    def summary_key(self) -> str | None:
        """All monitors that count as this class does, in the reference's cells, share one summary.

        None of one that counts otherwise: what it counted would stand for what the others count.
        """
        methods = ("summarise", "summarise_each", "merge", "merge_all")
        own = all(getattr(type(self), name) is getattr(CountsMonitor, name) for name in methods)
        reference, cells = self._counting or (None, None)
        return "counts" if own and reference is self.reference and cells is self.cells else None

    def columns(self, timeline: Timeline[Counts]) -> list[ColumnCells]:
        """The chosen columns of the whole window; none when it has no rows."""
        counts = timeline.all()
        if counts is None or not counts.rows:
            return []
        return [self.cells.column(index, counts) for index in self.chosen]

    def comparable(self, timeline: Timeline[Counts]) -> tuple[list[ColumnCells], list[Finding]]:
        """The columns that can be compared, and findings that say why the others cannot."""
        columns = [(column, column.nothing_to_compare()) for column in self.columns(timeline)]
        return (
            [column for column, reason in columns if reason is None],
            [excluded(column.name, reason) for column, reason in columns if reason is not None],
        )


def ks_test(column: ColumnCells) -> tuple[float, float]:
    """Two-sample Kolmogorov-Smirnov statistic and its p-value.

    D is exact: inside a gap the reference's distribution function is flat and the window's rises,
    so their largest difference is at an end of a cell. The p-value is the asymptotic one in any
    case, `scipy.stats.ks_2samp(method="asymp")`: the exact one costs O(rows * reference rows).

    Args:
        column: a column that can be compared.

    Returns:
        D in [0, 1], and the p-value; 1 of one row each.
    """
    rows, reference_rows = column.window_rows, column.reference_rows
    apart = np.cumsum(column.reference) / reference_rows - np.cumsum(column.window) / rows
    statistic = float(np.max(np.abs(apart)))
    larger, smaller = float(max(rows, reference_rows)), float(min(rows, reference_rows))
    effective = round(larger * smaller / (larger + smaller))
    if not effective:  # one row each, and two values that differ: chance alone gives that
        return statistic, 1.0
    return statistic, two_sided_sf(effective, statistic)


def chi_square_test(
    reference: NDArray[np.int64], window: NDArray[np.int64]
) -> tuple[float, float, int]:
    """Pearson's chi-square test that two samples have the same distribution over categories.

    Args:
        reference: (categories,) rows of the reference.
        window: (categories,) rows of the window; what is empty in both is left out.

    Returns:
        The statistic, the p-value and the degrees of freedom; (0, 1, 0) for a single category.

    References:
        K. Pearson, Philosophical Magazine 50 (1900), 157-175. Equals
        `scipy.stats.chi2_contingency(correction=False)`, which takes 0.7 ms for it.
    """
    from scipy.special import chdtrc  # noqa: PLC0415 - takes 0.1 s, in judging processes only

    observed = np.stack((reference, window)).astype(np.float64)
    observed = observed[:, observed.sum(axis=0) > 0]
    freedom = observed.shape[1] - 1
    if freedom < 1:
        return 0.0, 1.0, 0
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0) / observed.sum()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(freedom, statistic)), freedom


def quantile_bins(
    column: ColumnCells, bins: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[float]]:
    """Rows of the reference and the window in bins that cut the reference into equal shares.

    Edges are reference values (the smallest with at least j/bins of the rows at or below), a bin
    is (edge, next edge], the outer ones are open: so the counts are exact. A value that holds more
    than 1/bins of the reference is a bin of its own, so that no tie hides what moves away from it.

    Args:
        column: a column that can be compared.
        bins: how many are wanted; ties make it fewer, or up to two more for each such value.

    Returns:
        (bins,) int64 of the reference, (bins,) int64 of the window, and the inner edges.
    """
    up_to = np.cumsum(column.reference)[1::2]
    ranks = -(-np.arange(1, bins) * column.reference_rows // bins)
    edges = np.unique(np.searchsorted(up_to, ranks))
    heavy = np.flatnonzero(column.reference[1::2] * bins > column.reference_rows)
    inner = edges[edges < column.known.size - 1]
    starts = np.unique(np.concatenate(([0], 2 * inner + 2, 2 * heavy + 1, 2 * heavy + 2)))
    return (
        np.add.reduceat(column.reference, starts),
        np.add.reduceat(column.window, starts),
        column.known[np.union1d(inner, heavy)].tolist(),
    )
