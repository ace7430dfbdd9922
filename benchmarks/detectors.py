"""What others do, for `benchmarks.alarms`, on the tallies that monitorkit's rule sees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov

from benchmarks.streams import REFERENCE_ROWS, Tallies
from monitorkit.sequential.events import Events

Floats = NDArray[np.float64]


def _cumulated(counts: NDArray[np.int64]) -> Floats:
    return np.concatenate((np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)))


class Windows:
    """Statistics of others on the last so many cycles, for every cycle of a stream.

    Kolmogorov and Smirnov's distance is taken where the rule looks, at 50 quantiles and all jumps;
    PSI and Jensen-Shannon over tenths of the reference (or over single values, where there are no
    more than 20).
    """

    def __init__(self, tallies: Tallies) -> None:
        self._events: Events = tallies.weigher.events
        self.columns = len(tallies.cells.names)
        distance = self._events.measure == 0
        self._cuts = [
            np.flatnonzero(distance & (self._events.column == column) & self._is_cut())
            for column in range(self.columns)
        ]
        self._tenths = [self._chosen(cuts) for cuts in self._cuts]

    def _is_cut(self) -> NDArray[np.bool_]:
        return np.array([name.startswith(("up to", "below")) for name in self._events.names])

    def _chosen(self, cuts: NDArray[np.int64]) -> NDArray[np.int64]:
        shares = self._events.reference[cuts]
        if len(cuts) <= 2 * 20:
            return cuts
        nearest = [int(np.argmin(np.abs(shares - tenth / 10))) for tenth in range(1, 10)]
        return cuts[np.unique(nearest)]

    def statistics(
        self, tallies: NDArray[np.int64], length: int, every: int = 1
    ) -> tuple[NDArray[np.int64], Mapping[str, Floats]]:
        """(cycles,) ends of full windows, and (cycles, columns) of each statistic.

        Args:
            tallies: of a stream.
            length: of a window, in cycles.
            every: only each so many cycles.
        """
        successes, trials = self._events.count(tallies)
        summed, rows = _cumulated(successes), _cumulated(trials)
        ends = np.arange(length, len(tallies) + 1, every)
        s, n = summed[ends] - summed[ends - length], rows[ends] - rows[ends - length]
        found: dict[str, list[Floats]] = {"ks": [], "p": [], "psi": [], "js": []}
        for cuts, tenths in zip(self._cuts, self._tenths, strict=True):
            apart = np.abs(s[:, cuts] / n[:, cuts] - self._events.reference[cuts]).max(axis=1)
            many = n[:, cuts[0]]
            found["ks"].append(apart)
            effective = np.sqrt(many * REFERENCE_ROWS / (many + REFERENCE_ROWS))
            found["p"].append(kolmogorov(effective * apart))
            p, q = _bins(self._events.reference[tenths]), _bins(s[:, tenths] / n[:, tenths])
            found["psi"].append(_psi(p, q, many))
            found["js"].append(_jensen_shannon(p, q))
        return ends, {name: np.stack(parts, axis=1) for name, parts in found.items()}


def _bins(up_to: Floats) -> Floats:
    ends = [np.zeros((*up_to.shape[:-1], 1)), up_to, np.ones((*up_to.shape[:-1], 1))]
    return np.maximum(np.diff(np.concatenate(ends, axis=-1), axis=-1), 0.0)


def _psi(p: Floats, q: Floats, rows: Floats) -> Floats:
    used = p > 0
    p = p[used]
    q = np.maximum(q[:, used], 0.5 / rows[:, None])
    found: Floats = ((q - p) * np.log(q / p)).sum(axis=1)
    return found


def _jensen_shannon(p: Floats, q: Floats) -> Floats:
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        of_p = np.where(p > 0, p * np.log2(p / middle), 0.0)
        of_q = np.where(q > 0, q * np.log2(q / middle), 0.0)
    found: Floats = np.sqrt(np.maximum((of_p + of_q).sum(axis=1) / 2, 0.0))
    return found


class NormedWasserstein:
    """Evidently's default on a reference of more than 1,000 rows; exact, on raw rows."""

    def __init__(self, reference: Floats, population: Floats) -> None:
        self._columns = []
        for before, now in zip(reference.T, population.T, strict=True):
            known = before[~np.isnan(before)]
            grid = np.unique(np.concatenate((known, now[~np.isnan(now)])))
            up_to = np.searchsorted(np.sort(known), grid, side="right") / len(known)
            place = np.where(np.isnan(now), len(grid), np.searchsorted(grid, now))
            self._columns.append((place, up_to, np.diff(grid) / max(np.std(known), 1e-3)))

    def distances(self, rows: NDArray[np.int64]) -> Floats:
        """(columns,) of a window of so numbered rows of the population."""
        found = []
        for place, up_to, widths in self._columns:
            counts = np.bincount(place[rows], minlength=len(up_to) + 1)[:-1]
            apart = np.cumsum(counts) / max(counts.sum(), 1) - up_to
            found.append(float(np.abs(apart[:-1]) @ widths))
        return np.array(found)


def benjamini_hochberg(p_values: Floats, level: float) -> NDArray[np.bool_]:
    """(cycles,) whether any column is rejected at a false discovery rate."""
    ordered = np.sort(p_values, axis=1)
    limits = level * np.arange(1, ordered.shape[1] + 1) / ordered.shape[1]
    found: NDArray[np.bool_] = np.any(ordered <= limits, axis=1)
    return found
