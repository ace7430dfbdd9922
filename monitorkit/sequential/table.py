"""The occupied cells of a run of buckets as one table, so that all are counted at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        bucket, cell, count: (k,) buckets, cells that hold rows in them, and how many; sorted by
            bucket. The cells of all columns are laid end to end.
    """

    rows: NDArray[np.int64]
    missing: NDArray[np.int64]
    bucket: NDArray[np.int64]
    cell: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, summaries: Sequence[Counts]) -> Table:
        """Of one bucket at least."""
        cells, counts = zip(*(each.occupied() for each in summaries), strict=True)
        return cls(
            np.array([each.rows for each in summaries], np.int64),
            np.stack([each.missing for each in summaries]),
            np.repeat(np.arange(len(summaries)), [each.size for each in cells]),
            np.concatenate(cells).astype(np.int64),
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

    def up_to(
        self, edges: int, places: NDArray[np.int64], gaps: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of each bucket in the cells before each of some edges, and those in gaps.

        Args:
            edges: how many, n.
            places: (cells,) of all cells, how many edges are at or before it.
            gaps: (cells,) which of them lie between known values.

        Returns:
            (buckets, n) both.
        """
        in_gaps = self.count * gaps.take(self.cell)
        before, between = self.sums(places, edges, self.count, in_gaps)
        return np.cumsum(before, axis=1), np.cumsum(between, axis=1)

    def sums(
        self, group: NDArray[np.int64], groups: int, *each: NDArray[np.int64]
    ) -> list[NDArray[np.int64]]:
        """Sums over the cells of each group, by bucket.

        Args:
            group: (cells,) of all cells, which of the groups it is in; `groups`: in none.
            groups: how many there are.
            *each: (k,) what is summed up, of each entry.

        Returns:
            (buckets, groups) of each.
        """
        shape = self.rows.size, groups + 1
        place = self.bucket * shape[1]
        place += group.take(self.cell)
        found = (np.bincount(place, of, shape[0] * shape[1]).reshape(shape) for of in each)
        return [sums[:, :-1].astype(np.int64) for sums in found]
