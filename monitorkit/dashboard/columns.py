"""What a result says of each column, in the order in which people want to know it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from monitorkit.contracts import SCORE_COLUMN, Finding, RunResult
from monitorkit.dashboard.outlines import MISSING, Number, primary, verdict
from monitorkit.histograms import are_numbers, is_histogram

Verdict = Literal["drifted", "undecided", "stable", "no drift", "not judged", "left out"]

_ORDER: tuple[Verdict, ...] = (
    "drifted", "undecided", "stable", "no drift", "not judged", "left out"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the newest result, as its verdict's monitor has it.

    Attributes:
        name: the feature, or `probability` for the score.
        verdict: drifted: some measure of it is; else what its distance says.
        drifted_by: the measure that shows it most, where the distance does not.
        since: when it looked different first.
        says: the findings that drifted as sentences, the distance first and then the strongest;
            else the distance's.
        distance: from the reference. `measure` and `statistic`: what that is.
        histogram: see `histograms.histogram`; None: no monitor has recorded it.
        missing: share without a value. `missing_before`: the reference's.
        medians: of the reference and now, in the feature's units.
        direction: which way the values went.
        evidence: decimal logarithm of the strongest evidence of a drift, and what is needed.
        rows: that the verdict rests on. `rows_needed`: about, to be sure that it is stable.
    """

    name: str
    verdict: Verdict
    drifted_by: str | None
    since: datetime | None
    says: Sequence[str]
    distance: Number | None
    measure: str | None
    statistic: str | None
    histogram: Mapping[str, Any] | None
    missing: Number | None
    missing_before: float | None
    medians: tuple[float, float] | None
    direction: str | None
    evidence: tuple[float, float] | None
    rows: int | None
    rows_needed: int | None

    @property
    def drifted(self) -> bool:
        """Whether it has drifted."""
        return self.verdict == "drifted"

    @property
    def told(self) -> str:
        """The verdict in words; with a small distance beside it, what drifted instead."""
        if self.drifted_by is None:
            return self.verdict
        return f"{self.verdict}: {self.drifted_by.removesuffix('_share').replace('_', ' ')}"

    @property
    def is_score(self) -> bool:
        """Whether it is the model's own answer."""
        return self.name == SCORE_COLUMN


def columns(result: RunResult) -> list[Column]:
    """Every column that a result speaks of: drifted first, then the farthest from the reference."""
    judge = verdict(result)
    measure = primary(judge)
    judged: dict[str, list[Finding]] = {}
    others: dict[str, list[Finding]] = {}
    for outcome in result.outcomes:
        kept = judged if outcome is judge else others
        for finding in outcome.findings:
            if finding.column is not None:
                kept.setdefault(finding.column, []).append(finding)
    found = [
        _column(name, judged.get(name, ()), others.get(name, ()), measure)
        for name in dict.fromkeys([*judged, *others])
    ]
    found.sort(key=lambda column: (_ORDER.index(column.verdict), -_apart(column)))
    return found


def _column(
    name: str, findings: Sequence[Finding], others: Sequence[Finding], measure: str | None
) -> Column:
    main = next((finding for finding in findings if finding.measure == measure), None)
    drifted = [finding for finding in findings if finding.drift]
    drifted.sort(key=lambda finding: (finding is not main, -_strength(finding)))
    detail = main.detail if main is not None else {}
    missing = next((f for f in (*findings, *others) if f.measure == MISSING), None)
    reason = [
        str(finding.detail.get("reason"))
        for finding in findings
        if main is None and finding.measure == "excluded" and finding.detail.get("reason")
    ]
    said = [str(f.detail["says"]) for f in drifted or ([main] if main else []) if _says(f)]
    return Column(
        name=name,
        verdict=_verdict(findings, main),
        drifted_by=drifted[0].measure if drifted and main not in drifted else None,
        since=min((f.since for f in drifted if f.since is not None), default=None),
        says=said or reason[:1],
        distance=Number.of(main) if main is not None else None,
        measure=measure,
        statistic=main.statistic if main is not None else None,
        histogram=_histogram([*([main] if main else []), *findings, *others]),
        missing=Number.of(missing) if missing is not None else None,
        missing_before=_number(missing.detail.get("reference")) if missing is not None else None,
        medians=_medians(detail),
        direction=str(detail["direction"]) if detail.get("direction") else None,
        evidence=_evidence(drifted),
        rows=_whole(detail.get("rows")),
        rows_needed=_whole(detail.get("rows_needed")),
    )


def _verdict(findings: Sequence[Finding], main: Finding | None) -> Verdict:
    if any(finding.drift for finding in findings):
        return "drifted"
    if main is None:
        if any(finding.drift is not None for finding in findings):
            return "no drift"  # each column may have measures of its own, as rules have
        return "left out" if any(f.measure == "excluded" for f in findings) else "not judged"
    match main.detail.get("verdict"):
        case "stable":
            return "stable"
        case "undecided" | "drifted":
            return "undecided"
    return "not judged" if main.drift is None else "no drift"


def _apart(column: Column) -> float:
    """How far beyond what is near enough, where there is such a limit."""
    if column.distance is None or not math.isfinite(column.distance.value):
        return -1.0
    return column.distance.value


def _says(finding: Finding) -> bool:
    return isinstance(finding.detail.get("says"), str) and bool(finding.detail["says"])


def _histogram(findings: Sequence[Finding]) -> Mapping[str, Any] | None:
    """The first that is one: monitors of other people may keep anything under that name."""
    for finding in findings:
        found = finding.detail.get("histogram")
        if is_histogram(found):
            return found
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    found = _number(value)
    return None if found is None else int(found)


def _medians(detail: Mapping[str, Any]) -> tuple[float, float] | None:
    quantiles = detail.get("quantiles")
    pair = quantiles.get("0.5") if isinstance(quantiles, Mapping) else None
    if not are_numbers(pair) or len(pair) != 2:  # noqa: PLR2004 - before and now
        return None
    return float(pair[0]), float(pair[1])


def _strength(finding: Finding) -> float:
    return _number(finding.detail.get("log10_evidence")) or 0.0


def _evidence(drifted: Sequence[Finding]) -> tuple[float, float] | None:
    found = [
        (_number(f.detail.get("log10_evidence")), _number(f.detail.get("log10_evidence_needed")))
        for f in drifted
    ]
    return max(
        ((has, needs) for has, needs in found if has is not None and needs is not None),
        default=None,
    )
