"""Missing, out of range and unseen: shares, verdicts, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from compared import one_column
from monitorkit_plugins.missing_and_range import MissingAndRange, MissingAndRangeOptions

from monitorkit import Finding
from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(1000, ("a", "b"))


def judged(reference: list[float], window: list[float]) -> dict[str, Finding]:
    monitor = MissingAndRange(MissingAndRangeOptions(), one_column(reference))
    findings = judge_summaries(monitor, [monitor.summarise(one_column(window))]).findings
    return {finding.measure: finding for finding in findings}


def test_it_keeps_the_laws() -> None:
    monitor = MissingAndRange(MissingAndRangeOptions(), REFERENCE)
    check_monitor(monitor, make_chunk(300, ("a", "b"), seed=1), tolerance=0)


def test_shares_are_those_of_the_rows() -> None:
    found = judged([1, 2, 3, np.nan], [0, 1, 1.5, 3, 4, 4, np.nan, np.nan, 2, 2])
    assert found["missing_share"].value == 0.2
    assert found["missing_share"].detail["reference"] == 0.25
    assert found["out_of_range_share"].value == pytest.approx(3 / 8)
    assert found["out_of_range_share"].detail["below"] == 1
    assert found["unseen_share"].value == pytest.approx(4 / 8)


def test_a_rise_of_missing_values_is_drift() -> None:
    reference = [1.0] * 500 + [2.0] * 500
    assert judged(reference, [1.0] * 160 + [np.nan] * 40)["missing_share"].drift
    assert not judged(reference, [1.0] * 195 + [np.nan] * 5)["missing_share"].drift


def test_a_rise_within_chance_is_not() -> None:
    reference = [1.0] * 800 + [np.nan] * 200
    assert not judged(reference, [1.0] * 148 + [np.nan] * 52)["missing_share"].drift


def test_a_fall_is_not_drift() -> None:
    reference = [1.0] * 500 + [np.nan] * 500
    assert not judged(reference, [1.0] * 200)["missing_share"].drift


def test_values_out_of_range_are_drift_beyond_the_option() -> None:
    reference = [float(value) for value in range(100)]
    assert judged(reference, [50.0] * 95 + [500.0] * 5)["out_of_range_share"].drift
    assert not judged(reference, [50.0] * 99 + [500.0])["out_of_range_share"].drift


def test_unseen_is_for_columns_with_few_values() -> None:
    assert "unseen_share" not in judged([float(value) for value in range(100)], [1.0])
    assert judged([0.0, 1.0] * 50, [0.0] * 90 + [0.5] * 10)["unseen_share"].drift


@pytest.mark.parametrize(
    ("reference", "window", "drift"),
    [([np.nan] * 9, [1.0] * 9, False), ([1.0] * 99, [np.nan] * 99, True)],
)
def test_without_values_only_the_missing_share_is_judged(
    reference: list[float], window: list[float], drift: bool
) -> None:
    found = judged(reference, window)
    assert set(found) == {"missing_share", "excluded"}
    assert found["missing_share"].drift is drift
