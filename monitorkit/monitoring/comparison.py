"""A replayed cycle beside its record: what each of them flagged, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from monitorkit import results
from monitorkit.contracts import Finding, Outcome, RunResult, Skipped

Agreement = Literal["same", "different", "unrecorded", "incomparable"]


@dataclass(frozen=True, slots=True)
class Failed:
    """A cycle that could not be replayed, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a cycle came to, recorded or replayed.

    Attributes:
        verdict: drift: of the data set; flagged: some monitor found drift; ok; skipped; failed.
        rows: in its window; None when it failed.
        flagged: where each monitor found drift: columns, or measures of the window as a whole.
        failures: monitors that failed, with the reason; for a cycle that did, under "".
        reason: why it was skipped or failed.
    """

    verdict: Literal["drift", "flagged", "ok", "skipped", "failed"]
    rows: int | None
    flagged: Mapping[str, Sequence[str]]
    failures: Mapping[str, str]
    reason: str | None = None

    @property
    def columns(self) -> Sequence[str]:
        """Everything that any monitor flagged, once."""
        return list(dict.fromkeys(name for names in self.flagged.values() for name in names))


@dataclass(frozen=True, slots=True)
class Compared:
    """One cycle, recorded and replayed.

    Attributes:
        now: when it took place.
        model_version: whose rows it judged.
        run_id: of the record.
        recorded: what the record says; None: there is none.
        replayed: what the replay says.
        agreement: incomparable: the record was made under conditions that are gone, or with other
            monitors; see `notes`.
        differing: monitors of both whose status is not the same, or what they measured or judged.
            Thresholds alone are no difference: another configuration has others.
        notes: what one has to know to compare them.
    """

    now: datetime
    model_version: str | None
    run_id: str | None
    recorded: Seen | None
    replayed: Seen
    agreement: Agreement
    differing: Sequence[str]
    notes: Sequence[str]

    @property
    def noteworthy(self) -> bool:
        """Whether somebody who looks for drift, or for a difference, wants to see it."""
        sides = [side for side in (self.recorded, self.replayed) if side is not None]
        return (
            any(side.flagged or side.failures or side.verdict == "failed" for side in sides)
            or self.agreement == "different"
            or (self.agreement == "incomparable" and bool(self.differing))
        )


def compare(
    now: datetime,
    record: RunResult | None,
    outcome: RunResult | Skipped | Failed,
    *,
    gone: int,
    horizon: timedelta,
    oldest: bool,
    selected: Callable[[str], bool],
) -> Compared:
    """Hold a replayed cycle beside its record.

    Args:
        now: when it took place.
        record: its result; None: there is none.
        outcome: of the replay.
        gone: segments that are not there any more, and may hold rows of the cycle's windows.
        horizon: the longest look-back.
        oldest: the record is the oldest that is kept.
        selected: whether a monitor of that name takes part.
    """
    if record is not None:
        outcomes = [part for part in record.outcomes if selected(part.name)]
        record = replace(record, outcomes=outcomes)
    notes, incomparable = _notes(record, outcome, gone, horizon)
    apart = _apart(record, outcome)
    if apart:
        notes.append("the record has none of these monitors")
        incomparable = True
    differing = _differing(record, outcome)
    recorded = _seen(record) if record is not None else None
    replayed = _seen(outcome)
    same_verdicts = recorded is not None and recorded.flagged == replayed.flagged
    if oldest and differing and same_verdicts and not incomparable:
        notes.append("it may have known of a result that is not kept any more")
        incomparable = True
    agreement: Agreement
    if record is None:
        agreement = "unrecorded"
    elif not differing and isinstance(outcome, RunResult) and not apart:
        agreement = "same"
    else:
        agreement = "incomparable" if incomparable else "different"
    version = None if isinstance(outcome, Failed) else outcome.window.model_version
    if version is None and record is not None:
        version = record.window.model_version
    return Compared(
        now=now,
        model_version=version,
        run_id=record.run_id if record is not None else None,
        recorded=recorded,
        replayed=replayed,
        agreement=agreement,
        differing=differing,
        notes=notes,
    )


def _notes(
    record: RunResult | None, outcome: RunResult | Skipped | Failed, gone: int, horizon: timedelta
) -> tuple[list[str], bool]:
    """What one has to know, and whether that is why nothing can be compared."""
    if isinstance(outcome, Failed):
        return [], False
    segments = f"{gone} segment{'' if gone == 1 else 's'} of the log {_are(gone)} gone"
    if record is None:
        return [f"rows may be missing: {segments}"] if gone else [], bool(gone)
    notes: list[str] = []
    other = isinstance(outcome, RunResult) and record.reference_hash != outcome.reference_hash
    if other:
        notes.append(f"recorded against another reference ({record.reference_hash[:12]})")
    then, window = record.window, outcome.window
    alike = then.lookback_seconds == window.lookback_seconds
    if gone and alike and window.rows < then.rows:
        missing = then.rows - window.rows
        notes.append(f"{missing:,} of {then.rows:,} rows are missing: {segments}")
        return notes, True
    # Every look-back is inside the window, and of that no row is missing.
    whole = then == window and horizon.total_seconds() <= window.lookback_seconds
    if gone and not whole:
        notes.append(f"rows may be missing: {segments}")
        return notes, True
    if alike and window.rows != then.rows:  # the log was edited, or buckets are others
        notes.append(f"recorded with {then.rows:,} rows")
    return notes, other


def _apart(record: RunResult | None, outcome: RunResult | Skipped | Failed) -> bool:
    """Whether there is nothing to compare: no monitor is in both."""
    if record is None or not isinstance(outcome, RunResult) or not outcome.outcomes:
        return False
    return all(record.outcome(part.name) is None for part in outcome.outcomes)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _differing(record: RunResult | None, outcome: RunResult | Skipped | Failed) -> Sequence[str]:
    if record is None or not isinstance(outcome, RunResult):
        return []
    # Through JSON, as the record went: it has no NaN, and one kind of number.
    replayed = results.decode(results.encode(outcome))
    return [
        part.name
        for part in replayed.outcomes
        if (other := record.outcome(part.name)) is not None and _said(other) != _said(part)
    ]


def _said(outcome: Outcome) -> tuple[str, list[object]]:
    return outcome.status, [
        (found.measure, found.column, found.value, found.p_value, found.drift, found.since)
        for found in outcome.findings
    ]


def _seen(outcome: RunResult | Skipped | Failed) -> Seen:
    if isinstance(outcome, Failed):
        return Seen("failed", None, {}, {}, outcome.reason)
    if isinstance(outcome, Skipped):
        return Seen("skipped", outcome.window.rows, {}, {}, outcome.reason)
    flagged = {part.name: names for part in outcome.outcomes if (names := _flagged(part))}
    drift = outcome.drift
    whole = drift is not None and bool(drift.dataset_drift_detected)
    return Seen(
        verdict="drift" if whole else "flagged" if flagged else "ok",
        rows=outcome.window.rows,
        flagged=flagged,
        failures={p.name: p.error for p in outcome.outcomes if p.error is not None},
    )


def _flagged(outcome: Outcome) -> list[str]:
    return list(dict.fromkeys(_where(f) for f in outcome.findings if f.drift))


def _where(finding: Finding) -> str:
    return finding.column if finding.column is not None else finding.measure
