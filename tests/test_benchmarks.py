"""What the benchmark says is what it measured: pairs within a round, medians, what is missing."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import bare_loop, beside, load, options, profiling
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
        "validation: bytes to rows": 4,
        "uvicorn: the answer to the socket": 5,
        "anything else": 1,
    }


def test_a_profile_says_what_is_held_of_the_interpreter_and_what_is_not() -> None:
    held = {"event loop": 10e-6, "our edge": 30e-6}
    lines = profiling.table({MODEL: profiling.Profile(measured(50.0), held, 100e-6)}, 1e6)
    assert lines[3:] == [
        "| our edge | 30.0 |",
        "| event loop | 10.0 |",
        f"| {profiling.WITHOUT} | 60.0 |",
        "| all together | 100.0 |",
        "| requests/s, without py-spy | 50.0 |",
    ]


def test_what_runs_beside_is_compared_within_a_turn() -> None:
    alone = [beside.Turn(measured(9.0, p99), 0.5, 0.01) for p99 in (1.0, 10.0, 2.0)]
    cycles = [beside.Turn(measured(8.0, p99), 0.5, 0.2) for p99 in (3.0, 11.0, 3.0)]
    found = {
        (beside.OURS, SOME, beside.ALONE): alone,
        (beside.OURS, SOME, beside.CYCLES): cycles,
    }
    first, second = beside.table(found)
    assert first.endswith("| 9 | 0.50 | 2.00 |  | 0.50 | 0.010 |")
    assert second.endswith("| 8 | 0.50 | 3.00 | 1.50 (1.10-3.00) | 0.50 | 0.200 |")


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="Linux only")
def test_the_run_queue_is_the_main_threads() -> None:
    before, _ = beside.schedule(os.getpid())
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    after, queued = beside.schedule(os.getpid())
    assert after - before >= 0.05
    assert queued >= 0


def test_an_options_cost_is_taken_within_a_round() -> None:
    plain = [replace(measured(9.0), cpu=cpu) for cpu in (100.0, 200.0, 110.0)]
    traced = [replace(measured(6.0), cpu=cpu) for cpu in (130.0, 210.0, 150.0)]
    first, second = options.table({options.DEFAULTS: plain, "traces": traced})
    assert first == "| the defaults | 9 | 110.0 |  |"
    assert second == "| traces | 6 | 150.0 | +30.0 (+10.0-+40.0) |"


def test_the_bare_loop_counts_its_wakes() -> None:
    with bare_loop.started() as loop:
        time.sleep(0.3)
        counts = loop.counts()
    assert len(counts) == len(bare_loop.BOUNDS) + 1
    assert 1 <= sum(counts) <= 40
