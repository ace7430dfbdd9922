"""The sentences at the top are true in every state of the service."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from monitorkit.contracts import CycleNote, DriftSummary, Finding, Outcome, RunResult, excluded
from monitorkit.dashboard import glance
from monitorkit.dashboard.columns import columns
from monitorkit.dashboard.outlines import Outline

AT = datetime(2026, 1, 2, tzinfo=UTC)


def health(**changes: Any) -> dict[str, Any]:
    return {
        "reasons": [],
        "model_loaded": True,
        "log": {"failure": None},
        "predictions_logged": 7,
        "queue": {"refused_rows": 0, "waiting_rows": 0},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "tone", "text"),
    [
        ({}, "good", "Serving"),
        ({"reasons": ["the reference is changed"]}, "warn", "Serving, degraded"),
        ({"reasons": ["x"], "log": {"failure": "No space left"}}, "bad", "Not answering"),
        ({"reasons": ["no model is loaded"], "model_loaded": False}, "bad", "Not serving"),
    ],
)
def test_it_says_whether_it_serves(changes: dict[str, Any], tone: str, text: str) -> None:
    sentence = glance.serving(health(**changes))
    assert (sentence.tone, sentence.text) == (tone, text)
    assert set(changes.get("reasons", ())) <= set(sentence.notes)


def test_it_says_what_drifted_since_when_and_how_sure_that_is(history: list[RunResult]) -> None:
    found = columns(history[-1])
    sentence = glance.drifting(history[-1], found)
    assert (sentence.tone, sentence.text) == ("warn", "1 of 3 features drifted")
    assert sentence.since == datetime(2026, 1, 2, 11, 45, tzinfo=UTC)
    evidence, data_set = sentence.notes
    assert evidence.startswith("evidence 10")
    assert data_set == "the data set has not: from 50 % on"


def test_few_rows_are_no_promise_that_nothing_changed(history: list[RunResult]) -> None:
    sentence = glance.drifting(history[0], columns(history[0]))
    assert (sentence.tone, sentence.text) == ("good", "No drift shown")
    assert sentence.notes[0] == "0 stable, 4 undecided"
    assert sentence.notes[1].startswith("400 rows so far, some ")


def test_a_drift_of_the_window_as_a_whole_is_no_quiet(history: list[RunResult]) -> None:
    """A rule about two columns is of neither."""
    kept = Finding("mean(a) > 2", 3.0, column="a", drift=False)
    broken = Finding(
        "share(a < b) < 0.18", 0.3, drift=True, since=AT, detail={"says": "0.3 is not below 0.18"}
    )
    rules = Outcome("house-rules", "rule", "drift", (kept, broken), 0.1)
    summary = DriftSummary("house-rules", False, 0.0, 0.5, (), 1, {})
    result = replace(history[0], outcomes=[rules], drift=summary)
    sentence = glance.drifting(result, columns(result))
    assert (sentence.tone, sentence.text) == ("warn", "Drift of the window as a whole")
    assert (sentence.notes, sentence.since) == (["0.3 is not below 0.18"], AT)
    measured = replace(broken, detail={}, since=None)
    of_column = replace(kept, drift=True)
    rules = replace(rules, findings=(of_column, measured))
    result = replace(result, outcomes=[rules])
    sentence = glance.drifting(result, columns(result))
    assert sentence.text == "1 of 1 feature drifted"
    assert sentence.notes[0] == "share(a < b) < 0.18: 0.3"


def test_what_could_not_be_judged_is_not_among_all_columns(history: list[RunResult]) -> None:
    kept = Finding("mean(a) > 2", 3.0, column="a", drift=False)
    rules = Outcome("r", "rule", "ok", (kept, excluded("b", "no values in the window")), 0.1)
    summary = DriftSummary("r", False, 0.0, 0.5, (), 1, {})
    result = replace(history[0], outcomes=[rules], drift=summary)
    sentence = glance.drifting(result, columns(result))
    assert (sentence.text, sentence.notes) == ("No drift", ["1 of 2 columns judged"])


def test_a_failed_verdict_is_no_verdict(history: list[RunResult]) -> None:
    failed = Outcome("feature-drift", "anytime_drift", "timed_out", (), 60.0, error="it hung")
    result = replace(history[0], outcomes=[failed], drift=None)  # as a cycle makes it
    sentence = glance.drifting(result, columns(result))
    assert (sentence.tone, sentence.text) == ("bad", "Not judged")
    assert sentence.notes == [
        "the monitor of [monitoring.verdict] has not judged",
        "feature-drift timed out: it hung",
    ]
    without = replace(history[-1], drift=None)
    assert "feature-drift" in glance.drifting(without, columns(without)).text
    none = replace(history[0], outcomes=[], drift=None)  # `monitor --once --only another`
    assert glance.drifting(none, []).tone == "quiet"
    assert glance.drifting(None, []).text == "Not known yet"
    unreadable = glance.drifting(None, [], 3)
    assert (unreadable.tone, unreadable.text) == ("bad", "Not known")
    assert unreadable.notes[0].startswith("3 results cannot be read")


Ending = Literal["completed", "skipped", "failed"]


@pytest.mark.parametrize(
    ("outcome", "tone"), [("completed", "good"), ("skipped", "quiet"), ("failed", "bad")]
)
def test_it_says_how_the_last_cycle_ended(outcome: Ending, tone: str) -> None:
    note = CycleNote(outcome, AT, "periodic", rows=12, reason="12 rows, 200 are needed")
    sentence = glance.watching(note)
    assert (sentence.tone, sentence.text) == (tone, f"Last cycle {outcome}")
    assert sentence.notes == ["12 rows, 200 are needed"]
    assert sentence.since == AT


def test_it_says_that_there_was_no_cycle() -> None:
    assert glance.watching(None).text == "No cycle since the start"
    assert glance.watching(None, enabled=False).text == "No cycles here"


def test_it_counts_predictions() -> None:
    sentence = glance.predictions(health(queue={"refused_rows": 3, "waiting_rows": 0}), None)
    assert sentence.text == "7 predictions logged"
    assert sentence.notes == ["3 refused"]


def test_it_says_whose_predictions_it_counts(history: list[RunResult]) -> None:
    """After a promotion the last result is of the new version's rows alone."""
    sentence = glance.predictions(health(), Outline.of(history[-1]))
    hour, rate = sentence.notes
    assert hour == "2,400 of version 1 in the hour before the last result"
    assert "of them positive" in rate


def test_powers_are_legible() -> None:
    assert [glance.power(8.3), glance.power(-2.0), glance.power(120)] == ["10⁸", "10⁻²", "10¹²⁰"]
