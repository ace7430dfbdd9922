"""Evidence of several values together, each of which may have changed too little to tell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.sequential.clusters import Clusters, log_evidence_above_of_clusters
from monitorkit.sequential.events import FEW_VALUES, Events


class Few:
    """A column of few values: each of them, and all that lies between them, is a category.

    Args:
        events: which say where its cells are in a tally.
        column: which.

    Attributes:
        tolerance: what its distance may be.
        reference: (values + 1,) shares.
    """

    def __init__(self, events: Events, column: int) -> None:
        self.tolerance = events.tolerance[column]
        first, end = events.cells_of(column)
        values = np.arange(first + 1, end, 2)
        self._before = np.array([events.before(cell) for cell in values.tolist()], np.int64)
        self._after = np.array([events.before(cell + 1) for cell in values.tolist()], np.int64)
        self._ends = events.before(first), events.before(end)
        counts = self.count(events.of_reference)
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
        inside, share = _together(more, counts, self.reference)
        bound = np.minimum(share + tolerance, 1.0)
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
        more, most = _together(shares > self.highest, s, self.highest)
        less, least = _together(shares < self.lowest, s, self.lowest)
        both: NDArray[np.float64] = np.logaddexp(
            log_evidence_above_of_clusters(more, n, np.minimum(most, 1.0), clusters),
            log_evidence_above_of_clusters(n - less, n, 1 - np.minimum(least, 1.0), clusters),
        )
        both -= (len(self.values) + 1) * float(np.log(2))
        return both


def _together(
    chosen: NDArray[np.bool_], counts: NDArray[Any], limits: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(...,) rows with one of the chosen values (..., k), and the sum of these values' limits."""
    return (
        np.where(chosen, counts, 0.0).sum(axis=-1),
        np.where(chosen, limits, 0.0).sum(axis=-1),
    )


def few_of(events: Events) -> dict[int, Few]:
    """The columns of few values."""
    few = (column for column in events.tolerance if events.has_few_values(column))
    return {column: Few(events, column) for column in few}


def frequent_of(events: Events) -> dict[int, Frequent]:
    """The columns of more values that have several frequent ones, and not too many."""
    found = {}
    for column in events.tolerance:
        values = np.flatnonzero(events.frequent & (events.column == column))
        if not events.has_few_values(column) and 1 < values.size <= FEW_VALUES:
            found[column] = Frequent(events, values)
    return found
