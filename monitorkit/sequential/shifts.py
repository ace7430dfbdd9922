"""Evidence that everybody's value moved by as much: a little of it is in all of a column's limits.

A distance, tails and the share outside of the range are limits on one distribution function. A
shift that leaves none of them by much may leave all of them by a little. So there is a likelihood
ratio for the column as a whole, to the tolerated distribution that is nearest to the shifted one:
its expected value is at most 1 for every distribution that is tolerated.

References:
    P. Grünwald, R. de Heide, W. Koolen, "Safe testing", Journal of the Royal Statistical Society B
    86 (2024), 1091-1128: the reverse information projection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitorkit.sequential.clusters import Clusters
from monitorkit.sequential.events import FEW_VALUES, Events, Tube
from monitorkit.sequential.taut_string import taut_string

PARTS_OF_THE_MIDDLE = (1 / 8, 1 / 4, 1 / 2)
"""Shifts that are looked for, either way, in interquartile ranges of the reference."""

STAYED = 0.1
"""So large a part of the rows is taken for as they were: a change may not be everybody's."""

_A_ROW = 0.5
"""So many rows of the reference more in each part: nothing is impossible after a change."""

_NOISE = 1e-9
"""Values that are nearer to each other, in interquartile ranges, differ by rounding."""

_TELLS = 1e-6
"""A shift of which no row tells more nats leaves no limit: that is rounding."""


class Shifts:
    """Those of one column.

    Args:
        events: say what is near enough.
        column: one that has many values in the reference.

    Attributes:
        by: (k,) those that leave a limit, in the column's units: whole multiples of its smallest
            step. None, where so much is near enough that none does.
        log_ratios: (k, parts) of a row in each part of the range.
        entries: (parts + 1,) of a tally: rows of the column before each part, and all of them.
    """

    def __init__(self, events: Events, column: int) -> None:
        tube = events.tube(column)
        known = events.cells.known[column]
        counts = events.cells.column(column, events.cells.reference).reference[1::2]
        with np.errstate(over="ignore"):  # what is beyond the largest number is beyond the range
            by, step = _shifts(known, counts)
            before = _up_to(known, counts, tube.cells, 0.0, step)
            found = [
                _log_ratios(tube, before, _up_to(known, counts, tube.cells, shift, step))
                for shift in by.tolist()
            ]
        ratios = np.array(found).reshape(len(by), tube.cells.size - 1)
        tells = ratios.max(axis=1, initial=0.0) > _TELLS
        self.by, self.log_ratios, self.entries = by[tells], ratios[tells], tube.entries
        self._most = self.log_ratios.max(axis=1, initial=0.0)

    def count(self, tally: NDArray[np.int64]) -> NDArray[np.int64]:
        """(..., parts) rows in each."""
        found: NDArray[np.int64] = np.diff(tally[..., self.entries], axis=-1)
        return found

    def log_evidence(self, tally: NDArray[np.int64], clusters: Clusters) -> NDArray[np.float64]:
        """(..., k) of each of the shifts.

        A row's ratio to the power of 1/b has an expected value of at most 1 however often it comes,
        up to b times (Jensen's inequality). So have all rows in full, if each repetition counts as
        the most that it can be. With a design effect d these are (d - 1) N / 2 of N rows when all
        come in pairs, and less when more come together. The mean of both is taken, and a repetition
        less: the largest cluster may have lasted longer than was seen.

        Args:
            tally: (..., entries) rows.
            clusters: (...,) each, how they came.
        """
        counts = self.count(tally)
        ratios: NDArray[np.float64] = counts @ self.log_ratios.T
        rows = counts.sum(axis=-1)
        found: NDArray[np.float64] = ratios / clusters.effect[..., np.newaxis]
        at = clusters.largest > clusters.effect
        if at.any():
            effect, largest, known = clusters.each(at)
            seen = np.maximum(known, largest) * (1 - 1 / largest)
            again = np.maximum((effect - 1) * rows[at] / 2, seen)[:, np.newaxis]
            single = ratios[at] - again * self._most
            both = np.logaddexp(ratios[at] / largest[:, np.newaxis], single) - np.log(2)
            found[at] = np.minimum(found[at], both - self._most)
        return found

    def log_evidence_against(
        self, tally: NDArray[np.int64], clusters: Clusters
    ) -> NDArray[np.float64]:
        """(...,) that rows are shifted, by whichever: of the inverse ratios, the smallest one.

        Args:
            tally: (..., entries) rows.
            clusters: (...,) each, how they came.
        """
        most: NDArray[np.float64] = (self.count(tally) @ self.log_ratios.T).max(axis=-1)
        return -most / np.maximum(clusters.effect, clusters.largest)


def shifts_of(events: Events) -> dict[int, Shifts]:
    """Of the columns that have many values; of those of few, each value is watched by itself."""
    many = (column for column in events.tolerance if events.cells.known[column].size > FEW_VALUES)
    found = {column: Shifts(events, column) for column in many}
    return {column: shifts for column, shifts in found.items() if shifts.by.size}


def _shifts(
    known: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], float]:
    """Those that are looked for, and the column's smallest step."""
    quarter, three = np.searchsorted(np.cumsum(counts), np.array([0.25, 0.75]) * counts.sum())
    middle = float(known[three] - known[quarter])
    if not np.isfinite(middle):
        return np.zeros(0), 0.0
    steps = np.diff(known)
    step = float(steps.min(initial=np.inf, where=steps > _NOISE * middle))
    sizes = {max(round(part * middle / step), 1) * step for part in PARTS_OF_THE_MIDDLE}
    return np.array(sorted(way * size for size in sizes for way in (-1, 1))), step


def _up_to(
    known: NDArray[np.float64],
    counts: NDArray[np.int64],
    cells: NDArray[np.int64],
    shift: float,
    step: float,
) -> NDArray[np.float64]:
    """(edges,) rows of the reference, shifted, that lie before so many cells each."""
    up_to = np.concatenate(([0], np.cumsum(counts)))
    # A quarter of a step makes that rounding does not matter.
    above = np.searchsorted(known, known + (step / 4 - shift), side="right")
    below = np.searchsorted(known, known - (step / 4 + shift), side="left")
    # Before 2j cells lies what is up to the value before the j-th; before 2j + 1, what is below it.
    before = np.concatenate(([0], np.stack((below, above), axis=1).ravel(), [known.size]))
    # Where values are nearer to each other than a step, it might go down again.
    found: NDArray[np.float64] = np.maximum.accumulate(up_to[before[cells]]).astype(np.float64)
    return found


def _log_ratios(
    tube: Tube, before: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(parts,) of the rows after a shift, which some stay out of, to the nearest tolerated ones."""
    rows = STAYED * np.diff(before) + (1 - STAYED) * np.diff(after) + _A_ROW
    shares = rows / rows.sum()
    nearest = np.diff(taut_string(np.concatenate(([0.0], np.cumsum(shares))), tube.low, tube.high))
    found: NDArray[np.float64] = np.log(shares / nearest)
    return found
