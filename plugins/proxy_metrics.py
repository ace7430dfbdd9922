"""Label-free proxies of a model's behaviour: positive rate, score distribution, missing values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isqrt, sqrt
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from monitorkit import Chunk, Finding, Judgement, Monitor, Options, Timeline, hookimpl

# Moments are those of scores rounded to 2**-30: sums of integers are the same in any order.
_STEP_BITS = 30
_STEPS = 1 << _STEP_BITS
MOMENT_ERROR = 2.0**-31
"""Bound on the error of the mean and the standard deviation."""

GRID = 4096
"""Bins of the quantiles; a quantile is off by less than 1/4096, and says by how much."""

ENTROPY_EDGES = np.linspace(0.0, 1.0, 11)
QUANTILES = {"probability_q25": 0.25, "probability_median": 0.5, "probability_q75": 0.75}
MEASURES = (
    "predictions",
    "positive_rate",
    "probability_mean",
    "probability_std",
    *QUANTILES,
    "probability_entropy",
)
"""Of each window."""

CHANGES = ("predictions", "positive_rate", "probability_mean", "probability_entropy")


class ProxyOptions(Options):
    """Options.

    Attributes:
        threshold: a score above it is a positive prediction, as one above 0.5 is to the service.
        hours: the shorter windows in which everything is measured again.
    """

    threshold: float = Field(default=0.5, ge=0, le=1)
    hours: tuple[Annotated[int, Field(ge=1, le=24 * 365)], ...] = (1, 6, 24)

    @field_validator("hours")
    @classmethod
    def _once_each(cls, hours: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(hours)) < len(hours):
            raise ValueError("each once")
        return hours


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What is kept of some rows' scores, all of it exact; k grid bins are occupied.

    Attributes:
        rows: all rows. `positives`: those with a score above the threshold.
        missing: (columns + 1,) int64, rows without a value; the score's own last.
        moments: (3,) int64, sums of the rounded scores and of their squares, the latter in units
            of 2**30 and what is left.
        deciles: (10,) int64, rows in ten equal bins of [0, 1], as numpy.histogram counts them.
        bins: (k,) int64, sorted occupied bins of the grid. `counts`: (k,) int64, their rows.
        lowest: (k,) smallest score in the bin. `highest`: (k,) largest.
    """

    rows: int
    positives: int
    missing: NDArray[np.int64]
    moments: NDArray[np.int64]
    deciles: NDArray[np.int64]
    bins: NDArray[np.int64]
    counts: NDArray[np.int64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]


class ProxyMetrics(Monitor[ProxyOptions, Scores]):
    """Measures that need no labels, over the whole window and over its last hours.

    Findings: `predictions`, `positive_rate` (with its 95 % Wilson interval), `probability_mean`,
    `_std` (population), `_median`, `_q25`, `_q75` (as numpy.quantile, `interval` bounds them) and
    `_entropy` (bits, over ten equal bins); the same with `_1h`, `_6h`, `_24h` (None where the
    look-back is shorter); four of them with `_change_per_hour` since the previous cycle;
    `missing_share` per feature. None is judged.
    """

    options_type = ProxyOptions

    def summarise(self, chunk: Chunk) -> Scores:
        """Sum up in one pass over the sorted scores; a score outside [0, 1] counts as missing."""
        return _summarised((chunk,), self.options.threshold)[0]

    def summarise_each(self, chunks: Sequence[Chunk]) -> Sequence[Scores]:
        """Sum up chunks, all at once."""
        return _summarised(chunks, self.options.threshold)

    def merge(self, left: Scores, right: Scores) -> Scores:
        """Add up the counts; minimum and maximum of bins that both occupy."""
        return _merged((left, right))

    def merge_all(self, summaries: Sequence[Scores]) -> Scores:
        """Add up, all at once."""
        return _merged(summaries)

    def judge(self, timeline: Timeline[Scores], previous: Sequence[Finding]) -> Judgement:
        """Measure; nothing is judged, so no finding carries a verdict."""
        scores = timeline.all()
        if scores is None:
            return Judgement([])
        at: dict[str, Any] = {"at": timeline.now.isoformat()}
        if without := int(scores.missing[-1]):
            at["rows_without_score"] = without  # none, or one that is no probability
        findings = list(measures(scores, "", at))
        findings += changes(findings, previous, timeline.now)
        for hours in self.options.hours:
            findings += last_hours(timeline, hours)
        for index, name in enumerate(self.reference.columns):
            findings.append(
                Finding(
                    "missing_share",
                    int(scores.missing[index]) / max(scores.rows, 1),
                    column=name,
                    statistic="share of rows without a value",
                    detail={"rows": scores.rows},
                )
            )
        return Judgement(findings)


