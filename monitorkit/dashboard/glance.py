"""The four sentences at the top: is it serving, is it drifting, how much, and does it watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from monitorkit.contracts import CycleNote, Finding, RunResult
from monitorkit.dashboard.columns import Column
from monitorkit.dashboard.formats import number, share
from monitorkit.dashboard.outlines import Outline, troubled, verdict
from monitorkit.units import several

Tone = Literal["good", "warn", "bad", "quiet"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One statement.

    Attributes:
        tone: its colour; its `mark` says the same without one.
        text: a few words.
        notes: what more there is to say.
        since: when it began.
    """

    tone: Tone
    text: str
    notes: Sequence[str] = ()
    since: datetime | None = None

    @property
    def mark(self) -> str:
        """A sign."""
        return {"good": "●", "warn": "▲", "bad": "✕", "quiet": "○"}[self.tone]


def serving(health: Mapping[str, Any]) -> Sentence:
    """Whether it answers, from what /health says."""
    reasons = [str(reason) for reason in health["reasons"]]
    if not health["model_loaded"]:
        return Sentence("bad", "Not serving", reasons)
    if health["log"]["failure"] is not None:
        return Sentence("bad", "Not answering", [*reasons, str(health["log"]["failure"])])
    if reasons:
        return Sentence("warn", "Serving, degraded", reasons)
    return Sentence("good", "Serving")


def drifting(result: RunResult | None, found: Sequence[Column], damaged: int = 0) -> Sentence:
    """Whether something drifted, since when, and how sure that is.

    Args:
        result: the newest one; None: there is none.
        found: its columns.
        damaged: results that cannot be read.
    """
    if result is None:
        return _unknown(damaged)
    if result.drift is None:
        monitors = [outcome.name for outcome in result.outcomes if outcome.status == "drift"]
        troubles = [f"{name} {reason}" for name, reason in troubled(result).items()]
        notes = ["the monitor of [monitoring.verdict] has not judged", *troubles]
        if monitors:
            return Sentence("warn", f"Drift, says {', '.join(monitors)}", notes)
        return Sentence("bad" if troubles else "quiet", "Not judged", notes)
    features = [column for column in found if not column.is_score]
    drifted = [column for column in features if column.drifted]
    score = next((column for column in found if column.is_score and column.drifted), None)
    judge = verdict(result)
    whole = [f for f in judge.findings if f.column is None and f.drift] if judge else []
    if not drifted and score is None and not whole:
        return _quiet(found)
    judged = [column for column in features if column.verdict not in ("left out", "not judged")]
    if drifted:
        text = f"{len(drifted)} of {several(len(judged), 'feature')} drifted"
    elif score is not None:
        text = "The score drifted, no feature did"
    else:
        text = "Drift of the window as a whole"
    notes = [_told(finding) for finding in whole]
    if drifted and score is not None:
        notes.append("so did the score")
    all_drifted = [*drifted, *([score] if score is not None else [])]
    evidence = max((c.evidence for c in all_drifted if c.evidence is not None), default=None)
    if evidence is not None:
        notes.append(f"evidence {power(evidence[0])} to 1, {power(evidence[1])} is needed")
    if not all_drifted:
        since = min((f.since for f in whole if f.since is not None), default=None)
        return Sentence("warn", text, notes, since)
    data_set = bool(result.drift.dataset_drift_detected)
    limit = share(result.drift.share_threshold).removesuffix(" %")
    notes.append(f"the data set {'has drifted' if data_set else 'has not'}: from {limit} % on")
    since = min((c.since for c in all_drifted if c.since is not None), default=None)
    return Sentence("bad" if data_set else "warn", text, notes, since)


def _unknown(damaged: int) -> Sentence:
    if not damaged:
        return Sentence("quiet", "Not known yet", ["no cycle has judged anything so far"])
    notes = [f"{several(damaged, 'result')} cannot be read: see the events `result_ignored`"]
    return Sentence("bad", "Not known", notes)


def _told(finding: Finding) -> str:
    """A finding of the whole window in a sentence: its own, or what was measured."""
    says = finding.detail.get("says")
    if isinstance(says, str) and says:
        return says
    return f"{finding.statistic or finding.measure}: {number(finding.value)}"


def _quiet(found: Sequence[Column]) -> Sentence:
    undecided = [column for column in found if column.verdict == "undecided"]
    stable = sum(column.verdict == "stable" for column in found)
    judged = [c for c in found if c.verdict in ("undecided", "stable", "no drift")]
    if not judged:
        return Sentence("quiet", "Not judged", ["no column could be compared"])
    if not undecided:
        surely = stable == len(judged)
        count = _columns(len(judged), len(found))
        return Sentence("good", "Stable" if surely else "No drift", [count])
    notes = [f"{stable} stable, {len(undecided)} undecided"]
    needed = max((column.rows_needed or 0 for column in undecided), default=0)
    rows = max((column.rows or 0 for column in undecided), default=0)
    if needed > rows:
        notes.append(f"{rows:,} rows so far, some {needed:,} to be sure of all")
    return Sentence("good", "No drift shown", notes)


def _columns(judged: int, all_: int) -> str:
    if judged < all_:
        return f"{judged} of {all_} columns judged"
    return "one column judged" if judged == 1 else f"all {judged} columns"


def power(log10: float) -> str:
    """A number by its decimal logarithm: 10⁸."""
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "10" + str(int(log10)).translate(digits)


def predictions(health: Mapping[str, Any], newest: Outline | None) -> Sentence:
    """How many there were, and how many are positive.

    Args:
        health: what /health says.
        newest: the last result, which is of one model version's rows.
    """
    notes = []
    measures = newest.measures if newest is not None else {}
    hour, rate = measures.get("predictions_1h"), measures.get("positive_rate_1h")
    if newest is not None and hour is not None:
        version = f"of version {newest.version} in the hour before the last result"
        notes.append(f"{number(hour.value)} {version}")
    if rate is not None:
        between = ""
        if rate.low is not None and rate.high is not None:
            between = f" ({share(rate.low)} to {share(rate.high)})"
        notes.append(f"{share(rate.value)} of them positive{between}")
    queue = health["queue"]
    for key, word in (("refused_rows", "refused"), ("waiting_rows", "waiting")):
        if queue[key]:
            notes.append(f"{queue[key]:,} {word}")
    count = health["predictions_logged"]
    return Sentence("quiet", f"{several(count, 'prediction')} logged", notes)


def watching(last: CycleNote | None, *, enabled: bool = True) -> Sentence:
    """What became of the last cycle of a service."""
    if last is None:
        text = "No cycle since the start" if enabled else "No cycles here"
        note = [] if enabled else ["[monitoring] enabled is false"]
        return Sentence("quiet", text, note)
    notes = []
    if last.reason:
        notes.append(last.reason)
    elif last.rows is not None:
        notes.append(f"{several(last.rows, 'row')} judged")
    tone: Tone = {"completed": "good", "skipped": "quiet", "failed": "bad"}[last.outcome]  # type: ignore[assignment] # the literals above
    return Sentence(tone, f"Last cycle {last.outcome}", notes, last.finished_at)
