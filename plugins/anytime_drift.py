"""Drift that is sure: one budget of false alarms for a monitor's whole life, all its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitorkit import Chunk, Finding, Judgement, Monitor, Timeline, excluded, hookimpl
from monitorkit.counts import ColumnCells, ColumnOptions, Counts, CountsMonitor
from monitorkit.histograms import histogram
from monitorkit.sequential.events import FEW_VALUES, Limits, Measure
from monitorkit.sequential.rule import Rule
from monitorkit.sequential.verdicts import Judged, Look
from monitorkit.units import Rate, parse_rate

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MEDIAN = 0.5
NEAREST_THE_MIDDLE = sorted(QUANTILES, key=lambda at: abs(at - MEDIAN))

FINDINGS: Mapping[Measure, str] = {
    "distance": "distance",
    "shares": "share",
    "missing": "missing_share",
    "new_values": "new_values_share",
    "out_of_range": "out_of_range_share",
    "shift": "shift",
}
STATISTICS: Mapping[Measure, str] = {
    "distance": "Kolmogorov-Smirnov distance",
    "shares": "share of a frequent value, or beyond an outer quantile",
    "missing": "share of rows without a value",
    "new_values": "share of values that the reference never had",
    "out_of_range": "share of values outside the reference's range",
    "shift": "what added to all of the reference's values explains the rows best",
}
TOTAL_VARIATION = "total variation distance"

_LARGEST = float(np.finfo(np.float64).max)


class AnytimeDriftOptions(ColumnOptions):
    """Options.

    Attributes:
        tolerance: a distance from the reference up to here is no drift; nor is such a rise or fall
            of the missing share.
        factor: nor is a share that changed by less than this factor, up or down.
        smallest_share: nor are smaller shares than this.
        false_alarms: how many are expected at most, over all columns, however often a cycle runs.
        confidence: how sure it is that a column called stable is within its tolerance.
    """

    tolerance: float = Field(default=0.05, gt=0, lt=1)
    factor: float = Field(default=1.5, gt=1)
    smallest_share: float = Field(default=0.002, gt=0, lt=1)
    false_alarms: Rate = "1 in 365 days"
    confidence: float = Field(default=0.99, gt=0, lt=1)


class AnytimeDrift(CountsMonitor[AnytimeDriftOptions]):
    """Finds the distance of each column, and shares of its values, with a verdict on each.

    A verdict is `stable`, `drifted` or `undecided`: too few rows to tell. A drift is announced
    once; it goes on until it is sure that it is over, or a whole look-back has not shown it.
    """

    options_type = AnytimeDriftOptions

    def __init__(self, options: AnytimeDriftOptions, reference: Chunk) -> None:
        super().__init__(options, reference)
        limits = Limits(options.tolerance, options.factor, options.smallest_share)
        rate = parse_rate(options.false_alarms)
        self._rule = Rule(self.cells, self.chosen, limits, rate, options.confidence)

    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift where a tolerance is exceeded for sure."""
        alarms = {
            (finding.column, finding.measure): _Alarm.read(finding.detail, timeline.now)
            for finding in previous
        }
        keys: dict[tuple[str | None, str], tuple[int, Measure]] = {
            (self.cells.names[index], of): (index, measure)
            for index in self.chosen
            for measure, of in FINDINGS.items()
        }
        known = {keys[key]: alarm for key, alarm in alarms.items() if key in keys}
        look = self._rule.look(
            timeline,
            {key: alarm.not_before for key, alarm in known.items() if alarm.not_before},
            [key for key, alarm in known.items() if alarm.on],
        )
        if not look.judged:  # no start with rows is followed
            since = timeline.since or timeline.now
            # All of them: the share of drifted columns is of those that there are.
            kept = [self._carried(key, alarm.unseen(since)) for key, alarm in known.items()]
            return Judgement([*kept, *self._left_out()])
        drifted = {column for (column, _), alarm in known.items() if alarm.on}
        effect = Finding(
            "design_effect",
            look.design_effect,
            statistic="rows that are worth one independent row",
            detail={"estimated": look.estimated},
        )
        findings = [effect]
        for judged in sorted(look.judged, key=attrgetter("column")):
            alarm = known.get((judged.column, judged.measure), _Alarm())
            alarm = alarm.next(judged, timeline, others=judged.column in drifted)
            if alarm.on:
                drifted.add(judged.column)
            findings.append(self._finding(judged, look, alarm))
        return Judgement([*findings, *self._left_out()])

    def _left_out(self) -> list[Finding]:
        return [
            excluded(self.cells.names[index], "no values in the reference")
            for index in self.chosen
            if not self.cells.known[index].size
        ]

    def _carried(self, key: tuple[int, Measure], alarm: _Alarm) -> Finding:
        """What is still so of a measure that cannot be judged now."""
        column, measure = key
        begins = alarm.drifted_since if alarm.since else "undecided"
        return Finding(
            FINDINGS[measure],
            None,
            column=self.cells.names[column],
            statistic=STATISTICS[measure],
            drift=alarm.on,
            since=alarm.since,
            detail={
                "verdict": "undecided",
                "alarm": alarm.kind,
                "says": f"{begins}: too few rows of late to look again",
                **alarm.kept(),
            },
        )

    def _finding(self, judged: Judged, look: Look, alarm: _Alarm) -> Finding:
        name = self.cells.names[judged.column]
        detail: dict[str, Any] = {
            "verdict": judged.verdict,
            "alarm": alarm.kind,
            "says": "",
            "rows": judged.rows,
            "rows_since": judged.since.isoformat(),
            "rows_needed": judged.rows_needed,
            "log10_evidence": round(judged.log10_evidence, 2),
            "log10_evidence_needed": round(judged.log10_needed, 2),
            **alarm.kept(),
        }
        statistic = STATISTICS[judged.measure]
        threshold: float | None = judged.highest
        if judged.measure == "distance":
            cells = look.columns[judged.column]
            if cells.known.size <= FEW_VALUES:
                statistic = TOTAL_VARIATION
            detail |= _moved(cells)
            detail["histogram"] = histogram(cells)
        elif judged.measure == "shift":
            threshold = None
        else:
            if judged.value < judged.reference:
                threshold = judged.lowest
            detail |= {
                "event": judged.event,
                "reference": judged.reference,
                "near_enough": [judged.lowest, judged.highest],
            }
        detail["says"] = _said(judged, alarm, detail)
        return Finding(
            FINDINGS[judged.measure],
            judged.value,
            column=name,
            statistic=statistic,
            threshold=threshold,
            drift=alarm.on,
            interval=judged.interval,
            since=alarm.since,
            detail=detail,
        )


