"""The evidence of a drift, of each column's measures, seen from every start of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import ReferenceCells
from monitorkit.contracts import Bucket
from monitorkit.sequential.bursts import design_effect
from monitorkit.sequential.clusters import Clusters, log_evidence_above_of_clusters
from monitorkit.sequential.events import MEASURES, Events, Limits, Measure
from monitorkit.sequential.repeats import Repeats, WindowRepeats
from monitorkit.sequential.shifts import shifts_of
from monitorkit.sequential.starts import grid_step, starts_at
from monitorkit.sequential.subsets import few_of, frequent_of

PARTS: Mapping[Measure, int] = {
    "distance": 3,
    "shares": 4,
    "missing": 1,
    "new_values": 1,
    "out_of_range": 1,
    "shift": 4,
}
"""Of a column's false alarms, by measure; a column that has less of them divides by less."""

ASSUMED_DESIGN_EFFECT = 5.0
"""Of a window that is too short to show bursts."""

MOST_OF_ALL = 0.75
"""A burst that makes so large a part of a window that cannot be told is how its traffic is: of a
nightly job, in which everything changed."""

_MIDDLE = 0.4
_MOST = 1e6  # as good as infinite, and differences of it are numbers


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Evidence, seen from each start of a window.

    Attributes:
        starts: (starts,) the first bucket of each.
        evidence: (starts, groups) natural logarithms; a group is a measure of a column.
        needed: (starts, groups) so much of it is a drift.
        design_effect, estimated: as in `Look`.
        clusters: (starts,) each, how rows came since then; design effects are at least those of the
            window.
        successes, trials: (starts, events) since then, in effective rows.
        since: (starts, ...) tallies.
    """

    starts: NDArray[np.int64]
    evidence: NDArray[np.float64]
    needed: NDArray[np.float64]
    design_effect: float
    estimated: bool
    clusters: Clusters
    successes: NDArray[np.float64]
    trials: NDArray[np.float64]
    since: NDArray[np.int64]


class Weigher:
    """Weighs the columns of a reference's cells.

    Args:
        cells: of the reference.
        columns: which of them.
        limits: what is near enough.
        rate: of false alarms, of all columns together, per second.

    Attributes:
        events: what is watched. `repeats`: where repeated rows show.
        few, frequent, shifts: by column, where it has such.
        groups: columns and measures, in the order of the evidence, which begins with the groups of
            events. `place`: of each in it.
        parts: (groups,) of the column's false alarms; of a column they sum up to 1.
        rate: of false alarms of one column.
    """

    def __init__(
        self, cells: ReferenceCells, columns: Sequence[int], limits: Limits, rate: float
    ) -> None:
        self.events = Events(cells, columns, limits)
        self.repeats = Repeats(cells, columns)
        self.rate = rate / len(columns)
        self.few = few_of(self.events)
        self.frequent = frequent_of(self.events)
        self.shifts = shifts_of(self.events)
        groups = self.events.groups
        measures: list[Measure] = [MEASURES[at] for at in self.events.measure[groups].tolist()]
        of_events = zip(self.events.column[groups].tolist(), measures, strict=True)
        of_shifts: list[tuple[int, Measure]] = [(column, "shift") for column in self.shifts]
        self.groups = (*of_events, *of_shifts)
        self.place = {key: group for group, key in enumerate(self.groups)}
        self.parts = _parts(self.groups)
        self._log_weights = np.log(self.events.weights / 2)  # up and down
        distances = self.events.measure == MEASURES.index("distance")
        # Those that are not all but certain show bursts best.
        middle = distances & (np.abs(self.events.reference - 0.5) < _MIDDLE)
        self._of_bursts = np.flatnonzero(middle if middle.any() else distances)

    def weigh(
        self,
        buckets: Sequence[Bucket[Any]],
        tallies: NDArray[np.int64],
        repeats: WindowRepeats,
        window: tuple[datetime, datetime],
        bucket: timedelta,
    ) -> Weighed | None:
        """The evidence of a drift, from every start; None: there is no start with rows.

        Args:
            buckets: in time order.
            tallies: (buckets, ...) what `Events.tally` says of each.
            repeats: how often their rows repeat each other.
            window: when it begins and ends.
            bucket: the length of the shortest ones.
        """
        starts = starts_at(buckets, *window, grid_step(bucket))
        if not starts.buckets.size:
            return None
        repeated = repeats.design_effect()
        estimates = self._variation(buckets, tallies), repeated
        known = [estimate for estimate in estimates if estimate is not None]
        effect = max(known, default=ASSUMED_DESIGN_EFFECT)
        effects = np.full(starts.buckets.size, effect)
        largest, together = repeats.bursts(starts.buckets)
        if repeated is not None:
            effects = repeats.of_starts(starts.buckets, effect)
        elif largest.max() > MOST_OF_ALL * sum(each.rows for each in buckets):
            largest = together = np.zeros(starts.buckets.size)
        clusters = Clusters(effects, largest, together)
        since = np.cumsum(tallies[::-1], axis=0)[::-1][starts.buckets]
        successes, trials = (part / clusters.effect[:, None] for part in self.events.count(since))
        return Weighed(
            starts.buckets,
            self._evidence(successes, trials, since, clusters),
            self.needed(starts.allowances),
            effect,
            bool(known),
            clusters,
            successes,
            trials,
            since,
        )

    def needed(self, allowances: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., groups) logarithms of the evidence of a drift, for starts' allowances (...)."""
        chances = allowances[..., None] * self.rate * self.parts
        found: NDArray[np.float64] = -np.log(np.minimum(chances, 1.0))
        return found

    def of_distances(
        self,
        groups: NDArray[np.int64],
        distances: NDArray[np.float64],
        weighed: Weighed,
        starts: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """(..., k) evidence of distances beyond so large ones.

        Args:
            groups: (k,) distances of columns, ascending.
            distances: (..., k) what would be near enough.
            weighed: by `weigh`.
            starts: (k,) from which of them.
        """
        events = self.events
        sizes = events.sizes[groups]
        begins = np.cumsum(sizes) - sizes
        chosen = np.arange(sizes.sum()) + np.repeat(events.groups[groups] - begins, sizes)
        at = np.repeat(starts, sizes), chosen
        lowest, highest = events.within(np.repeat(distances, sizes, axis=-1), chosen)
        counted = weighed.successes[at], weighed.trials[at]
        clusters = weighed.clusters.each(starts)
        of_events = clusters.each(np.repeat(np.arange(starts.size), sizes))
        weights = self._log_weights[chosen]
        found = _mean(counted, of_events, (lowest, highest), weights, begins)
        for place, (group, start) in enumerate(zip(groups.tolist(), starts.tolist(), strict=True)):
            few = self.few.get(self.groups[group][0])
            if few is not None:
                counts = few.count(weighed.since[start])
                subset = few.log_evidence(counts, clusters.each(place), distances[..., place])
                found[..., place] = _mean_of_two(found[..., place], subset)
        return found

    def _variation(
        self, buckets: Sequence[Bucket[Any]], tallies: NDArray[np.int64]
    ) -> float | None:
        if not self._of_bursts.size:
            return None
        times = np.array([each.start.timestamp() for each in buckets])
        successes, trials = self.events.count(tallies, self._of_bursts)
        return design_effect(times, successes.astype(np.float64), trials.astype(np.float64))

    def _evidence(
        self,
        successes: NDArray[np.float64],
        trials: NDArray[np.float64],
        since: NDArray[np.int64],
        clusters: Clusters,
    ) -> NDArray[np.float64]:
        """(starts, groups) logarithms of the mean evidence of a group's events, up and down."""
        events = self.events
        bounds = events.lowest, events.highest
        counted, of_events = (successes, trials), clusters.each((slice(None), None))
        found = np.empty((len(since), len(self.groups)))
        found[:, : events.groups.size] = _mean(
            counted, of_events, bounds, self._log_weights, events.groups
        )
        for column, few in self.few.items():
            group = self.place[column, "distance"]
            subset = few.log_evidence(few.count(since), clusters, few.tolerance)
            found[:, group] = _mean_of_two(found[:, group], subset)
        for column, frequent in self.frequent.items():
            group = self.place[column, "shares"]
            subset = frequent.log_evidence(successes, trials, clusters)
            found[:, group] = _mean_of_two(found[:, group], subset)
        for column, shifts in self.shifts.items():
            each = shifts.log_evidence(since, clusters)
            mean = np.logaddexp.reduce(each, axis=1) - np.log(len(shifts.by))
            found[:, self.place[column, "shift"]] = mean
        return found


def _parts(groups: Sequence[tuple[int, Measure]]) -> NDArray[np.float64]:
    columns = np.array([column for column, _ in groups], np.int64)
    parts = np.array([PARTS[measure] for _, measure in groups], np.float64)
    found: NDArray[np.float64] = parts / np.bincount(columns, parts)[columns]
    return found


def _mean(
    counted: tuple[NDArray[np.float64], NDArray[np.float64]],
    clusters: Clusters,
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    log_weights: NDArray[np.float64],
    begins: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(..., groups) logarithms of the weighted evidence of events (...), up and down.

    Args:
        counted: successes and trials, in effective rows.
        clusters: how the rows came.
        bounds: lowest and highest shares that are near enough.
        log_weights: of the events.
        begins: (groups,) where each begins.
    """
    (successes, trials), (lowest, highest) = counted, bounds
    both = np.logaddexp(
        log_evidence_above_of_clusters(successes, trials, highest, clusters),
        log_evidence_above_of_clusters(trials - successes, trials, 1 - lowest, clusters),
    )
    return _log_sums(both + log_weights, begins)


def _mean_of_two(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of what they are the logarithms of."""
    found: NDArray[np.float64] = np.logaddexp(left, right) - np.log(2)
    return found


def _log_sums(values: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithms of the sums of exp(values) over runs of the last axis."""
    values = np.minimum(values, _MOST)
    sizes = np.diff(begins, append=values.shape[-1])
    largest = np.maximum.reduceat(values, begins, axis=-1)
    safe = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        sums = np.add.reduceat(np.exp(values - np.repeat(safe, sizes, axis=-1)), begins, axis=-1)
        found: NDArray[np.float64] = np.log(sums) + safe
    return found
