"""What one cycle comes to in a timeline: a few numbers of each result, and those of its columns."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from monitorkit.contracts import DriftSummary, Finding, Outcome, RunResult

State = Literal["ok", "drift", "failed", "not judged"]

PROXY_METRICS = "proxy_metrics"
OVER_TIME = ("predictions_1h", "positive_rate_1h", "probability_mean_1h")
"""Measures of the window as a whole that are shown over time, of the kind `proxy_metrics`."""

MISSING = "missing_share"
DISTANCE = "distance"


@dataclass(frozen=True, slots=True)
class Number:
    """A measured number: its value, its interval, what it is compared with, and the verdict."""

    value: float
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    drift: bool | None = None

    @classmethod
    def of(cls, finding: Finding) -> Number | None:
        """Of a finding that has a value; a limit of something else, as a p-value, is left out."""
        if finding.value is None:
            return None
        low, high = finding.interval or (None, None)
        threshold = None if "compares" in finding.detail else finding.threshold
        return cls(finding.value, low, high, threshold, finding.drift)


@dataclass(frozen=True, slots=True)
class Outline:
    """One cycle.

    Attributes:
        state: drift: the verdict's monitor found some; failed: a monitor failed, none drifted; not
            judged: the verdict's monitor took no part, or could judge no feature.
        dataset: whether the data set drifted, by the share rule; None: not judged.
        drifted: features that did. `evaluated`: features that could.
        troubled: monitors that failed or timed out, with the reason.
        reports: attachments by monitor, relative to the reports folder.
        measures: those of `OVER_TIME` that there are.
    """

    run_id: str
    trigger: str
    started_at: datetime
    finished_at: datetime
    version: str
    rows: int
    state: State
    dataset: bool | None
    drifted: tuple[str, ...]
    evaluated: int
    troubled: Mapping[str, str]
    reports: Mapping[str, tuple[str, ...]]
    measures: Mapping[str, Number]

    @classmethod
    def of(cls, result: RunResult) -> Outline:
        """Of a result, which may be a thinned one."""
        drift, judge = result.drift, verdict(result)
        drifted = result.outcomes if judge is None else [judge]
        failed = troubled(result)
        state: State = "failed" if failed else "ok" if _judged(drift) else "not judged"
        if any(outcome.status == "drift" for outcome in drifted):
            state = "drift"
        return cls(
            run_id=result.run_id,
            trigger=result.trigger,
            started_at=result.started_at,
            finished_at=result.finished_at,
            version=sys.intern(result.window.model_version or "unknown"),
            rows=result.window.rows,
            state=state,
            dataset=drift.dataset_drift_detected if drift else None,
            drifted=tuple(map(sys.intern, drift.drifted_features)) if drift else (),
            evaluated=drift.num_features_evaluated if drift else 0,
            troubled=failed,
            reports={
                outcome.name: tuple(outcome.reports)
                for outcome in result.outcomes
                if outcome.reports
            },
            measures=_over_time(result),
        )


def troubled(result: RunResult) -> dict[str, str]:
    """The monitors that failed or timed out, with the reason."""
    return {
        outcome.name: f"{outcome.status.replace('_', ' ')}: {outcome.error or 'no reason'}"
        for outcome in result.outcomes
        if outcome.status in ("failed", "timed_out")
    }


def verdict(result: RunResult) -> Outcome | None:
    """The outcome of the monitor that makes the summary."""
    return None if result.drift is None else result.outcome(result.drift.monitor)


def _judged(drift: DriftSummary | None) -> bool:
    """Whether some feature was judged; or none was asked for, but the score."""
    return drift is not None and (drift.num_features_evaluated > 0 or not drift.excluded_features)


def _over_time(result: RunResult) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for outcome in result.outcomes:
        if outcome.kind != PROXY_METRICS:
            continue
        for finding in outcome.findings:
            number = Number.of(finding)
            if finding.column is None and finding.measure in OVER_TIME and number is not None:
                found.setdefault(finding.measure, number)
    return found


@dataclass(frozen=True, slots=True)
class Columns:
    """What one cycle measured of each column.

    Attributes:
        distances: from the reference, by the verdict's monitor. `missing`: shares.
    """

    distances: Mapping[str, Number]
    missing: Mapping[str, Number]

    @classmethod
    def of(cls, result: RunResult) -> Columns:
        """Of a result."""
        judge = verdict(result)
        distances: dict[str, Number] = {}
        missing: dict[str, Number] = {}
        measure = primary(judge)
        for outcome in sorted(result.outcomes, key=lambda outcome: outcome is not judge):
            for finding in outcome.findings:
                number = Number.of(finding)
                if finding.column is None or number is None:
                    continue
                if outcome is judge and finding.measure == measure:
                    distances.setdefault(finding.column, number)
                elif finding.measure == MISSING:
                    missing.setdefault(finding.column, number)
        return cls(distances, missing)


def primary(outcome: Outcome | None) -> str | None:
    """The measure that says how far a column is: `distance`, or the first one of its columns."""
    measures = [
        finding.measure
        for finding in (outcome.findings if outcome is not None else ())
        if finding.column is not None and finding.value is not None
    ]
    if DISTANCE in measures:
        return DISTANCE
    return next((measure for measure in measures if measure != MISSING), None)