@dataclass(frozen=True, slots=True)
class _Alarm:
    """How a verdict goes on from cycle to cycle; it is kept in the finding's detail.

    Attributes:
        kind: new | continuing | recovered; None: there is none.
        since: of what rows on there was a drift when it was new.
        shown: when the window last showed it.
        not_before: a drift ended then; earlier rows do not count any more.
    """

    kind: str | None = None
    since: datetime | None = None
    shown: datetime | None = None
    not_before: datetime | None = None

    @property
    def on(self) -> bool:
        """Whether there is a drift."""
        return self.kind in {"new", "continuing"}

    @property
    def drifted_since(self) -> str:
        """How a sentence begins while there is a drift."""
        return f"drifted since {self.since:%Y-%m-%d %H:%M} UTC"

    def kept(self) -> dict[str, str]:
        """What `read` reads."""
        times = {"drift_since": self.since, "shown": self.shown, "not_before": self.not_before}
        return {name: time.isoformat() for name, time in times.items() if time is not None}

    @classmethod
    def read(cls, detail: Mapping[str, Any], now: datetime) -> _Alarm:
        """From the detail of the finding before; a clock that was ahead then is right by now."""
        if "verdict" not in detail:  # of another kind of monitor
            return cls()
        times = (detail.get(name) for name in ("drift_since", "shown", "not_before"))
        since, shown, not_before = (
            min(datetime.fromisoformat(time), now) if time else None for time in times
        )
        return cls(detail.get("alarm"), since, shown, not_before)

    def next(self, judged: Judged, timeline: Timeline[Counts], *, others: bool) -> _Alarm:
        """What it is after one more cycle.

        Args:
            judged: now.
            timeline: of now.
            others: another measure of the column had drifted before: this is the same change.
        """
        now, oldest = timeline.now, timeline.since or timeline.buckets[0].start
        if judged.verdict == "drifted":
            kind = "continuing" if self.on or others else "new"
            return _Alarm(kind, self.since or judged.since, now, self.not_before)
        if self.on and judged.verdict == "stable":
            # No start that has shown the drift may show it again.
            return _Alarm("recovered", not_before=max(judged.since, self.shown or judged.since))
        return self.unseen(oldest)

    def unseen(self, oldest: datetime) -> _Alarm:
        """What it is after a cycle that shows no drift, and does not make sure that it is over.

        Args:
            oldest: when the window begins.
        """
        if not self.on:
            gone = self.not_before is None or self.not_before <= oldest
            return _Alarm(not_before=None if gone else self.not_before)
        if self.shown is not None and self.shown <= oldest:
            return _Alarm("recovered")
        return replace(self, kind="continuing")


