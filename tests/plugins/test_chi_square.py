"""Chi-square: scipy's numbers, rare and unseen values, and the laws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from compared import one_column
from monitorkit_plugins.chi_square import ChiSquare, ChiSquareOptions, pool_rare
from scipy.stats import chi2_contingency

from monitorkit import Finding
from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(1000)


def judged(reference: Sequence[float], window: Sequence[float], **options: float) -> Finding:
    monitor = ChiSquare(ChiSquareOptions(score=False, **options), one_column(reference))
    (finding,) = judge_summaries(monitor, [monitor.summarise(one_column(window))]).findings
    return finding


def test_it_keeps_the_laws() -> None:
    monitor = ChiSquare(ChiSquareOptions(), REFERENCE)
    check_monitor(monitor, make_chunk(300, seed=1), tolerance=0)


def test_it_gives_scipys_numbers() -> None:
    finding = judged([0] * 60 + [1] * 30 + [2] * 10, [0] * 20 + [1] * 25 + [2] * 9)
    expected = chi2_contingency([[60, 30, 10], [20, 25, 9]], correction=False)
    assert finding.value == pytest.approx(expected.statistic, rel=1e-14)
    assert finding.p_value == pytest.approx(expected.pvalue, rel=1e-14)
    assert finding.detail["degrees_of_freedom"] == 2


def test_unseen_values_are_one_more_category() -> None:
    finding = judged([0] * 60 + [1] * 40, [0] * 30 + [1] * 20 + [7] * 3 + [0.5] * 7, min_expected=0)
    expected = chi2_contingency([[60, 40, 0], [30, 20, 10]], correction=False)
    assert finding.value == pytest.approx(expected.statistic, rel=1e-14)
    assert finding.detail["unseen_rows"] == 10
    assert finding.drift


def test_columns_with_many_values_are_excluded_with_a_reason() -> None:
    finding = judged(list(range(21)), [1, 2])
    assert finding.measure == "excluded"
    assert finding.detail["reason"] == "more than 20 distinct values in the reference"


def test_a_single_row_of_a_rare_value_is_no_alarm() -> None:
    reference = [0.0] * 3000 + [1.0] * 3000 + [98.0]
    window = [0.0] * 100 + [1.0] * 99 + [98.0]
    assert judged(reference, window, min_expected=0).drift
    finding = judged(reference, window)
    assert finding.detail["pooled_categories"] == 1
    assert not finding.drift


def test_many_rows_of_a_rare_value_are_drift() -> None:
    reference = [0.0] * 3000 + [1.0] * 3000 + [98.0]
    assert judged(reference, [0.0] * 90 + [1.0] * 90 + [98.0] * 20).drift


def test_a_constant_that_moved_is_drift() -> None:
    assert judged([3.0] * 300, [4.0] * 200).drift


def test_pooling_keeps_every_row() -> None:
    reference, window = np.array([500, 300, 3, 2, 0]), np.array([50, 30, 1, 0, 9])
    pooled_reference, pooled_window, pooled = pool_rare(reference, window, 5.0)
    assert pooled == 3
    assert pooled_reference.tolist() == [500, 300, 5]
    assert pooled_window.tolist() == [50, 30, 10]
    assert pool_rare(reference, window, 0.0)[2] == 0
