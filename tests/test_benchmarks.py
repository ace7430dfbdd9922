"""What the benchmark says is what it measured: pairs within a round, medians, what is missing."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import load, profiling
from benchmarks.load import Measured
from benchmarks.report import BARE, OS, SOME, Results, report, targets
from benchmarks.targets import Target

MODEL = "logistic_regression"


def measured(per_second: float, p99: float = 1.0) -> Measured:
    return Measured(1000, per_second, 0.5, p99, 2.0, 100.0, 2**20, 0)


def results() -> Results:
    found = Results()
    for number, (ours, bare) in enumerate([(90.0, 100.0), (60.0, 50.0), (40.0, 80.0)]):
        found.runs[OS, MODEL, SOME][number] = measured(ours)
        found.runs[BARE, MODEL, SOME][number] = measured(bare)
    found.runs["BentoML", MODEL, SOME][0] = measured(3.0)
    return found


def target(what: str) -> Target:
    (found,) = [each for each in targets(results()) if each.what == what]
    return found


def test_ratios_are_taken_within_a_round_and_the_median_counts() -> None:
    found = target(f"requests/s at 32 connections, {MODEL} / {BARE}")
    assert found.values == [0.9, 1.2, 0.5]
    assert found.row().endswith("| ≥ 0.75 | 0.90 (0.50-1.20) | yes |")


def test_a_peer_that_was_measured_once_is_compared_with_that_round() -> None:
    assert target(f"requests/s at 32 connections, {MODEL} / BentoML").values == [30.0]


def test_what_was_not_measured_is_not_met() -> None:
    found = target(f"requests/s at 32 connections, {MODEL} / mlflow models serve")
    assert found.row().endswith("| ≥ 40 | - | not measured |")
    assert Target("", 2.0, above=False, values=[2.1]).row().endswith("| **no** |")


def test_rows_that_are_missing_in_the_log_are_told() -> None:
    found = results()
    found.rows[OS, MODEL] += [0, -3]
    missing = targets(found)[-1]
    assert (missing.values, missing.row().endswith("| **no** |")) == ([3.0], True)
    assert f"| {OS} | {MODEL} | 32 connections | 60 |" in report(found, 3, 1.0)


def test_without_wrk_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        load.find_wrk()


def test_a_sample_counts_for_the_innermost_frame_that_is_known() -> None:
    found = profiling.shares(
        [
            "run (asyncio/runners.py:1);__call__ (starlette/routing.py:2);read_row (m/s.py:3) 4",
            "run (asyncio/runners.py:1);send (uvicorn/protocols/http/httptools_impl.py:9) 5",
            "main (elsewhere.py:1) 1",
        ]
    )
    assert found == {
        "validation: bytes to a row": 4,
        "uvicorn: the answer to the socket": 5,
        "anything else": 1,
    }
