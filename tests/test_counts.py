"""Exact counts: any split gives the same, and scipy agrees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from monitorkit import SCORE_COLUMN, Chunk, counts
from monitorkit.counts import ReferenceCells, chi_square_test, ks_test, quantile_bins
from monitorkit.testing import make_chunk

REAL = Path(__file__).parents[2] / "shared" / "data" / "give_me_some_credit_12k.csv"


def one_column(values: Sequence[float] | np.ndarray) -> Chunk:
    features = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    rows = len(features)
    times = np.zeros(rows, dtype="datetime64[us]")
    return Chunk(np.arange(rows).astype(np.str_), times, ("x",), features, np.zeros(rows))


def compared(reference: Sequence[float], window: Sequence[float]) -> counts.ColumnCells:
    cells = ReferenceCells(one_column(reference))
    return cells.column(0, cells.summarise(one_column(window)))


def same(left: counts.Counts, right: counts.Counts) -> bool:
    return left.rows == right.rows and all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("missing", "cells", "counts", "distances", "scales")
    )


def test_cells_are_below_at_between_and_above_the_known_values() -> None:
    column = compared([1, 2, 2, 4], [0, 1, 1.5, 2, 3, 3.5, 4, 9, np.nan])
    assert column.known.tolist() == [1, 2, 4]
    assert column.reference.tolist() == [0, 1, 0, 2, 0, 1, 0]
    assert column.window.tolist() == [1, 1, 1, 1, 2, 1, 1]
    assert column.window_missing == 1
    assert column.window_rows == 8
    assert column.distances == pytest.approx([1, 0, 0.5, 0, 2.5, 0, 5], abs=1e-8)


def test_the_score_is_the_last_column() -> None:
    cells = ReferenceCells(make_chunk(50))
    assert cells.names == ("a", "b", "c", SCORE_COLUMN)
    column = cells.column(3, cells.summarise(make_chunk(20, seed=1)))
    assert column.name == SCORE_COLUMN
    assert column.window_rows == 20


def test_infinite_values_are_beyond_the_range_and_very_far() -> None:
    column = compared([1, 2], [np.inf, -np.inf, 1.0])
    assert column.window.tolist() == [1, 1, 0, 0, 1]
    assert column.distances[0] == column.distances[-1] == counts.FARTHEST


def test_a_reference_without_values_has_one_cell() -> None:
    column = compared([np.nan, np.nan], [1.0, np.nan])
    assert column.window.tolist() == [1]
    assert column.nothing_to_compare() == "no values in the reference"


@pytest.mark.parametrize(
    ("reference", "window", "reason"),
    [
        ([1, 1], [1, 1], "constant"),
        ([1, 2], [np.nan], "no values in the window"),
        ([1, 1], [1, 2], None),
        ([1, 2], [1, 1], None),
    ],
)
def test_only_what_has_nothing_to_compare_is_left_out(
    reference: list[float], window: list[float], reason: str | None
) -> None:
    found = compared(reference, window).nothing_to_compare()
    assert found is None if reason is None else reason in str(found)


def test_other_columns_than_the_references_are_refused() -> None:
    with pytest.raises(ValueError, match="the reference"):
        ReferenceCells(make_chunk(10)).summarise(make_chunk(10, ("other",)))


ANY = st.one_of(
    st.floats(-5, 5).map(lambda x: round(x, 1)), st.floats(allow_nan=True, allow_infinity=True)
)


@settings(max_examples=60, deadline=None)
@given(
    reference=arrays(np.float64, st.integers(1, 30), elements=ANY),
    window=arrays(np.float64, st.integers(1, 60), elements=ANY),
    parts=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_any_split_merged_in_any_order_is_bit_identical(
    reference: np.ndarray, window: np.ndarray, parts: int, seed: int
) -> None:
    cells = ReferenceCells(one_column(reference))
    random = np.random.default_rng(seed)
    part_of_row = random.integers(0, parts, len(window))
    summaries = [cells.summarise(one_column(window[part_of_row == p])) for p in range(parts)]
    random.shuffle(summaries)
    assert same(reduce(cells.merge, summaries), cells.summarise(one_column(window)))


def test_a_chunk_of_many_blocks_is_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, chunk = ReferenceCells(make_chunk(200)), make_chunk(500, seed=1)
    whole = cells.summarise(chunk)
    monkeypatch.setattr(counts, "_BLOCK_ROWS", 64)
    assert same(cells.summarise(chunk), whole)


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
