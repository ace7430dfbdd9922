"""The occupied cells of a run of buckets as one table, so that all are counted at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Counts

MOST_CELLS = 1 << 18
"""A table has so many at most, but for one of a single bucket: of a busy day they are millions."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What some buckets hold.

    Attributes:
        rows: (buckets,). `missing`: (buckets, columns), rows without a value.
        starts: (buckets + 1,) where the entries of each begin.
        cell, count: (k,) cells that hold rows, and how many: those of one bucket after the other,
            ascending. The cells of all columns are laid end to end.
    """

    rows: NDArray[np.int64]
    missing: NDArray[np.int64]
    starts: NDArray[np.int64]
    cell: NDArray[np.integer[Any]]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, summaries: Sequence[Counts]) -> Table:
        """Of one bucket at least."""
        cells, counts = zip(*(each.occupied() for each in summaries), strict=True)
        return cls(
            np.array([each.rows for each in summaries], np.int64),
            np.stack([each.missing for each in summaries]),
            np.cumsum([0, *(each.size for each in cells)]),
            np.concatenate(cells),
            np.concatenate(counts),
        )

    @classmethod
    def runs(cls, summaries: Sequence[Counts]) -> Iterator[Table]:
        """One table after the other, which take little memory; none of no buckets."""
        run: list[Counts] = []
        cells = 0
        for each in summaries:
            if run and cells + each.entries > MOST_CELLS:
                yield cls.of(run)
                run, cells = [], 0
            run.append(each)
            cells += each.entries
        if run:
            yield cls.of(run)

    def bucket(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """The buckets of some entries."""
        found: NDArray[np.int64] = np.searchsorted(self.starts, entries, side="right") - 1
        return found

    def before(self, edges: NDArray[np.int64], *each: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Sums over the cells of each bucket that are before some edges.

        Args:
            edges: (n,) cells.
            *each: (k,) what is summed up, of each entry.

        Returns:
            (buckets, n) of each.
        """
        edges = edges.astype(self.cell.dtype)  # else all cells would be made like the edges
        found = [self.cell[first:end].searchsorted(edges) for first, end in pairwise(self.starts)]
        begins = self.starts[:-1, np.newaxis]
        places = np.stack(found) + begins
        totals = [np.concatenate(([0], np.cumsum(of))) for of in each]
        return [total.take(places) - total.take(begins) for total in totals]