def _said(judged: Judged, alarm: _Alarm, detail: Mapping[str, Any]) -> str:
    """The finding in a sentence."""
    if judged.measure == "distance":
        what = f"a distance of {judged.value:.3g}, {judged.highest:.3g} is near enough"
        if judged.verdict == "drifted" or alarm.on:
            what += _where_to(detail["quantiles"], detail["direction"])
    elif judged.measure == "shift":
        what = _shifted(judged)
    else:
        what = (
            f"{judged.event}: {judged.value:.2%} of the rows, {judged.reference:.2%} in the "
            f"reference; {judged.lowest:.2%} to {judged.highest:.2%} is near enough"
        )
    match judged.verdict, alarm.on:
        case "drifted", _:
            begins = alarm.drifted_since
        case _, True:
            begins = "drifted before, and not surely back"
        case "stable", _:
            begins = "stable"
        case _:
            begins = "undecided"
            if judged.rows_needed is not None:
                begins += f" ({judged.rows:,} rows, some {judged.rows_needed:,} needed)"
    return f"{begins}: {what}"


def _shifted(judged: Judged) -> str:
    """Which it is: a shift by more, or another change, is nearest to one of them, too."""
    if judged.verdict == "stable":
        return "the distance is near enough, and no shift of all values explains the rows"
    if not judged.value:
        return "no shift of all values explains the rows better than what is near enough"
    way = "higher" if judged.value > 0 else "lower"
    return f"of a few shifts of all values {abs(judged.value):.3g} {way} explains the rows best"


def _where_to(quantiles: Mapping[str, Sequence[float]], direction: str | None) -> str:
    """Which way the values went, with a quantile that shows it, the median if that does."""
    for at in NEAREST_THE_MIDDLE if direction is not None else ():
        if f"{at:g}" not in quantiles:
            continue
        before, now = quantiles[f"{at:g}"]
        shows = {"higher": now > before, "lower": now < before}.get(str(direction), True)
        if shows and f"{before:.6g}" != f"{now:.6g}":
            name = "median" if at == MEDIAN else f"{100 * at:g} % quantile"
            return f"; values are {direction}: {name} from {before:.6g} to {now:.6g}"
    return ""


def _moved(cells: ColumnCells) -> dict[str, Any]:
    """Quantiles in the feature's units, and which way the values went."""
    if not cells.window_rows or not cells.reference_rows:
        return {"quantiles": {}, "direction": None}
    at = np.array(QUANTILES)
    before = _quantiles(cells.known, cells.reference, np.zeros(len(cells.reference)), at)
    now = _quantiles(cells.known, cells.window, cells.distances, at)
    higher = np.cumsum(cells.reference) / cells.reference_rows
    higher = higher - np.cumsum(cells.window) / cells.window_rows
    up, down = float(higher.max(initial=0.0)), float(-higher.min(initial=0.0))
    direction = None
    if max(up, down) > 0:
        one_way = min(up, down) < max(up, down) / 2
        direction = ("higher" if up > down else "lower") if one_way else "spread otherwise"
    pairs = zip(QUANTILES, before.tolist(), now.tolist(), strict=True)
    return {"quantiles": {f"{q:g}": [a, b] for q, a, b in pairs}, "direction": direction}


def _quantiles(
    known: NDArray[np.float64],
    counts: NDArray[np.int64],
    distances: NDArray[np.float64],
    at: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The smallest values with at least such a share of the rows up to them.

    Between two known values it is the mean of the rows that are there, so it is off by less than
    their distance.
    """
    ranks = np.maximum(np.ceil(at * counts.sum()), 1)
    cell = np.searchsorted(np.cumsum(counts), ranks)
    edge = known[np.clip((cell - 1) // 2, 0, known.size - 1)]
    inside = np.where(cell % 2 == 0, distances[cell] / np.maximum(counts[cell], 1), 0.0)
    with np.errstate(over="ignore"):
        found: NDArray[np.float64] = edge + np.where(cell == 0, -inside, inside)
    return np.clip(found, -_LARGEST, _LARGEST)


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `anytime_drift`."""
    return {"anytime_drift": AnytimeDrift}
