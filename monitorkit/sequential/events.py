"""What is watched of each column: events, their shares in the reference, and how far these may go.

An event is a property of a row, such as "the income is at most 3,400". Its rows are a difference of
two entries of a tally, so the events of all columns and windows are counted with a subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Counts, ReferenceCells
from monitorkit.sequential.clusters import Clusters, log_evidence_above_of_clusters
from monitorkit.sequential.evidence import (
    reference_distance_error,
    reference_variation_error,
    share_bounds,
)
from monitorkit.sequential.table import Table

Measure = Literal["distance", "shares", "missing", "new_values", "out_of_range"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

PARTS = {"distance": 0.4, "shares": 0.3, "missing": 0.1, "new_values": 0.1, "out_of_range": 0.1}
"""Of a column's false alarms, by measure."""

GRID = 50
"""The distribution function is watched at so many quantiles of the reference, and at its jumps."""

FEW_VALUES = 20
"""Up to so many different values in the reference, each is watched: total variation."""

OUTER_QUANTILES = (0.01, 0.05)
FREQUENT_SHARE = 0.01
MOST_FREQUENT = 50

REFERENCE_CHANCE = 0.01
"""That the reference, over all columns, is farther from its own source than it is taken for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far from the reference is near enough.

    Attributes:
        tolerance: of distances, and of the missing share.
        factor: by which a share may change, up or down.
        smallest_share: smaller ones do not matter.
    """

    tolerance: float = 0.05
    factor: float = 1.5
    smallest_share: float = 0.002


# An entry of a tally: of rows before a cell, of rows between known values before it, of a column's
# missing rows, of all rows, or nothing.
_Entry = tuple[Literal["before", "between", "missing", "rows", "nothing"], int]
_NOTHING: _Entry = ("nothing", 0)
_VALUE = "value "
_CELLS = ("before", "between")
_ROWS = 1  # where a tally has all rows
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class _Event:
    column: int
    measure: Measure
    name: str
    successes: tuple[_Entry, _Entry]
    trials: tuple[_Entry, _Entry]
    absolute: bool = False
    reference: int | None = None  # rows of the reference, where they are not those counted


