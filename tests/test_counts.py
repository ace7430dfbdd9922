"""Tests on exact counts: scipy agrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import compared, one_column
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monitorkit_plugins.ks import Ks, KsOptions
from monitorkit_plugins.wasserstein import Wasserstein, WassersteinOptions
from scipy import stats

from monitorkit import judgements
from monitorkit.cells import ReferenceCells
from monitorkit.contracts import Chunk, Finding, Judgement, Timeline
from monitorkit.counts import Counts, CountsMonitor, chi_square_test, ks_test, quantile_bins
from monitorkit.testing import judge_summaries, make_chunk

REAL = Path(__file__).parents[2] / "shared" / "data" / "give_me_some_credit_12k.csv"


@settings(max_examples=60, deadline=None)
@given(
    reference=arrays(np.float64, st.integers(2, 40), elements=st.integers(-5, 5).map(float)),
    window=arrays(np.float64, st.integers(2, 40), elements=st.floats(-7, 7)),
)
def test_ks_is_scipys(reference: np.ndarray, window: np.ndarray) -> None:
    statistic, p_value = ks_test(compared(reference.tolist(), window.tolist()))
    expected = stats.ks_2samp(reference, window, method="asymp")
    assert statistic == pytest.approx(expected.statistic, abs=1e-15)
    assert p_value == pytest.approx(expected.pvalue, rel=1e-12)


class EveryOther(Ks):
    def summarise(self, chunk: Chunk) -> Counts:
        return super().summarise(chunk.take(slice(0, None, 2)))


def test_a_monitor_that_counts_otherwise_does_so_for_many_chunks_too() -> None:
    monitor, chunk = EveryOther(KsOptions(), make_chunk(50)), make_chunk(20, seed=1)
    assert [counts.rows for counts in monitor.summarise_each([chunk, chunk])] == [10, 10]


class Judging(Ks):
    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        return super().judge(timeline, previous)


class Merging(Ks):
    def merge(self, left: Counts, right: Counts) -> Counts:
        return super().merge(left, right)


class MergingAll(Ks):
    def merge_all(self, summaries: Sequence[Counts]) -> Counts:
        return super().merge_all(summaries)


class Counting(Ks):
    def summarise_each(self, chunks: Sequence[Chunk]) -> Sequence[Counts]:
        return super().summarise_each(chunks)


class OfOtherRows(Ks):
    def __init__(self, options: KsOptions, reference: Chunk) -> None:
        super().__init__(options, reference.take(slice(0, 20)))
        self.reference = reference


class InOtherCells(Ks):
    def __init__(self, options: KsOptions, reference: Chunk) -> None:
        super().__init__(options, reference)
        self.cells = ReferenceCells(reference.take(slice(0, 20)))


def test_who_only_judges_otherwise_shares_the_summaries() -> None:
    assert Judging(KsOptions(), make_chunk(50)).summary_key() == "counts"
    assert Ks(KsOptions(score=False), make_chunk(50)).summary_key() == "counts"


@pytest.mark.parametrize(
    "cls", [EveryOther, Merging, MergingAll, Counting, OfOtherRows, InOtherCells]
)
def test_who_counts_otherwise_has_summaries_of_its_own(cls: type[Ks]) -> None:
    assert cls(KsOptions(), make_chunk(50)).summary_key() is None


@pytest.mark.parametrize(
    "monitor",
    [
        Ks(KsOptions(score=False), one_column([1.0])),
        Wasserstein(WassersteinOptions(score=False), one_column([1.0])),
    ],
)
def test_one_row_against_one_row_is_judged_and_no_drift(monitor: CountsMonitor[Any]) -> None:
    assert ks_test(compared([1.0], [2.0])) == (1.0, 1.0)
    judgement = judge_summaries(monitor, [monitor.summarise(one_column([2.0]))])
    assert judgements.why_not(judgement) is None
    (finding,) = judgement.findings
    assert (finding.p_value, finding.drift) == (1.0, False)


def test_chi_square_is_scipys() -> None:
    reference, window = np.array([50, 30, 0, 20]), np.array([12, 20, 0, 9])
    expected = stats.chi2_contingency([[50, 30, 20], [12, 20, 9]], correction=False)
    found = chi_square_test(reference, window)
    assert found == pytest.approx((expected.statistic, expected.pvalue, expected.dof), rel=1e-14)


def test_one_category_cannot_differ() -> None:
    assert chi_square_test(np.array([5, 0]), np.array([7, 0])) == (0.0, 1.0, 0)


def test_quantile_bins_cut_the_reference_into_equal_shares() -> None:
    column = compared(list(range(1, 101)), [0, 10, 10.5, 11, 200])
    reference, window, edges = quantile_bins(column, 10)
    assert reference.tolist() == [10] * 10
    assert window.tolist() == [2, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert edges == [10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_a_value_that_holds_most_rows_is_a_bin_of_its_own() -> None:
    reference, window, edges = quantile_bins(compared([0] * 5 + [1] * 95, [0, 1, 1, 2]), 10)
    assert reference.tolist() == [5, 95, 0]
    assert window.tolist() == [1, 2, 1]
    assert edges == [1]


def test_a_constant_reference_is_cut_below_at_and_above() -> None:
    reference, window, _ = quantile_bins(compared([3, 3], [1, 3, 4, 5]), 10)
    assert reference.tolist() == [0, 2, 0]
    assert window.tolist() == [1, 1, 2]


def test_real_rows_give_scipys_numbers() -> None:
    if not REAL.exists():
        pytest.skip("give_me_some_credit_12k.csv is not beside this repository")
    table = np.genfromtxt(REAL, delimiter=",", skip_header=1)[:, 2:]
    for index in range(table.shape[1]):
        reference, window = table[:3000, index], table[3000:, index]
        column = compared(reference.tolist(), window.tolist())
        expected = stats.ks_2samp(reference, window, method="asymp")
        assert ks_test(column) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-12)


def test_the_monitors_of_a_reference_share_its_cells() -> None:
    reference = make_chunk(50)
    one, other = Ks(KsOptions(), reference), Wasserstein(WassersteinOptions(), reference)
    of_another = Ks(KsOptions(), reference.take(slice(None)))

    assert one.cells is other.cells
    assert of_another.cells is not one.cells
