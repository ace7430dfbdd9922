"""Exact, mergeable counts of a window against the frozen reference, and tests made on them.

A column's sorted unique reference values u_1..u_m define 2m+1 cells: below u_1, at u_1, between
u_1 and u_2, ..., at u_m, above u_m. Counts per cell add up, so windows merge without loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitorkit.contracts import SCORE_COLUMN, Chunk, Finding, Monitor, Options, Timeline, excluded
from monitorkit.errors import PluginError

# Distances inside a cell are kept in whole units of 2**-32 of the cell's scale: integers add up to
# the same sum in any order, floats do not.
_UNIT_BITS = 32
_UNITS = 1 << _UNIT_BITS
_LOW_BITS = _UNITS - 1

# Blocks that fit into the processor's cache: a quarter faster on a million rows.
_BLOCK_ROWS = 1 << 16

FARTHEST = float(1 << 30)
"""A value counts as at most so many scales away from the reference's range (infinities too)."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """How many rows fell into which cell; k cells are occupied.

    Exact for fewer than 2**31 rows. Each distance is rounded by at most 2**-33 of its cell's scale:
    the gap's width, or outside the reference's range its length (1 when that is shorter).

    Attributes:
        rows: rows summed up.
        missing: (columns,) int64, rows without a value.
        cells: (k,) int64, sorted indices into the cells of all columns laid end to end.
        counts: (k,) int64, rows in each of them.
        distances: (k,) int64, sums of the values' distances from their cell's edge, in units of
            2**-32 of the cell's scale. Outside the range: only what is left of whole scales.
        scales: (columns, 2) int64, sums of whole scales below and above the reference's range.
    """

    rows: int
    missing: NDArray[np.int64]
    cells: NDArray[np.int64]
    counts: NDArray[np.int64]
    distances: NDArray[np.int64]
    scales: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ColumnCells:
    """One column of the reference and of a window, cell by cell.

    Attributes:
        name: the feature, or `probability` for the score.
        known: (m,) float64, the reference's distinct finite values, sorted.
        reference, window: (2m+1,) int64, their rows per cell.
        reference_missing, window_missing: their rows without a value.
        distances: (2m+1,) float64, for the window: sums of the distances from the gap's left edge;
            below the range from u_1, above it from u_m; zero at known values.
    """

    name: str
    known: NDArray[np.float64]
    reference: NDArray[np.int64]
    window: NDArray[np.int64]
    reference_missing: int
    window_missing: int
    distances: NDArray[np.float64]

    @property
    def reference_rows(self) -> int:
        """Rows of the reference that have a value."""
        return int(self.reference.sum())

    @property
    def window_rows(self) -> int:
        """Rows of the window that have a value."""
        return int(self.window.sum())

    def nothing_to_compare(self) -> str | None:
        """Why the column cannot be compared, None when it can.

        A column that was constant and no longer is can be compared: that is drift.
        """
        if not self.known.size:
            return "no values in the reference"
        if not self.window_rows:
            return "no values in the window"
        if self.known.size == 1 and self.window[1] == self.window_rows:
            return "constant: one and the same value in the reference and the window"
        return None


class ReferenceCells:
    """The cells of every column of a reference, the score last.

    Infinite values count as beyond the range.
    """

    def __init__(self, reference: Chunk) -> None:
        self.features = reference.columns
        self.names = (*reference.columns, SCORE_COLUMN)
        self.known = [np.unique(v[np.isfinite(v)]) for v in _values(reference)]
        sizes = [2 * known.size + 1 for known in self.known]
        self._starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self._scales = [_scale(known) for known in self.known]
        self._reference = self.summarise(reference)

    def summarise(self, chunk: Chunk) -> Counts:
        """Count a chunk's rows, in O(rows log rows) per column.

        Raises:
            ValueError: when the chunk has other columns than the reference.
        """
        if chunk.columns != self.features:
            raise ValueError(f"the chunk has {chunk.columns}, the reference {self.features}")
        counts = self._summarise_block(chunk.take(slice(0, _BLOCK_ROWS)))
        for start in range(_BLOCK_ROWS, len(chunk), _BLOCK_ROWS):
            block = self._summarise_block(chunk.take(slice(start, start + _BLOCK_ROWS)))
            counts = self.merge(counts, block)
        return counts

    def _summarise_block(self, chunk: Chunk) -> Counts:
        missing = np.zeros(len(self.names), np.int64)
        scales = np.zeros((len(self.names), 2), np.int64)
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        for index, values in enumerate(_values(chunk)):
            # Sorted keys make the look-up seven times faster, and equal cells neighbours. NaN is
            # sorted to the end.
            ordered = np.sort(values)
            present = ordered[: ordered.size - int(np.count_nonzero(np.isnan(values)))]
            missing[index] = values.size - present.size
            cell, units = self._place(index, present)
            starts = _run_starts(cell)
            sums = _sums(units, starts)
            if present.size:
                for side, outer in enumerate((0, 2 * self.known[index].size)):
                    # Distances outside the range may be huge: whole scales are summed apart.
                    inside = slice(*np.searchsorted(cell, (outer, outer + 1)))
                    scales[index, side] = (units[inside] >> _UNIT_BITS).sum()
                    sums[cell[starts] == outer] = (units[inside] & _LOW_BITS).sum()
            counts = np.diff(starts, append=cell.size)
            parts.append((cell[starts] + self._starts[index], counts, sums))
        cells, counts, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Counts(len(chunk), missing, cells, counts, distances, scales)

    def merge(self, left: Counts, right: Counts) -> Counts:
        """The counts of both: sums of integers, so exact, associative and commutative."""
        cells = np.concatenate((left.cells, right.cells))
        order = np.argsort(cells, kind="stable")
        cells = cells[order]
        starts = _run_starts(cells)
        return Counts(
            left.rows + right.rows,
            left.missing + right.missing,
            cells[starts],
            _sums(np.concatenate((left.counts, right.counts))[order], starts),
            _sums(np.concatenate((left.distances, right.distances))[order], starts),
            left.scales + right.scales,
        )

    def column(self, index: int, counts: Counts) -> ColumnCells:
        """The column at a position in `names`, of the reference and of a window's counts."""
        reference, _ = self._dense(index, self._reference)
        window, distances = self._dense(index, counts)
        return ColumnCells(
            self.names[index],
            self.known[index],
            reference,
            window,
            int(self._reference.missing[index]),
            int(counts.missing[index]),
            distances,
        )

    def _place(
        self, index: int, present: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The cell of each sorted value, and its distance from the cell's edge in units."""
        known = self.known[index]
        below = np.searchsorted(known, present)
        at_known = np.append(known, np.nan)[below] == present
        cell = 2 * below + at_known
        units = np.zeros(present.size, np.int64)
        if not known.size:
            return cell, units
        gaps = np.flatnonzero(~at_known)
        edge = below[gaps]
        # Edges so far apart that their difference overflows give a coarse distance, not an error.
        with np.errstate(over="ignore", invalid="ignore"):
            width = np.concatenate(([-self._scales[index]], np.diff(known), [self._scales[index]]))
            away = (present[gaps] - known[np.maximum(edge - 1, 0)]) / width[edge]
        away = np.clip(np.nan_to_num(away, nan=0.0, posinf=FARTHEST), 0.0, FARTHEST)
        units[gaps] = np.rint(away * _UNITS).astype(np.int64)
        return cell, units

    def _dense(self, index: int, counts: Counts) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A column's counts and sums of distances for all its cells."""
        first, end = self._starts[index : index + 2]
        part = slice(*np.searchsorted(counts.cells, (first, end)))
        occupied = counts.cells[part] - first
        rows, units = np.zeros(end - first, np.int64), np.zeros(end - first)
        rows[occupied] = counts.counts[part]
        units[occupied] = counts.distances[part] / _UNITS
        units[[0, -1]] += counts.scales[index]
        known = self.known[index]
        if known.size:
            with np.errstate(over="ignore", invalid="ignore"):
                units[2:-1:2] *= np.diff(known)
            units[[0, -1]] *= self._scales[index]
        return rows, units


class ColumnOptions(Options):
    """Which columns a monitor looks at.

    Attributes:
        columns: features to compare; None: all. `exclude`: columns to leave out.
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


class CountsMonitor(Monitor[C, Counts]):
    """Base of the monitors that judge from exact counts; they share one summary per bucket."""

    def __init__(self, options: C, reference: Chunk) -> None:
        super().__init__(options, reference)
        self.cells = ReferenceCells(reference)
        named = {*(options.columns or ()), *options.exclude}
        if unknown := sorted(named - set(self.cells.names)):
            raise PluginError(type(self).__name__, f"there is no column {', '.join(unknown)}")
        self._chosen = [
            index
            for index, name in enumerate(self.cells.names)
            if name not in options.exclude
            and (name in (options.columns or self.cells.names) or index == len(reference.columns))
            and (options.score or index < len(reference.columns))
        ]

    def summarise(self, chunk: Chunk) -> Counts:
        """Count the chunk; options play no part, for the summary is shared."""
        return self.cells.summarise(chunk)

    def merge(self, left: Counts, right: Counts) -> Counts:
        """Add up."""
        return self.cells.merge(left, right)

    def summary_key(self) -> str:
        """All monitors on counts share one summary."""
        return "counts"

    def columns(self, timeline: Timeline[Counts]) -> list[ColumnCells]:
        """The chosen columns of the whole window; none when it has no rows."""
        counts = timeline.all()
        if counts is None or not counts.rows:
            return []
        return [self.cells.column(index, counts) for index in self._chosen]

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
        D in [0, 1], and the p-value.

    References:
        R. Simard, P. L'Ecuyer, "Computing the two-sided Kolmogorov-Smirnov distribution", Journal
        of Statistical Software 39 (2011), 11.
    """
    # scipy.stats takes 0.7 s to import, which only a judging process shall pay.
    from scipy.stats import kstwo  # noqa: PLC0415 - lazy, see above

    rows, reference_rows = column.window_rows, column.reference_rows
    apart = np.cumsum(column.reference) / reference_rows - np.cumsum(column.window) / rows
    statistic = float(np.max(np.abs(apart)))
    larger, smaller = float(max(rows, reference_rows)), float(min(rows, reference_rows))
    p_value = kstwo.sf(statistic, np.round(larger * smaller / (larger + smaller)))
    return statistic, float(np.clip(p_value, 0.0, 1.0))


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
        `scipy.stats.chi2_contingency(correction=False)`.
    """
    from scipy.stats import chi2_contingency  # noqa: PLC0415 - lazy, as in ks_test

    table = np.stack((reference, window))
    table = table[:, table.sum(axis=0) > 0]
    test: Any = chi2_contingency(table, correction=False)
    return float(test.statistic), float(test.pvalue), int(test.dof)


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


def _values(chunk: Chunk) -> list[NDArray[np.float64]]:
    return [*chunk.features.T, chunk.scores]


def _scale(known: NDArray[np.float64]) -> float:
    """The unit of distance outside the range: its length, but not so small that all is too far."""
    length = float(known[-1] / 2 - known[0] / 2) * 2 if known.size else 0.0
    return min(max(length, 1.0), float(np.finfo(np.float64).max))


def _run_starts(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs of equal numbers begin; they are never negative."""
    return np.flatnonzero(np.diff(ordered, prepend=-1))


def _sums(values: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.add.reduceat(values, starts) if starts.size else np.zeros(0, np.int64)
