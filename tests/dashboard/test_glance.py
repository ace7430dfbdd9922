"""The sentences at the top are true in every state of the service."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from monitorkit.contracts import CycleNote, Outcome, RunResult
from monitorkit.dashboard import glance
from monitorkit.dashboard.columns import columns

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
    sentence = glance.predictions(health(queue={"refused_rows": 3, "waiting_rows": 0}), {})
    assert sentence.text == "7 predictions logged"
    assert sentence.notes == ["3 refused"]


def test_powers_are_legible() -> None:
    assert [glance.power(8.3), glance.power(-2.0), glance.power(120)] == ["10⁸", "10⁻²", "10¹²⁰"]
