"""monitorkit's rule, asked after each cycle of a stream where its answer can be an alarm at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.candidates import Candidates
from benchmarks.streams import BEGIN, CYCLE, DAY, buckets
from monitorkit.sequential.crowding import Held, Unique
from monitorkit.sequential.repeats import Repeats
from monitorkit.sequential.table import Table
from monitorkit.sequential.weighing import Weigher

GATE = 200
"""A window of less rows is not judged."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A false or a right one: when, and of which column and measure."""

    cycle: int
    groups: tuple[tuple[int, str], ...]


class Ours:
    """The rule at so many rows in each cycle.

    Attributes:
        first: the cycle from which on a window has rows enough.
    """

    def __init__(self, weigher: Weigher, rate: int) -> None:
        self.weigher, self.rate = weigher, rate
        self._candidates = Candidates(weigher, rate)
        self.first = -(-GATE // rate)

    def first_alarm(
        self, tallies: NDArray[np.int64], cycles: Cycles, *, bursty: bool = False
    ) -> Alarm | None:
        """The first cycle after which a column is called drifted.

        Args:
            tallies: (cycles, ...) of a stream.
            cycles: of it.
            bursty: rows repeat, and this is worth to be used beforehand.
        """
        alarms = (
            self.alarm_at(tallies, cycles, end)
            for end in self.possible(tallies, cycles if bursty else None)
        )
        return next((alarm for alarm in alarms if alarm is not None), None)

    def possible(self, tallies: NDArray[np.int64], bursts: Cycles | None = None) -> list[int]:
        """Cycles after which an alarm is possible; with those of a stream with bursts."""
        effects = None if bursts is None else self.least_effects(bursts)
        return self._candidates(tallies, effects, self.first)

    def alarm_at(self, tallies: NDArray[np.int64], cycles: Cycles, end: int) -> Alarm | None:
        """What is called drifted after a cycle."""
        first = max(0, end - DAY)
        window = buckets(first, end, self.rate)
        now = BEGIN + end * CYCLE
        part, since = slice(first, end), now - DAY * CYCLE
        repeats = self.weigher.repeats.of(cycles.held(first, end))
        weighed = self.weigher.weigh(window, tallies[part], repeats, (since, now), CYCLE)
        if weighed is None:
            return None
        drifted = np.flatnonzero((weighed.evidence >= weighed.needed).any(axis=0)).tolist()
        return Alarm(end, tuple(self.weigher.groups[at] for at in drifted)) if drifted else None

    def least_effects(self, cycles: Cycles) -> NDArray[np.float64]:
        """(cycles + 1,) at most the design effect of the window that ends after so many cycles.

        That by repeated rows; the rule takes the larger one of this and another one. (It would be
        less where pieces have most pairs in common: where values crowd, not where rows repeat.)
        """
        cells, columns = cycles.cells, self.weigher.repeats.columns
        found = np.ones(cells.shape[1] + 1)
        if not columns:
            return found
        for end in range(self.first, min(DAY, cells.shape[1] + 1)):
            found[end] = self.weigher.repeats.of(cycles.held(0, end)).design_effect() or 1.0
        if cells.shape[1] >= DAY:
            beyond = [_least_beyond_chance(*each) for each in zip(cells, columns, strict=True)]
            found[DAY:] = 1.0 + np.maximum(np.minimum.reduce(beyond), 0.0)
        return found


def _least_beyond_chance(cells: NDArray[np.int64], unique: Unique) -> NDArray[np.float64]:
    """(full windows,) at most the pairs for each row of a column's cells (cycles, rate).

    The rule counts pairs within pieces of a window. Those are all pairs in the window whose rows
    are nearer to each other than a piece has rows, but for those across the begin of a piece (which
    may be some too many: pairs of which the later row comes after the window).
    """
    cycles = len(cells)
    sizes = np.count_nonzero(cells >= 0, axis=1)
    rows = np.concatenate(([0], np.cumsum(sizes)))
    first = np.arange(cycles - DAY + 1)
    earlier, later = _pairs(cells, rows, unique.together)
    held = np.bincount(np.maximum(later - DAY + 1, 0), minlength=cycles + 1)
    held -= np.bincount(earlier + 1, minlength=cycles + 1)
    pairs = np.cumsum(held)[first].astype(np.float64)
    across = np.bincount(earlier + 1, minlength=cycles + 1)
    across = np.cumsum(across - np.bincount(later + 1, minlength=cycles + 1))
    chance, begin, piece = np.zeros(first.size), first, 1
    while True:
        ahead = np.searchsorted(rows, rows[first] + piece * unique.together)
        ahead = np.minimum(ahead, first + DAY)
        many = (rows[ahead] - rows[begin]).astype(np.float64)
        chance += many * (many - 1) * (many > 0)
        if np.all(ahead == first + DAY):
            break
        pairs -= np.where((ahead > begin) & (ahead < first + DAY), across[ahead], 0)
        begin, piece = ahead, piece + 1
    many = (rows[first + DAY] - rows[first]).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(many > 0, (2 * pairs - unique.chance * chance) / many, np.inf)


def _pairs(
    cells: NDArray[np.int64], rows: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cycles of all pairs of rows with one cell, which begin less than so many rows apart."""
    cycle, row = np.nonzero(cells >= 0)
    cell = cells[cycle, row]
    order = np.argsort(cell, kind="stable")
    cell, cycle = cell[order], cycle[order]
    begin = rows[cycle]
    earlier, later = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    at, apart = np.arange(cell.size), 1
    while at.size:
        at = at[at + apart < cell.size]
        other = at + apart
        at = at[(cell[at] == cell[other]) & (begin[other] - begin[at] < most)]
        earlier.append(cycle[at])
        later.append(cycle[at + apart])
        apart += 1
    return np.concatenate(earlier), np.concatenate(later)


class Cycles:
    """The cells of a stream by cycle.

    Args:
        cells: (columns that show repeats, cycles, rate); negative where a value is missing.
        repeats: of the rule.
    """

    def __init__(self, cells: NDArray[np.int64], repeats: Repeats) -> None:
        self.cells = cells
        self._repeats = repeats
        self._held: dict[int, Held] = {}

    def held(self, first: int, end: int) -> list[Held]:
        """Of the cycles from one to before another one; each is counted once."""
        for cycle in range(first, end):
            if cycle not in self._held:
                self._held[cycle] = _held(self.cells[:, cycle], self._repeats)
        return [self._held[cycle] for cycle in range(first, end)]


def _held(cells: NDArray[np.int64], repeats: Repeats) -> Held:
    """Of a cycle's cells (columns, rate)."""
    parts = [np.unique(each[each >= 0], return_counts=True) for each in cells]
    firsts = [column.first for column in repeats.columns]
    none = np.zeros(0, np.int64)
    where = np.concatenate(
        [none, *(cell + first for (cell, _), first in zip(parts, firsts, strict=True))]
    )
    table = Table(
        rows=np.array([cells.shape[1]], np.int64),
        missing=np.zeros((1, 0), np.int64),  # which repeats do not ask for
        starts=np.array([0, where.size]),
        cell=where,
        count=np.concatenate([none, *(counts for _, counts in parts)]),
    )
    return Held(repeats.repeated(table)[0], parts.__getitem__)