def last_hours(timeline: Timeline[Scores], hours: int) -> Iterator[Finding]:
    """Everything that is measured of the last hours.

    Where the window begins later, the values are None: they would be those of a shorter time.

    Args:
        timeline: the window.
        hours: also in the measures' names.
    """
    since = timeline.since
    if since is None or since <= timeline.now - timedelta(hours=hours):
        yield from measures(timeline.last(hours=hours), f"_{hours}h", {"hours": hours})
        return
    for name in MEASURES:
        reason: dict[str, Any] = {"hours": hours, "reason": "longer than the look-back"}
        yield Finding(f"{name}_{hours}h", None, detail=reason)


def measures(scores: Scores | None, suffix: str, detail: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that is measured of one window's scores.

    Args:
        scores: None for a window without rows: the values are None, and `detail` says why.
        suffix: of the measures' names, such as `_6h`.
        detail: what all the findings carry.
    """
    yield Finding(f"predictions{suffix}", float(scores.rows if scores else 0), detail=detail)
    rows = int(scores.counts.sum()) if scores else 0
    if scores is None or not rows:
        for name in MEASURES[1:]:
            reason = {**detail, "reason": "no scores in this window"}
            yield Finding(f"{name}{suffix}", None, detail=reason)
        return
    yield Finding(
        f"positive_rate{suffix}",
        scores.positives / rows,
        interval=wilson_interval(scores.positives, rows),
        detail=detail,
    )
    mean, deviation = moments(scores, rows)
    error = {**detail, "error": MOMENT_ERROR}
    yield Finding(f"probability_mean{suffix}", mean, detail=error)
    yield Finding(f"probability_std{suffix}", deviation, detail=error)
    for name, share in QUANTILES.items():
        value, lower, upper = quantile(scores, share)
        yield Finding(f"{name}{suffix}", value, interval=(lower, upper), detail=detail)
    yield Finding(
        f"probability_entropy{suffix}",
        entropy(scores.deciles),
        statistic="Shannon entropy in bits, ten equal bins",
        detail=detail,
    )


def changes(
    findings: Sequence[Finding], previous: Sequence[Finding], now: datetime
) -> Iterator[Finding]:
    """Change per hour since the previous cycle, from the time that its findings carry.

    Args:
        findings: of the whole window.
        previous: of the previous cycle.
        now: the end of the window.
    """
    current = {finding.measure: finding for finding in findings}
    before = {finding.measure: finding for finding in previous if finding.column is None}
    for name in CHANGES:
        old, new = before.get(name), current[name].value
        measure = f"{name}_change_per_hour"
        at = old.detail.get("at") if old else None
        if old is None or old.value is None or new is None or not isinstance(at, str):
            yield Finding(measure, None, detail={"reason": "no value to compare with"})
            continue
        hours = (now - datetime.fromisoformat(at)).total_seconds() / 3600
        if hours <= 0:
            yield Finding(measure, None, detail={"reason": "no time since the previous cycle"})
            continue
        passed: dict[str, Any] = {"since": at, "hours": hours, "previous": old.value}
        yield Finding(measure, (new - old.value) / hours, detail=passed)


def moments(scores: Scores, rows: int) -> tuple[float, float]:
    """Mean and population standard deviation of the scores, each to within 2**-31.

    They are those of the rounded scores, in whole numbers until the last step: no cancellation.
    """
    total, high, low = (int(moment) for moment in scores.moments)
    scatter = rows * (high * _STEPS + low) - total * total
    # The root of the whole number first: it may be too large for a float's 53 bits to hold.
    deviation = isqrt(scatter << 64) / (rows * _STEPS << 32)
    return total / (rows * _STEPS), deviation


def quantile(scores: Scores, share: float) -> tuple[float, float, float]:
    """The quantile that numpy interpolates linearly, with a lower and an upper bound.

    The first and the last score of a bin are known exactly, those between them are spread evenly.
    """
    ends = np.cumsum(scores.counts)
    position = (int(ends[-1]) - 1) * share
    first = int(position)
    weight = position - first

    def ranked(rank: int) -> NDArray[np.float64]:
        index = int(np.searchsorted(ends, rank, side="right"))
        count = int(scores.counts[index])
        low, high = float(scores.lowest[index]), float(scores.highest[index])
        inside = rank - (int(ends[index]) - count)
        if inside == 0:
            return np.array([low, low, low])
        if inside == count - 1:
            return np.array([high, high, high])
        return np.array([low + (high - low) * inside / (count - 1), low, high])

    below = ranked(first)
    if not weight:
        return float(below[0]), float(below[1]), float(below[2])
    mixed = below + (ranked(first + 1) - below) * weight
    return float(mixed[0]), float(mixed[1]), float(mixed[2])


def entropy(counts: NDArray[np.int64]) -> float:
    """Shannon entropy in bits; equals scipy.stats.entropy(counts, base=2).

    References:
        C. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27
        (1948), 379-423.
    """
    shares = counts[counts > 0] / counts.sum()
    return abs(float(np.sum(shares * np.log2(shares))))


def wilson_interval(hits: int, rows: int) -> tuple[float, float]:
    """95 % confidence interval of a share, within [0, 1] also for small counts.

    References:
        E. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
        of the American Statistical Association 22 (1927), 209-212.
    """
    z = 1.959963984540054
    share = hits / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, middle - half), min(1.0, middle + half)


def _summarised(chunks: Sequence[Chunk], threshold: float) -> list[Scores]:
    """What can be said of all scores at once is, and then cut into the chunks' parts."""
    sorted_scores = [_probabilities(chunk) for chunk in chunks]
    scores = np.concatenate([np.zeros(0), *sorted_scores])
    ends = np.cumsum([each.size for each in sorted_scores], dtype=np.int64)
    steps = np.rint(scores * _STEPS).astype(np.int64)
    squares = steps * steps
    sums = [
        np.diff(np.concatenate(([0], np.cumsum(each)))[ends], prepend=0)
        for each in (steps, squares >> _STEP_BITS, squares & (_STEPS - 1))
    ]
    grid = np.minimum((scores * GRID).astype(np.int64), GRID - 1)
    begins = np.diff(grid, prepend=-1) != 0
    begins[ends[:-1][ends[:-1] < grid.size]] = True
    starts = np.flatnonzero(begins)
    counts = np.diff(starts, append=grid.size)
    bins, lowest, highest = grid[starts], scores[starts], scores[starts + counts - 1]
    cuts = [0, *np.searchsorted(starts, ends).tolist()]
    found = []
    for at, (chunk, own) in enumerate(zip(chunks, sorted_scores, strict=True)):
        part = slice(cuts[at], cuts[at + 1])
        missing = [np.count_nonzero(column) for column in np.isnan(chunk.features).T]
        below = np.searchsorted(own, ENTROPY_EDGES[1:-1])
        scored = Scores(
            rows=len(chunk),
            positives=int(own.size - np.searchsorted(own, threshold, "right")),
            missing=np.array([*missing, len(chunk) - own.size], np.int64),
            moments=np.array([each[at] for each in sums], np.int64),
            deciles=np.diff(below, prepend=0, append=own.size),
            bins=bins[part].copy(),  # no views: they would keep what all chunks hold
            counts=counts[part].copy(),
            lowest=lowest[part].copy(),
            highest=highest[part].copy(),
        )
        found.append(scored)
    return found


def _merged(summaries: Sequence[Scores]) -> Scores:
    bins = np.concatenate([each.bins for each in summaries])
    order = np.argsort(bins, kind="stable")
    bins = bins[order]
    starts = np.flatnonzero(np.diff(bins, prepend=-1))

    def total(name: str) -> NDArray[np.int64]:
        return np.asarray(np.sum([getattr(each, name) for each in summaries], axis=0))

    def of_bins(name: str, how: np.ufunc) -> NDArray[Any]:
        values = np.concatenate([getattr(each, name) for each in summaries])[order]
        return np.asarray(how.reduceat(values, starts)) if starts.size else values

    return Scores(
        rows=sum(each.rows for each in summaries),
        positives=sum(each.positives for each in summaries),
        missing=total("missing"),
        moments=total("moments"),
        deciles=total("deciles"),
        bins=bins[starts],
        counts=of_bins("counts", np.add),
        lowest=of_bins("lowest", np.minimum),
        highest=of_bins("highest", np.maximum),
    )


def _probabilities(chunk: Chunk) -> NDArray[np.float64]:
    """(k,) those of its scores that are probabilities, sorted."""
    scores = np.sort(chunk.scores)
    return scores[slice(*np.searchsorted(scores, (0.0, np.nextafter(1.0, 2.0))))]


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `proxy_metrics`."""
    return {"proxy_metrics": ProxyMetrics}
