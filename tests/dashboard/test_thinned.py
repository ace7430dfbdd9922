"""Reading a result without its findings gives the same as reading all of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from monitorkit.contracts import Finding, Outcome, RunResult
from monitorkit.dashboard.outlines import DISTANCE, MISSING, OVER_TIME, Columns, Outline
from monitorkit.dashboard.thinned import begins, thinned
from monitorkit.results import decode, encode

EVIL = '        {"measure": "distance", '


@pytest.fixture(params=["as made", "no findings", "failed", "evil", "no verdict"])
def result(request: pytest.FixtureRequest, history: list[RunResult]) -> RunResult:
    made = history[-1]
    match request.param:
        case "no findings":
            return replace(made, outcomes=[Outcome("a", "b", "ok", (), 0.0)])
        case "failed":
            bad = Outcome("a", "b", "timed_out", (), 1.0, error="it\nhung", reports=("x.html",))
            return replace(made, outcomes=[bad, *made.outcomes, bad])
        case "evil":
            finding = Finding("x", 1.0, column=f"\n{EVIL}", detail={"says": f"\n{EVIL}\n      ]"})
            return replace(made, outcomes=[Outcome(f"\n{EVIL}", "b", "ok", (finding,), 0.0)])
        case "no verdict":
            return replace(made, drift=None)
    return made


@pytest.mark.parametrize("wanted", [(), OVER_TIME, (*OVER_TIME, DISTANCE, MISSING)])
def test_what_is_kept_is_what_was_there(result: RunResult, wanted: tuple[str, ...]) -> None:
    document = encode(result)
    thin = thinned(document, lambda line: any(begins(line, name) for name in wanted))
    found = decode(thin)
    expected = [
        [finding for finding in outcome.findings if finding.measure in wanted]
        for outcome in decode(document).outcomes
    ]
    assert [list(outcome.findings) for outcome in found.outcomes] == expected
    assert replace(found, outcomes=()) == replace(decode(document), outcomes=())


def test_an_outline_needs_no_more_than_that(result: RunResult) -> None:
    document = encode(result)
    wanted = (*OVER_TIME, DISTANCE, MISSING)
    thin = decode(thinned(document, lambda line: any(begins(line, name) for name in wanted)))
    assert Outline.of(thin) == Outline.of(decode(document))
    assert Columns.of(thin) == Columns.of(decode(document))


def test_most_of_a_result_is_left_out(history: list[RunResult]) -> None:
    document = encode(history[-1])
    assert len(thinned(document, lambda _: False)) < len(document) / 5


def test_another_layout_is_left_as_it_is(history: list[RunResult]) -> None:
    document = json.dumps(json.loads(encode(history[-1]))).encode()
    assert thinned(document, lambda _: False) == document


def test_an_outline_says_what_happened(history: list[RunResult]) -> None:
    quiet, drift = Outline.of(history[0]), Outline.of(history[-1])
    assert (quiet.state, quiet.drifted, drift.state, drift.drifted) == (
        "ok", (), "drift", ("income",)
    )  # fmt: skip
    assert drift.measures["predictions_1h"].value == 2400
    bad = Outcome("a", "b", "timed_out", (), 1.0, error="it hung")
    failed = Outline.of(replace(history[0], outcomes=[bad, *history[0].outcomes]))
    assert (failed.state, failed.troubled) == ("failed", {"a": "timed out: it hung"})


def test_a_cycle_without_a_verdict_is_not_one_without_drift(history: list[RunResult]) -> None:
    """As one of `monitor --once --only`, or one in which every feature was left out."""
    summary = history[0].drift
    assert summary is not None
    nothing = replace(
        summary, dataset_drift_detected=None, num_features_evaluated=0,
        excluded_features={"income": "no values"},
    )  # fmt: skip
    score_alone = replace(nothing, excluded_features={})
    states = [
        Outline.of(replace(history[0], drift=drift)).state for drift in (None, nothing, score_alone)
    ]
    assert states == ["not judged", "not judged", "ok"]
