"""The rule: a column drifted when it is sure, over the monitor's whole life, that it did."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import ColumnCells, Counts, ReferenceCells
from monitorkit.contracts import Bucket, Timeline
from monitorkit.sequential.counted import Counted
from monitorkit.sequential.events import FEW_VALUES, Limits, Measure
from monitorkit.sequential.evidence import (
    distance_error,
    log_evidence_above,
    log_evidence_below,
    variation_error,
)
from monitorkit.sequential.starts import grid_step
from monitorkit.sequential.verdicts import (
    Judged,
    Look,
    Verdict,
    distance,
    rows_at,
    rows_for_drift,
    rows_for_stable,
    share_intervals,
    share_without_chance,
    without_chance,
)
from monitorkit.sequential.weighing import ASSUMED_DESIGN_EFFECT, Weighed, Weigher

_DISTANCE_BITS = 13
"""Of the largest distance that is surely exceeded."""

_TOLD_FROM = 1.0
"""A shift is told of from so much evidence on, natural logarithm: chance makes a little of any."""

_BITS_AT_ONCE = 4
_FEW_GROUPS = 128
"""For so many columns distances are tried fifteen at once; for more that would take much memory."""


@dataclass(frozen=True, slots=True, eq=False)
class _Shares:
    """Of each group, the event that is reported, and whether all of its events are stable.

    Attributes:
        events: (groups,) which.
        successes, trials: (groups,) in effective rows.
        stable: (groups,) bool.
        sure: (groups,) logarithm of the evidence that makes one sure.
        low, high: (groups,) a confidence interval.
    """

    events: NDArray[np.int64]
    successes: NDArray[np.float64]
    trials: NDArray[np.float64]
    stable: NDArray[np.bool_]
    sure: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Rule:
    """Judges the columns of a reference's cells.

    Args:
        cells: of the reference.
        columns: which of them.
        limits: what is near enough.
        rate: of false alarms, of all columns together, per second.
        confidence: of a column's being stable.

    Attributes:
        weigher: of the evidence.
    """

    def __init__(
        self,
        cells: ReferenceCells,
        columns: Sequence[int],
        limits: Limits,
        rate: float,
        confidence: float,
    ) -> None:
        self.weigher = Weigher(cells, columns, limits, rate)
        self._events = self.weigher.events
        self._cells = cells
        self._chance = 1 - confidence
        self._counted = Counted(self._events, self.weigher.repeats)

    def look(
        self,
        timeline: Timeline[Counts],
        not_before: Mapping[tuple[int, Measure], datetime] | None = None,
        drifted_before: Collection[tuple[int, Measure]] = (),
    ) -> Look:
        """Judge a window.

        Args:
            timeline: the window.
            not_before: by column and measure, starts before it are not looked from.
            drifted_before: columns and measures of which one wants to know whether they are back:
                stable, if they are so from any start on.
        """
        timeline = replace(timeline, buckets=_one_for_each_time(timeline))
        buckets = timeline.buckets
        if not buckets:
            return Look((), ASSUMED_DESIGN_EFFECT, estimated=False, columns={})
        # Without it, from the grid's start before the first bucket on.
        since = timeline.since or buckets[0].start - grid_step(timeline.bucket)
        tallies, repeats = self._counted.of([each.summary for each in buckets])
        weighed = self.weigher.weigh(
            buckets, tallies, repeats, (since, timeline.now), timeline.bucket
        )
        if weighed is None:
            return Look((), ASSUMED_DESIGN_EFFECT, estimated=False, columns={})
        starts, evidence, needed = weighed.starts, weighed.evidence, weighed.needed
        begins = [buckets[at].start for at in starts.tolist()]
        best, drifted, back = self._best(timeline, weighed, not_before or {}, drifted_before)
        at = np.arange(best.size)
        of_events = best[: self._events.groups.size]
        rows = np.repeat(of_events, self._events.sizes)
        lower = self._lower_bounds(weighed, best, needed[best, at])
        shares = self._shares(
            weighed.successes[rows, np.arange(rows.size)],
            weighed.trials[rows, np.arange(rows.size)],
        )
        merged: dict[int, Counts] = {}
        columns: dict[int, ColumnCells] = {}
        judged = []
        for group, start in enumerate(best.tolist()):
            column, measure = self.weigher.groups[group]
            effect = float(weighed.clusters.effect[start])
            verdict: Verdict = "drifted" if drifted[group] else "undecided"
            common = {
                "column": column,
                "measure": measure,
                "since": begins[start],
                "log10_evidence": float(max(evidence[start, group], 0.0) / np.log(10)),
                "log10_needed": float(needed[start, group] / np.log(10)),
            }
            if measure == "distance":
                begin = int(starts[start])
                if begin not in merged:
                    merged[begin] = _merged_from(timeline, begin)
                columns[column] = self._cells.column(column, merged[begin])
                cells = columns[column]
                judged.append(self._distance(cells, lower[group], verdict, effect, common))
            elif measure == "shift":
                of_distance = judged[self.weigher.place[column, "distance"]]
                near = group in back or of_distance.verdict == "stable"
                if verdict == "undecided" and near and self._is_gone(group, start, weighed):
                    verdict = "stable"
                judged.append(self._shift(weighed, of_distance, verdict, start, common))
            else:
                judged.append(self._share(shares, group, verdict, effect, common))
        return Look(judged, weighed.design_effect, weighed.estimated, columns)

    def _best(
        self,
        timeline: Timeline[Counts],
        weighed: Weighed,
        not_before: Mapping[tuple[int, Measure], datetime],
        drifted_before: Collection[tuple[int, Measure]],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], Collection[int]]:
        """(groups,) the start that is told of, and whether there is a drift; which are back."""
        excess = weighed.evidence - weighed.needed
        begins = [timeline.buckets[at].start for at in weighed.starts.tolist()]
        reported = np.zeros(len(self.weigher.groups), np.int64)  # where there is no drift
        for key, time in not_before.items():
            if key in self.weigher.place:
                early = sum(begin < time for begin in begins)
                excess[:early, self.weigher.place[key]] = -np.inf
                reported[self.weigher.place[key]] = min(early, len(begins) - 1)
        best = np.argmax(excess, axis=0)
        drifted = excess[best, np.arange(best.size)] >= 0
        best, over = np.where(drifted, best, reported), set()
        for key in drifted_before:
            if key in self.weigher.place:
                group = self.weigher.place[key]
                back = self._back_since(group, weighed, timeline)
                # Good rows of long ago may hide a drift that goes on: it shows from later starts.
                if back is not None and not np.any(excess[back:, group] >= 0):
                    best[group], drifted[group] = back, False
                    over.add(group)
        return best, drifted, over

    def _back_since(
        self,
        group: int,
        weighed: Weighed,
        timeline: Timeline[Counts],
    ) -> int | None:
        """The latest start from which a measure is stable."""
        starts = range(len(weighed.starts) - 1, -1, -1)
        back = (start for start in starts if self._is_back(group, start, weighed, timeline))
        return next(back, None)

    def _is_back(
        self, group: int, start: int, weighed: Weighed, timeline: Timeline[Counts]
    ) -> bool:
        """Whether a measure is stable from a start on; a shift: it is gone, and the distance is."""
        column, measure = self.weigher.groups[group]
        if measure == "shift":
            of_distance = self.weigher.place[column, "distance"]
            return self._is_gone(group, start, weighed) and self._is_back(
                of_distance, start, weighed, timeline
            )
        first = self._events.groups[group]
        events = slice(first, first + self._events.sizes[group])
        lowest, highest = self._events.lowest[events], self._events.highest[events]
        s, n = weighed.successes[start, events], weighed.trials[start, events]
        if np.any((s < lowest * n) | (s > highest * n)) or not n.any():
            return False
        if measure != "distance":
            inside = self._inside(s, n, lowest, highest)
            return bool(np.all(inside >= self._sure(s.size, group)))
        tolerance = self._events.tolerance[column]
        error = self._distance_error(column, float(n.max()))
        if error >= tolerance:
            return False
        counts = _merged_from(timeline, int(weighed.starts[start]))
        return distance(self._cells.column(column, counts)) + error <= tolerance

    def _is_gone(self, group: int, start: int, weighed: Weighed) -> bool:
        """Whether the rows from a start on are surely not shifted by any that is looked for."""
        shifts = self.weigher.shifts[self.weigher.groups[group][0]]
        here = slice(start, start + 1)
        against = shifts.log_evidence_against(weighed.since[here], weighed.clusters.each(here))
        return bool(against[0] >= self._sure(len(shifts.by), group))

    def _distance_error(self, column: int, rows: float) -> float:
        chance = self._chance_of(self.weigher.place[column, "distance"])
        values = self._cells.known[column].size
        if values <= FEW_VALUES:
            return variation_error(rows, values + 1, chance)
        return distance_error(rows, chance)

    def _sure(self, events: int, group: int) -> float:
        """The logarithm of evidence that makes one sure of all of a measure's events at once."""
        return float(-np.log(self._chance_of(group) / events))

    def _chance_of(self, group: int) -> float:
        """That a measure is called stable and is not."""
        return float(self._chance * self.weigher.parts[group] / len(self._events.tolerance))

    @staticmethod
    def _inside(
        successes: NDArray[np.float64],
        trials: NDArray[np.float64],
        lowest: NDArray[np.float64],
        highest: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Evidence that shares are between their bounds."""
        return np.minimum(
            np.where(highest < 1, log_evidence_below(successes, trials, highest), np.inf),
            np.where(lowest > 0, log_evidence_above(successes, trials, lowest), np.inf),
        )

    def _lower_bounds(
        self, weighed: Weighed, best: NDArray[np.int64], needed: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(groups,) the largest distances that are surely exceeded, from each group's start."""
        found = np.zeros(best.size)
        measures = [measure for _, measure in self.weigher.groups]
        groups = np.array([at for at, of in enumerate(measures) if of == "distance"], np.int64)

        def exceeded(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
            evidence = self.weigher.of_distances(groups, distances, weighed, best[groups])
            found: NDArray[np.bool_] = evidence >= needed[groups]
            return found

        # Most often not even a distance of zero is exceeded.
        groups = groups[exceeded(np.zeros(groups.size))] if groups.size else groups
        if not groups.size:
            return found
        low, bits = np.zeros(groups.size), 0
        while bits < _DISTANCE_BITS:
            more = min(_BITS_AT_ONCE if groups.size <= _FEW_GROUPS else 1, _DISTANCE_BITS - bits)
            bits += more
            steps = np.arange(1, 1 << more)[:, np.newaxis] / (1 << bits)
            # Up to the first that is not.
            low += np.logical_and.accumulate(exceeded(low + steps)).sum(axis=0) / (1 << bits)
        found[groups] = low
        return found

    def _distance(
        self,
        cells: ColumnCells,
        lower: float,
        verdict: Verdict,
        effect: float,
        common: dict[str, Any],
    ) -> Judged:
        column, value, rows = common["column"], distance(cells), cells.window_rows
        tolerance = self._events.tolerance[column]
        error = partial(self._distance_error, column)
        effective = rows / effect
        upper = min(value + error(effective), 1.0)
        judges = tolerance < 1  # a reference of a few rows lets every distance be near enough
        if verdict != "drifted" and judges and upper <= tolerance:
            verdict = "stable"
        rows_needed = None
        if verdict == "undecided" and judges:
            likely = without_chance(cells, value, effective)
            needed = rows_for_drift(effective, likely, tolerance, common["log10_needed"])
            if needed is None:
                needed = rows_for_stable(effective, lambda n: likely + error(n) <= tolerance)
            rows_needed = None if needed is None else round(needed * effect)
        return Judged(
            verdict=verdict,
            rows=rows,
            effective=effective,
            value=value,
            reference=0.0,
            lowest=0.0,
            highest=tolerance,
            interval=(min(float(lower), value), upper),
            event="",
            rows_needed=rows_needed,
            **common,
        )

    def _shares(self, s: NDArray[np.float64], n: NDArray[np.float64]) -> _Shares:
        """Of each group, the event that is farthest out of its bounds, or nearest to leaving."""
        lowest, highest = self._events.lowest, self._events.highest
        groups, sizes = self._events.groups, self._events.sizes
        out = np.maximum(log_evidence_above(s, n, highest), log_evidence_below(s, n, lowest))
        inside = self._inside(s, n, lowest, highest)
        sure = np.array([self._sure(size, group) for group, size in enumerate(sizes.tolist())])
        events = [
            begin + int(np.argmax(part) if np.isfinite(part.max()) else np.argmin(within))
            for begin, part, within in (
                (begin, out[begin : begin + size], inside[begin : begin + size])
                for begin, size in zip(groups.tolist(), sizes.tolist(), strict=True)
            )
        ]
        return _Shares(
            np.array(events),
            s[events],
            n[events],
            np.minimum.reduceat(inside, groups) >= sure,
            sure,
            *share_intervals(s[events], n[events], sure),
        )

    def _share(
        self,
        shares: _Shares,
        group: int,
        verdict: Verdict,
        effect: float,
        common: dict[str, Any],
    ) -> Judged:
        event, effective = int(shares.events[group]), float(shares.trials[group])
        share, low, high = (
            float(of[event])
            for of in (self._events.reference, self._events.lowest, self._events.highest)
        )
        value = float(shares.successes[group]) / effective if effective else 0.0
        judges = low > 0 or high < 1
        if verdict != "drifted" and judges and shares.stable[group]:
            verdict = "stable"
        rows, rows_needed = round(effective * effect), None
        if verdict == "undecided" and rows:
            likely = share_without_chance(value, share, effective)
            near = low <= likely <= high
            nats = shares.sure[group] if near else common["log10_needed"] * np.log(10)
            limits = [limit for limit in (low, high) if 0 < limit < 1 and limit != likely]
            if not near:
                limits = [high if likely > high else low]
            needed = max((rows_at(likely, limit, float(nats)) for limit in limits), default=None)
            rows_needed = None if needed is None else max(round(needed * effect), rows + 1)
        return Judged(
            verdict=verdict,
            rows=rows,
            effective=effective,
            value=value,
            reference=share,
            lowest=low,
            highest=high,
            interval=(float(shares.low[group]), float(shares.high[group])),
            event=self._events.names[event],
            rows_needed=rows_needed,
            **common,
        )

    def _shift(
        self,
        weighed: Weighed,
        distance: Judged,
        verdict: Verdict,
        start: int,
        common: dict[str, Any],
    ) -> Judged:
        """That which has the most evidence; 0 when none has enough to tell of.

        Args:
            weighed: the evidence.
            distance: what is said of that.
            verdict: on the shift.
            start: that is told of.
            common: attributes.
        """
        shifts = self.weigher.shifts[common["column"]]
        here = slice(start, start + 1)
        clusters, since = weighed.clusters.each(here), weighed.since[here]
        evidence, rows = shifts.log_evidence(since, clusters)[0], int(shifts.count(since).sum())
        best = int(np.argmax(evidence))
        gain = float(evidence[best])
        rows_needed = None
        if verdict == "undecided" and gain >= _TOLD_FROM:
            nats = common["log10_needed"] * np.log(10) + np.log(len(evidence))
            rows_needed = max(round(rows * nats / gain), rows + 1)
        elif verdict == "undecided" and (distance.rows_needed or 0) > rows:
            rows_needed = distance.rows_needed
        return Judged(
            verdict=verdict,
            rows=rows,
            effective=rows / float(clusters.effect[0]),
            value=float(shifts.by[best]) if gain >= _TOLD_FROM else 0.0,
            reference=0.0,
            lowest=0.0,
            highest=0.0,
            interval=None,
            event="",
            rows_needed=rows_needed,
            **common,
        )


def _one_for_each_time(timeline: Timeline[Counts]) -> Sequence[Bucket[Counts]]:
    """The buckets, those of one and the same time merged: so it does not matter how rows came."""
    if len({bucket.start for bucket in timeline.buckets}) == len(timeline.buckets):
        return timeline.buckets
    found = []
    for _, group in groupby(timeline.buckets, key=attrgetter("start")):
        same = list(group)
        summary = timeline.merge_buckets(same)
        assert summary is not None  # noqa: S101 - for mypy: there is one at least
        found.append(replace(same[0], rows=sum(each.rows for each in same), summary=summary))
    return found


def _merged_from(timeline: Timeline[Counts], first: int) -> Counts:
    """The counts of all buckets from one on."""
    counts = timeline.merge_buckets(timeline.buckets[first:])
    assert counts is not None  # noqa: S101 - for mypy: a bucket holds rows
    return counts
