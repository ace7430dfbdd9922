"""What is watched of each column: events, their shares in the reference, and how far these may go.

An event is a property of a row, such as "the income is at most 3,400". Its rows are a difference of
two entries of a tally, so the events of all columns and windows are counted with a subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Counts, ReferenceCells
from monitorkit.sequential.evidence import (
    reference_distance_error,
    reference_variation_error,
    share_bounds,
)
from monitorkit.sequential.table import Table

Measure = Literal["distance", "shares", "missing", "new_values", "out_of_range", "shift"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""The last one is not of events, but of all of a column's limits at once: see `shifts`."""

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
    frequent: bool = False  # a frequent value


class Tube(NamedTuple):
    """What a column's distribution function is to keep to, at the edges where it is watched.

    Attributes:
        cells: (edges,) ascending: the function counts what lies before so many of its cells.
        entries: (edges,) of a tally: rows up to there, and those of the columns before.
        low, high: (edges,) it is between these; 0 at the first edge, 1 at the last one.
    """

    cells: NDArray[np.int64]
    entries: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


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
        frequent: (events,) which are shares of a frequent value.
        of_reference: its tally.
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
        self.of_reference = self.tally(reference)
        successes, trials = self.count(self.of_reference)
        self.frequent = np.array([event.frequent for event in events], np.bool_)
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

    def tube(self, column: int) -> Tube:
        """The limits of a column's distribution function: of distances, of tails and of its range.

        Args:
            column: one that has values in the reference.
        """
        first, end = self.cells_of(column)
        begin, whole = self.before(first), self.before(end)
        low, high = {begin: 0.0, whole: 1.0}, {begin: 0.0, whole: 1.0}
        for at in np.flatnonzero((self.column == column) & (self.of_plus == whole)).tolist():
            plus, minus = int(self.plus[at]), int(self.minus[at])
            lowest, highest = float(self.lowest[at]), float(self.highest[at])
            if minus == begin:
                edge = plus
            elif plus == whole:
                edge, lowest, highest = minus, 1 - highest, 1 - lowest
            else:
                continue
            low[edge] = max(low.get(edge, 0.0), lowest)
            high[edge] = min(high.get(edge, 1.0), highest)
        entries = np.array(sorted(low), np.int64)
        return Tube(
            self._edges[entries - self._first_edge] - first,
            entries,
            np.array([low[edge] for edge in entries.tolist()]),
            np.array([high[edge] for edge in entries.tolist()]),
        )

    def has_few_values(self, column: int) -> bool:
        """Whether each of its values is a category."""
        return 0 < self.cells.known[column].size <= FEW_VALUES

    def _reference_error(self, column: int, chance: float) -> float:
        counts = self.cells.column(column, self.cells.reference).reference
        rows = int(counts.sum())
        if not self.has_few_values(column):
            return reference_distance_error(rows, chance)
        return reference_variation_error(counts[1::2] / rows, rows, chance)

    @property
    def _first_edge(self) -> int:
        """Where a tally has rows before cells."""
        return 2 + len(self.cells.names)

    def _at(self, entries: Sequence[_Entry]) -> NDArray[np.int64]:
        firsts = {"nothing": 0, "rows": _ROWS, "missing": 2, "before": self._first_edge}
        firsts["between"] = firsts["before"] + self._edges.size
        return np.array(
            [
                firsts[kind] + (int(np.searchsorted(self._edges, at)) if kind in _CELLS else at)
                for kind, at in entries
            ],
            np.int64,
        )


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
    shares = [
        replace(cut("shares", f"value {known[at]:g}", 2 * at + 1, 2 * at + 2), frequent=True)
        for at in frequent
    ]
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