class Events:
    """The events of the chosen columns, sorted by column and measure.

    Attributes:
        column, measure: (events,) positions in `ReferenceCells.names` and in `MEASURES`.
        names: of each.
        plus, minus, of_plus, of_minus: (events,) entries of a tally: their differences are the rows
            of which each event is true, and of which it could be.
        reference: (events,) shares in the reference.
        lowest, highest: (events,) shares that are near enough.
        weights: (events,) parts of their measure's evidence; they sum up to 1.
        groups, sizes: (groups,) where each column's measure begins, and how many events it has.
        tolerance: by column, what its distance may be.
        few: columns with few values: each is a category. `frequent`: other columns with several
            frequent ones.
    """

    def __init__(self, cells: ReferenceCells, columns: Sequence[int], limits: Limits) -> None:
        self.cells = cells
        reference = cells.reference
        events = [event for column in columns for event in _events_of(cells, column)]
        entries = [entry for event in events for entry in (*event.successes, *event.trials)]
        edges = [at for kind, at in entries if kind in _CELLS]
        self._edges = np.unique(np.array(edges, np.int64))
        local = np.arange(cells.starts[-1]) - np.repeat(cells.starts[:-1], np.diff(cells.starts))
        self._gaps = local % 2 == 0
        self.column = np.array([event.column for event in events], np.int64)
        self.measure = np.array([MEASURES.index(event.measure) for event in events], np.int64)
        self.names = [event.name for event in events]
        self.plus, self.minus = (self._at([e.successes[i] for e in events]) for i in (1, 0))
        self.of_plus, self.of_minus = (self._at([e.trials[i] for e in events]) for i in (1, 0))
        tally = self.tally(reference)
        successes, trials = self.count(tally)
        stated = np.array([-1 if e.reference is None else e.reference for e in events], np.int64)
        successes = np.where(stated >= 0, stated, successes)
        self.reference = successes / np.maximum(trials, 1)
        # Of distances, and of shares above and below.
        chance = REFERENCE_CHANCE / len(columns) / 3
        self.tolerance = {
            column: max(limits.tolerance, self._reference_error(column, chance))
            for column in columns
        }
        _, first, many = np.unique(self.column, return_inverse=True, return_counts=True)
        low, high = share_bounds(successes, trials, chance / many[first])
        share = self.reference
        highest = np.maximum.reduce(
            [share * limits.factor, high, np.full(share.shape, limits.smallest_share)]
        )
        lowest = np.minimum(share / limits.factor, low)
        # A reference has no new values, so that few of them are nothing to tell of.
        matters = (lowest >= limits.smallest_share) & (self.measure != MEASURES.index("new_values"))
        self.lowest, self.highest = np.where(matters, lowest, 0.0), np.minimum(highest, 1.0)
        self._absolute = np.array([event.absolute for event in events], np.bool_)
        near = np.array([self.tolerance[column] for column in self.column.tolist()])
        # Which rows have a value is known of all rows, however few of them have one.
        missing = self.measure == MEASURES.index("missing")
        error = np.maximum(limits.tolerance, np.maximum(high - share, share - low))
        near = np.where(missing, error, near)
        self.lowest, self.highest = self.within(near)
        self.groups = np.flatnonzero(
            np.diff(self.column * len(MEASURES) + self.measure, prepend=-1)
        )
        self.sizes = np.diff(self.groups, append=len(events))
        self.weights = np.repeat(1 / self.sizes, self.sizes)
        self.few = {column: Few(self, column, tally) for column in columns if self._is_few(column)}
        self.frequent = {
            column: Frequent(self, values)
            for column in columns
            if column not in self.few and 1 < (values := self._values(column)).size <= FEW_VALUES
        }

    def tally(self, counts: Counts) -> NDArray[np.int64]:
        """What is counted of some rows; tallies add up."""
        found: NDArray[np.int64] = self.tallies(Table.of([counts]))[0]
        return found

    def tallies(self, table: Table) -> NDArray[np.int64]:
        """(buckets, ...) a tally of each bucket."""
        between = table.count * self._gaps.take(table.cell)
        parts = table.before(self._edges, table.count, between)
        nothing = np.zeros_like(table.rows)
        return np.column_stack((nothing, table.rows, table.missing, *parts))

    def count(
        self, tally: NDArray[np.int64], chosen: NDArray[np.int64] | slice = _ALL
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of which each event is true, and of which it could be: (..., events) both.

        Args:
            tally: (..., entries).
            chosen: only these events.
        """

        def of(entries: NDArray[np.int64]) -> NDArray[np.int64]:
            return tally.take(entries[chosen], axis=-1)

        return of(self.plus) - of(self.minus), of(self.of_plus) - of(self.of_minus)

    def rows(self, tally: NDArray[np.int64]) -> NDArray[np.int64]:
        """All rows of a tally, (...,)."""
        found: NDArray[np.int64] = tally[..., _ROWS]
        return found

    def within(
        self, distance: NDArray[np.float64], chosen: NDArray[np.int64] | slice = _ALL
    ) -> tuple[NDArray[np.float64], ...]:
        """`lowest` and `highest` if so large distances (..., events) were near enough.

        Args:
            distance: of each event.
            chosen: only these events.
        """
        absolute, share = self._absolute[chosen], self.reference[chosen]
        return (
            np.where(absolute, np.maximum(share - distance, 0.0), self.lowest[chosen]),
            np.where(absolute, np.minimum(share + distance, 1.0), self.highest[chosen]),
        )

    def before(self, cell: int) -> int:
        """The position in a tally of the rows before a cell."""
        return int(self._at([("before", cell)])[0])

    def cells_of(self, column: int) -> tuple[int, int]:
        """The first cell of a column, and the first one after it."""
        first, end = self.cells.starts[column : column + 2].tolist()
        return first, end

    def _is_few(self, column: int) -> bool:
        return 0 < self.cells.known[column].size <= FEW_VALUES

    def _values(self, column: int) -> NDArray[np.int64]:
        """Which events are shares of a frequent value."""
        shares = (self.column == column) & (self.measure == MEASURES.index("shares"))
        return np.array(
            [at for at in np.flatnonzero(shares).tolist() if self.names[at].startswith(_VALUE)],
            np.int64,
        )

    def _reference_error(self, column: int, chance: float) -> float:
        counts = self.cells.column(column, self.cells.reference).reference
        rows = int(counts.sum())
        if not self._is_few(column):
            return reference_distance_error(rows, chance)
        return reference_variation_error(counts[1::2] / rows, rows, chance)

    def _at(self, entries: Sequence[_Entry]) -> NDArray[np.int64]:
        columns = len(self.cells.names)
        firsts = {"nothing": 0, "rows": _ROWS, "missing": 2, "before": 2 + columns}
        firsts["between"] = firsts["before"] + self._edges.size
        return np.array(
            [
                firsts[kind] + (int(np.searchsorted(self._edges, at)) if kind in _CELLS else at)
                for kind, at in entries
            ],
            np.int64,
        )


class Few:
    """A column of few values: each of them, and all that lies between them, is a category.

    Args:
        events: which say where its cells are in a tally.
        column: which.
        tally: of the reference.
    """

    def __init__(self, events: Events, column: int, tally: NDArray[np.int64]) -> None:
        first, end = events.cells_of(column)
        values = np.arange(first + 1, end, 2)
        self._before = np.array([events.before(cell) for cell in values.tolist()], np.int64)
        self._after = np.array([events.before(cell + 1) for cell in values.tolist()], np.int64)
        self._ends = events.before(first), events.before(end)
        counts = self.count(tally)
        self.reference = counts / max(int(counts.sum()), 1)

    def count(self, tally: NDArray[np.int64]) -> NDArray[np.int64]:
        """(..., values + 1) rows of each category."""
        known = tally[..., self._after] - tally[..., self._before]
        total = tally[..., self._ends[1]] - tally[..., self._ends[0]]
        rest = total - known.sum(axis=-1)
        return np.concatenate((known, rest[..., None]), axis=-1)

    def log_evidence(
        self, counts: NDArray[np.int64], clusters: Clusters, tolerance: float | NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(...,) of a total variation distance beyond a tolerance: the mean over all subsets.

        At least: the mean over all 2**k is not less than that of the one subset whose share grew
        most, divided by 2**k.

        Args:
            counts: (..., values + 1) rows.
            clusters: (...,) each, how they came.
            tolerance: (...,) what the distance may be.
        """
        total = counts.sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            more = counts / total[..., None] > self.reference
        inside = np.where(more, counts, 0.0).sum(axis=-1)
        bound = np.minimum(np.where(more, self.reference, 0.0).sum(axis=-1) + tolerance, 1.0)
        found: NDArray[np.float64] = log_evidence_above_of_clusters(
            inside / clusters.effect, total / clusters.effect, bound, clusters
        )
        found -= counts.shape[-1] * float(np.log(2))
        return found


class Frequent:
    """The frequent values of a column that has others, too.

    A change may take a little of each: round numbers, where a unit or a rate was converted.

    Args:
        events: which say how far each share may go.
        values: (k,) which of them are shares of a frequent value.

    Attributes:
        values: as given. `lowest`, `highest`: (k,) shares that are near enough.
    """

    def __init__(self, events: Events, values: NDArray[np.int64]) -> None:
        self.values = values
        self.lowest, self.highest = events.lowest[values], events.highest[values]

    def log_evidence(
        self, successes: NDArray[np.float64], trials: NDArray[np.float64], clusters: Clusters
    ) -> NDArray[np.float64]:
        """(...,) that some of them together left their limits: the mean over all subsets, twice.

        Of values whose shares are near enough so are the sums. At least, as that of `Few`: 2**-k
        times the evidence of those that are too rare, and of those that are too frequent.

        Args:
            successes: (..., events) in effective rows.
            trials: likewise.
            clusters: (...,) each, how they came.
        """
        s, n = successes[..., self.values], trials[..., self.values[0]]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = s / n[..., None]
        found = []
        for beyond, limits in (
            (shares > self.highest, self.highest),
            (shares < self.lowest, self.lowest),
        ):
            inside = np.where(beyond, s, 0.0).sum(axis=-1)
            bound = np.where(beyond, limits, 0.0).sum(axis=-1)
            found.append((inside, np.minimum(bound, 1.0)))
        (more, most), (less, least) = found
        both: NDArray[np.float64] = np.logaddexp(
            log_evidence_above_of_clusters(more, n, most, clusters),
            log_evidence_above_of_clusters(n - less, n, 1 - least, clusters),
        )
        both -= (len(self.values) + 1) * float(np.log(2))
        return both


def _events_of(cells: ReferenceCells, column: int) -> list[_Event]:
    first, end = cells.starts[column : column + 2].tolist()
    known = cells.known[column]
    rows: tuple[_Entry, _Entry] = (_NOTHING, ("rows", 0))
    missing: tuple[_Entry, _Entry] = (_NOTHING, ("missing", column))
    found = [
        _Event(column, "missing", "missing", missing, rows, absolute=True),
        _Event(column, "missing", "missing", missing, rows),
    ]
    if not known.size:
        return found
    values: tuple[_Entry, _Entry] = (("before", first), ("before", end))

    def cut(measure: Measure, name: str, low: int, high: int, *, absolute: bool = False) -> _Event:
        between: tuple[_Entry, _Entry] = (("before", first + low), ("before", first + high))
        return _Event(column, measure, name, between, values, absolute)

    counts = cells.column(column, cells.reference).reference
    up_to = np.cumsum(counts)
    total = int(up_to[-1])
    last = 2 * known.size + 1
    distance = [
        cut("distance", f"up to {_shown(known, edge)}", 0, edge, absolute=True)
        for edge in _watched(counts, up_to, total)
    ]
    heavy = np.flatnonzero(counts[1::2] >= FREQUENT_SHARE * total)
    heavy = heavy[np.argsort(-counts[1::2][heavy], kind="stable")][:MOST_FREQUENT]
    frequent = [int(value) for value in np.sort(heavy)]
    if known.size <= FEW_VALUES:
        distance += [
            cut("distance", f"{known[at]:g}", 2 * at + 1, 2 * at + 2, absolute=True)
            for at in range(known.size)
        ]
    shares = [cut("shares", f"{_VALUE}{known[at]:g}", 2 * at + 1, 2 * at + 2) for at in frequent]
    shares += [
        cut("shares", f"up to {known[edge // 2 - 1]:g}", 0, edge) for edge in _tails(up_to, total)
    ]
    shares += [
        cut("shares", f"from {known[(last - edge) // 2]:g} on", last - edge, last)
        for edge in _tails(np.cumsum(counts[::-1]), total)
    ]
    once = int(np.count_nonzero(counts[1::2] == 1))
    unseen: tuple[_Entry, _Entry] = (("between", first), ("between", end))
    return [
        *distance,
        *shares,
        *found,
        # Good and Turing: what is new is about as frequent as what was there once.
        _Event(column, "new_values", "new values", unseen, values, reference=once),
        cut("out_of_range", f"below {known[0]:g}", 0, 1),
        cut("out_of_range", f"above {known[-1]:g}", last - 1, last),
    ]


def _watched(counts: NDArray[np.int64], up_to: NDArray[np.int64], total: int) -> list[int]:
    """Where a column's distribution function is watched: cells before these edges."""
    if len(counts) <= 2 * FEW_VALUES + 1:
        return list(range(1, len(counts)))
    ranks = np.arange(1, GRID) * total / GRID
    values = np.unique(np.searchsorted(up_to[1::2], ranks))
    heavy = np.flatnonzero(counts[1::2] * GRID > total)
    edges = np.concatenate(([1, len(counts) - 1], 2 * values + 2, 2 * heavy + 1, 2 * heavy + 2))
    return [int(edge) for edge in np.unique(np.minimum(edges, len(counts) - 1))]


def _tails(up_to: NDArray[np.int64], total: int) -> list[int]:
    """Edges of the lower tails: that whose share is nearest to each outer quantile's."""
    shares = up_to[1::2] / total
    found = set()
    for quantile in OUTER_QUANTILES:
        ratios = np.abs(np.log(shares / quantile))
        best = int(np.argmin(ratios))
        if ratios[best] <= np.log(2):
            found.add(2 * best + 2)
    return sorted(found)


def _shown(known: NDArray[np.float64], edge: int) -> str:
    return f"{known[max(edge - 1, 0) // 2]:g}" if edge % 2 == 0 else f"below {known[edge // 2]:g}"
