"""Exact, mergeable counts of a window between the values of the frozen reference.

A column's sorted unique reference values u_1..u_m define 2m+1 cells: below u_1, at u_1, between
u_1 and u_2, ..., at u_m, above u_m. Counts per cell add up, so windows merge without loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.column_counter import LOW_BITS, UNIT_BITS, UNITS, Chunks, ColumnCounter, added
from monitorkit.contracts import SCORE_COLUMN, Chunk

# From one occupied cell in so many on, all are laid out: adding is faster than sorting.
_DENSE_FROM = 4

_LOW = tuple((kind, np.iinfo(kind).max) for kind in (np.uint8, np.uint16, np.uint32, np.int64))
_LARGE_BYTES = 12

# Blocks that fit into the processor's cache: a quarter faster on a million rows.
_BLOCK_ROWS = 1 << 16
_BLOCK_CHUNKS = 1 << 16  # their numbers take 16 bits

SCORE_DECIMALS = 11
"""A model's scores are rounded to so many: one row and a thousand are scored in other ways, whose
scores may differ in their last bits, and here a value is one of the reference or is none."""


Cells = tuple[NDArray[np.integer[Any]], NDArray[np.int64]]
"""Cells that hold rows, and how many: (k,) each."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Counts:
    """How many rows fell into which cell, of the cells of all columns laid end to end.

    Sparse while few cells are occupied, dense from a quarter on: some 10 bytes for each occupied
    cell, or 3.5 for each. Exact for fewer than 2**31 rows in a cell. Each distance is rounded by at
    most 2**-33 of its cell's scale: the gap's width, or outside the reference's range its length
    (1 when that is shorter).

    Attributes:
        rows: rows summed up.
        missing: (columns,) int64, rows without a value.
        cells: (k,) int32, the occupied cells, sorted; empty when dense.
        low: (k,) rows in each of them, or (all cells,) when dense, as far as the type takes them:
            most cells have few rows, and some columns one value that half of the rows have.
        large, excess: (j,) where there are more, int32, and how many more, int64.
        fractions: (k,) uint32, or (all gaps,) when dense: of the sums of the values' distances from
            their gap's edge, in units of 2**-32 of its scale, the part below a whole scale. Outside
            the range: only what is left of whole scales.
        wholes, far, farther: the whole scales of these sums, as `low`, `large` and `excess` say it.
        scales: (columns, 2) int64, sums of whole scales below and above the reference's range.
    """

    rows: int
    missing: NDArray[np.int64]
    cells: NDArray[np.int32]
    low: NDArray[np.integer[Any]]
    large: NDArray[np.int32]
    excess: NDArray[np.int64]
    fractions: NDArray[np.uint32]
    wholes: NDArray[np.integer[Any]]
    far: NDArray[np.int32]
    farther: NDArray[np.int64]
    scales: NDArray[np.int64]

    @property
    def dense(self) -> bool:
        """Whether every cell has an entry, occupied or not."""
        return len(self.cells) < self.entries

    @property
    def entries(self) -> int:
        """Cells that have a count: k, or all of them."""
        return len(self.low)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(k,) rows in each of the occupied cells, or (all cells,) when dense."""
        return self.part(0, self.entries)

    def part(self, first: int, end: int) -> NDArray[np.int64]:
        """Of `counts`, those from one position to before another one."""
        return _joined(self.low, self.large, self.excess, slice(first, end))

    @property
    def distances(self) -> NDArray[np.int64]:
        """(k,) sums of distances, or (all gaps,) when dense: in units of 2**-32 of a scale."""
        return self.distances_part(0, len(self.fractions))

    def distances_part(self, first: int, end: int) -> NDArray[np.int64]:
        """Of `distances`, those from one position to before another one."""
        found = _joined(self.wholes, self.far, self.farther, slice(first, end))
        found <<= UNIT_BITS
        found += self.fractions[first:end]
        return found

    def occupied(self) -> Cells:
        """The cells that hold rows, of all columns laid end to end."""
        if not self.dense:
            return self.cells, self.counts
        cells = np.flatnonzero(self.low != 0)  # as truths: three times as fast
        counts = self.low[cells].astype(np.int64)
        counts[np.searchsorted(cells, self.large)] += self.excess
        return cells, counts


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

    Attributes:
        features: names of the columns, without the score. `names`: with it.
        known: the values of each column in the reference, sorted.
        starts: (columns + 1,) the first cell of each, all cells laid end to end, and the end.
        reference: its own counts.
    """

    def __init__(self, reference: Chunk) -> None:
        self.features = reference.columns
        self.names = (*reference.columns, SCORE_COLUMN)
        self.known = [np.unique(v[np.isfinite(v)]) for v in _values((reference,))]
        sizes = [2 * known.size + 1 for known in self.known]
        self.starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        # Every other cell of a column is a gap, the first and the last one, too.
        is_gap = np.concatenate([np.arange(size) % 2 == 0 for size in sizes])
        self._gap_of = np.where(is_gap, np.cumsum(is_gap) - 1, -1)
        self._first_gaps = np.concatenate(([0], np.cumsum([size // 2 + 1 for size in sizes])))
        self._counters = [ColumnCounter(known) for known in self.known]
        self.reference = self.summarise(reference)

    def summarise(self, chunk: Chunk) -> Counts:
        """Count a chunk's rows, in O(rows log rows) per column.

        Raises:
            ValueError: when the chunk has other columns than the reference.
        """
        return self.summarise_each((chunk,))[0]

    def summarise_each(self, chunks: Sequence[Chunk]) -> list[Counts]:
        """Count the rows of each of some chunks.

        Raises:
            ValueError: when one has other columns than the reference.
        """
        for chunk in chunks:
            if chunk.columns != self.features:
                raise ValueError(f"the chunk has {chunk.columns}, the reference {self.features}")
        found: dict[int, Counts] = {}
        for block in _blocks(chunks):
            counted = self._summarise_block([part for _, part in block])
            for (number, _), counts in zip(block, counted, strict=True):
                known = found.get(number)
                found[number] = counts if known is None else self.merge(known, counts)
        return list(found.values())

    def _summarise_block(self, parts: Sequence[Chunk]) -> Iterator[Counts]:
        """Count them column by column: most of what a small one takes is the same for all."""
        number = len(parts)
        chunks = Chunks(np.repeat(np.arange(number), [len(part) for part in parts]), number)
        missing = np.zeros((number, len(self.names)), np.int64)
        scales = np.zeros((number, len(self.names), 2), np.int64)
        entries: list[tuple[NDArray[np.int64], ...]] = []
        for index, values in enumerate(_values(parts)):
            counter = self._counters[index]
            (key, *rest), missing[:, index], scales[:, index] = counter.count(values, chunks)
            of, cell = np.divmod(key, counter.cells)
            entries.append((of, cell + self.starts[index], *rest))
        of, *entry = (np.concatenate(each) for each in zip(*entries, strict=True))
        if number > 1:  # 16 bits are sorted in O(n)
            order = np.argsort(of.astype(np.uint16), kind="stable")
            entry = [each[order] for each in entry]
        bounds = [0, *np.cumsum(chunks.sums(of)).tolist()]
        for at, ((begin, end), part) in enumerate(zip(pairwise(bounds), parts, strict=True)):
            cells, counts, distances = (each[begin:end] for each in entry)
            of_columns = len(part), missing[at].copy(), scales[at].copy()  # no views of a block
            yield self._packed(of_columns, counts, distances.copy(), cells)

    def merge(self, left: Counts, right: Counts) -> Counts:
        """The counts of both."""
        return self.merge_all((left, right))

    def merge_all(self, parts: Sequence[Counts]) -> Counts:
        """The counts of all, one at least: sums of integers, so exact in any order."""
        of_columns = (
            sum(part.rows for part in parts),
            np.sum([part.missing for part in parts], axis=0),
            np.sum([part.scales for part in parts], axis=0),
        )
        dense = any(part.dense for part in parts)
        # Less memory than that of all of them at once.
        if dense or sum(part.entries for part in parts) > self.starts[-1]:
            counts, distances = self._empty()
            for part in parts:
                if part.dense:
                    counts += part.counts
                    distances += part.distances
                else:
                    self._spread(part.cells, part.counts, part.distances, (counts, distances))
            if dense:  # no cell becomes empty
                return self._packed(of_columns, counts, distances)
            cells = np.flatnonzero(counts)
            if _DENSE_FROM * cells.size >= self.starts[-1]:
                return self._packed(of_columns, counts, distances)
            gaps = self._gap_of[cells]
            distances = np.where(gaps >= 0, distances[gaps], 0)
            return self._packed(of_columns, counts[cells], distances, cells)
        cells, counts, distances = added(
            [(part.cells, part.counts, part.distances) for part in parts]
        )
        return self._packed(of_columns, counts, distances, cells)

    def _packed(
        self,
        of_columns: tuple[int, NDArray[np.int64], NDArray[np.int64]],
        counts: NDArray[np.int64],
        distances: NDArray[np.int64],
        cells: NDArray[Any] | None = None,
    ) -> Counts:
        """The one form that these counts have, whatever they were merged from.

        Args:
            of_columns: rows, missing and scales, as in `Counts`.
            counts: of the given cells, or of all of them.
            distances: of the given cells, or of all gaps.
            cells: (k,) occupied, sorted; None: all, and so many are occupied that this is the form.
        """
        rows, missing, scales = of_columns
        if cells is not None and _DENSE_FROM * cells.size >= self.starts[-1] > 0:
            everywhere = self._empty()
            self._spread(cells, counts, distances, everywhere)
            (counts, distances), cells = everywhere, None
        return Counts(
            rows,
            missing,
            np.empty(0, np.int32) if cells is None else cells.astype(np.int32, copy=False),
            *_split(counts),
            (distances & LOW_BITS).astype(np.uint32),
            *_split(distances >> UNIT_BITS),
            scales,
        )

    def _empty(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of all cells, and distances of all gaps."""
        return np.zeros(self.starts[-1], np.int64), np.zeros(self._first_gaps[-1], np.int64)

    def _spread(
        self,
        cells: NDArray[Any],
        counts: NDArray[Any],
        distances: NDArray[np.int64],
        into: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> None:
        """Add what some cells hold to what all of them hold."""
        into[0][cells] += counts
        gaps = self._gap_of[cells]
        into[1][gaps[gaps >= 0]] += distances[gaps >= 0]

    def column(self, index: int, counts: Counts) -> ColumnCells:
        """The column at a position in `names`, of the reference and of a window's counts."""
        reference, _ = self._dense(index, self.reference)
        window, distances = self._dense(index, counts)
        return ColumnCells(
            self.names[index],
            self.known[index],
            reference,
            window,
            int(self.reference.missing[index]),
            int(counts.missing[index]),
            distances,
        )

    def occupied(self, index: int, counts: Counts) -> Cells:
        """The cells that hold rows of the column at a position in `names`, the first of them 0."""
        first, end = self.starts[index : index + 2].tolist()
        if counts.dense:
            rows = counts.part(first, end)
            cells = np.flatnonzero(rows)
            return cells, rows[cells]
        begin, stop = self._part(index, counts)
        return counts.cells[begin:stop] - first, counts.part(begin, stop)

    def _part(self, index: int, counts: Counts) -> tuple[int, int]:
        """Where a column's cells begin and end in sparse counts."""
        # Of the cells' own type, else all that are searched are copied to another one.
        bounds = self.starts[index : index + 2].astype(np.int32)
        begin, end = np.searchsorted(counts.cells, bounds).tolist()
        return begin, end

    def _dense(self, index: int, counts: Counts) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A column's counts and sums of distances for all its cells."""
        first, end = self.starts[index : index + 2].tolist()
        rows, units = np.zeros(end - first, np.int64), np.zeros(end - first)
        if counts.dense:
            rows = counts.part(first, end)
            gaps = self._first_gaps[index : index + 2].tolist()
            units[::2] = counts.distances_part(*gaps) / UNITS
        else:
            begin, stop = self._part(index, counts)
            occupied = counts.cells[begin:stop] - first
            rows[occupied] = counts.part(begin, stop)
            units[occupied] = counts.distances_part(begin, stop) / UNITS
        units[[0, -1]] += counts.scales[index]
        known = self.known[index]
        if known.size:
            with np.errstate(over="ignore", invalid="ignore"):
                units[2:-1:2] *= np.diff(known)
                units[[0, -1]] *= self._counters[index].scale
            units = np.nan_to_num(units)  # coarse ones, where a width is no finite number
        return rows, units


def _values(chunks: Sequence[Chunk]) -> list[NDArray[np.float64]]:
    """(columns + 1, rows) of all of them, one after the other."""
    features = np.concatenate([chunk.features for chunk in chunks])
    scores = np.concatenate([chunk.scores for chunk in chunks])
    return [*features.T, np.round(scores, SCORE_DECIMALS)]


def _blocks(chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, Chunk]]]:
    """The chunks in blocks, each part of one with its number; a large chunk is in several."""
    block: list[tuple[int, Chunk]] = []
    rows = 0
    for number, chunk in enumerate(chunks):
        for start in range(0, max(len(chunk), 1), _BLOCK_ROWS):
            small = len(chunk) <= _BLOCK_ROWS
            part = chunk if small else chunk.take(slice(start, start + _BLOCK_ROWS))
            if block and (rows + len(part) > _BLOCK_ROWS or len(block) == _BLOCK_CHUNKS):
                yield block
                block, rows = [], 0
            block.append((number, part))
            rows += len(part)
    if block:
        yield block


def _joined(
    low: NDArray[np.integer[Any]], large: NDArray[np.int32], excess: NDArray[np.int64], part: slice
) -> NDArray[np.int64]:
    """A part of what `_split` split."""
    found = low[part].astype(np.int64)
    if large.size:
        begin, stop = np.searchsorted(large, (part.start, part.stop)).tolist()
        found[large[begin:stop] - part.start] += excess[begin:stop]
    return found


def _split(
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.integer[Any]], NDArray[np.int32], NDArray[np.int64]]:
    """`low`, `large` and `excess` of counts, in the type with which they take least memory."""
    found = []
    for kind, most in _LOW:
        large = np.flatnonzero(counts > most).astype(np.int32)
        size = counts.size * np.dtype(kind).itemsize + large.size * _LARGE_BYTES
        found.append((size, kind, most, large))
        if not large.size:
            break
    _, kind, most, large = min(found, key=itemgetter(0))
    return np.minimum(counts, most).astype(kind), large, counts[large] - most
