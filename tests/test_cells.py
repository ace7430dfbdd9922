"""Exact counts: any split gives the same, and whatever form they have in between."""

from __future__ import annotations

from dataclasses import fields
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from compared import compared, one_column
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitorkit import SCORE_COLUMN, Chunk
from monitorkit.cells import Counts, ReferenceCells, _split
from monitorkit.column_counter import FARTHEST, ColumnCounter
from monitorkit.testing import make_chunk


def same(left: Counts, right: Counts) -> bool:
    return left.rows == right.rows and all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in (
            "missing",
            "cells",
            "low",
            "large",
            "excess",
            "fractions",
            "wholes",
            "far",
            "farther",
            "scales",
        )
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
    assert column.distances[0] == column.distances[-1] == FARTHEST


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
    whole = cells.summarise(one_column(window))
    assert same(reduce(cells.merge, summaries), whole)
    assert same(cells.merge_all(summaries), whole)


@settings(max_examples=100, deadline=None)
@given(
    reference=arrays(np.float64, st.integers(1, 30), elements=ANY),
    whole=st.booleans(),
    windows=st.lists(arrays(np.float64, st.integers(0, 9), elements=ANY), max_size=12),
    block_rows=st.sampled_from([4, 1 << 16]),
    block_chunks=st.sampled_from([3, 1 << 16]),
)
def test_chunks_counted_at_once_are_counted_as_one_after_the_other(
    reference: np.ndarray,
    *,
    whole: bool,
    windows: list[np.ndarray],
    block_rows: int,
    block_chunks: int,
) -> None:
    known = np.round(np.nan_to_num(reference, posinf=9, neginf=9) % 10) if whole else reference
    cells = ReferenceCells(one_column(known))
    chunks = [one_column(window) for window in windows]
    one_by_one = [cells.summarise(chunk) for chunk in chunks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitorkit.cells._BLOCK_ROWS", block_rows)
        patch.setattr("monitorkit.cells._BLOCK_CHUNKS", block_chunks)
        at_once = cells.summarise_each(chunks)
    assert len(at_once) == len(chunks)
    assert all(map(same, at_once, one_by_one))


@pytest.mark.parametrize("chunks", [3, 700])
def test_chunks_are_counted_at_once_whether_they_are_few_or_many(chunks: int) -> None:
    random = np.random.default_rng(chunks)
    reference = np.column_stack((random.integers(0, 3000, 500), random.normal(size=500)))
    cells = ReferenceCells(table(reference))
    parts = [
        table(np.column_stack((random.integers(-9, 3009, rows), random.normal(0, 2, rows))))
        for rows in random.integers(1, 20, chunks)
    ]
    assert all(map(same, cells.summarise_each(parts), map(cells.summarise, parts)))


def table(features: np.ndarray) -> Chunk:
    return Chunk.of_rows(("a", "b"), features, np.full(len(features), 0.5))


@settings(max_examples=200, deadline=None)
@given(
    reference=st.lists(st.integers(-3000, 3000), min_size=1, max_size=30),
    offset=st.sampled_from([0, -7, 2**31 - 3001, -(2**31) + 3001, 2**31, 2**40, 2**60]),
    spread=st.sampled_from([0.001, 0.01, 1]),
    window=st.lists(
        st.one_of(
            st.integers(-3010, 3010),
            st.floats(-3010, 3010),
            st.sampled_from([-0.0, np.nan, np.inf, -np.inf, 1e300, -(2.0**31), 2.0**32]),
        ),
        max_size=60,
    ),
)
def test_whole_numbers_counted_without_sorting_are_counted_the_same(
    reference: list[int], offset: int, spread: float, window: list[float]
) -> None:
    known = np.array([int(value * spread) + offset for value in reference], np.float64)
    values = one_column(np.array([value * spread for value in window]) + offset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitorkit.column_counter._SHORT_RANGE", 0)
        by_sorting = ReferenceCells(one_column(known)).summarise(values)

    assert same(ReferenceCells(one_column(known)).summarise(values), by_sorting)


@given(
    arrays(np.float64, st.integers(0, 60), elements=st.floats() | st.floats(-5, 5, width=16)),
    arrays(np.float64, st.integers(0, 200), elements=st.floats() | st.floats(-5, 5, width=16)),
    st.lists(st.integers(0, 200), max_size=4),
)
def test_values_found_by_a_table_are_counted_as_those_found_by_sorting(
    reference: np.ndarray, window: np.ndarray, cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(window)) for cut in cuts), len(window)]
    chunks = [one_column(window[first:end]) for first, end in pairwise(edges)]
    by_table = ReferenceCells(one_column(reference)).summarise_each(chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitorkit.column_counter._few", lambda _places, _values: False)
        by_sorting = ReferenceCells(one_column(reference)).summarise_each(chunks)

    assert all(map(same, by_table, by_sorting))


def test_only_whole_numbers_in_a_short_range_are_counted_without_sorting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_sorting = []
    counted = ColumnCounter._count_present

    def count(counter: ColumnCounter, *rest: Any) -> object:
        by_sorting.append(counter)
        return counted(counter, *rest)

    monkeypatch.setattr(ColumnCounter, "_count_present", count)
    reference = np.array([[0, 0, 0.5], [40, 5000, 40]])
    chunk = Chunk.of_rows(("age", "income", "ratio"), reference, np.array([0.25, 0.75]))
    cells = ReferenceCells(chunk)

    sorted_columns = [cells.names[cells._counters.index(counter)] for counter in by_sorting]
    assert sorted_columns == ["income", "ratio", SCORE_COLUMN]


def test_a_chunk_of_many_blocks_is_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, chunk = ReferenceCells(make_chunk(200)), make_chunk(500, seed=1)
    whole = cells.summarise(chunk)
    monkeypatch.setattr("monitorkit.cells._BLOCK_ROWS", 64)
    assert same(cells.summarise(chunk), whole)


def test_few_rows_are_kept_sparse_and_many_dense() -> None:
    cells = ReferenceCells(one_column(range(1000)))
    few, many = cells.summarise(one_column([5])), cells.summarise(one_column(range(1000)))
    assert not few.dense
    assert len(few.counts) == 2  # and the score
    assert many.dense
    assert len(many.counts) == 2 * 1000 + 1 + 3


def test_one_value_that_most_rows_have_makes_no_other_count_take_more_memory() -> None:
    """Needs `_split` to keep what is beyond the type of most counts apart."""
    values = np.concatenate((np.arange(2000.0), np.zeros(100_000), np.full(1_000, 7.0)))
    total = ReferenceCells(one_column(range(2000))).summarise(one_column(values))
    assert total.dense
    assert total.low.dtype == np.uint8
    assert total.part(1, 16).tolist() == total.counts[1:16].tolist()
    assert total.counts[1:16].tolist() == [100_001, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1_001]
    bytes_taken = total.low.nbytes + total.large.nbytes + total.excess.nbytes
    assert bytes_taken < total.entries + 100


@pytest.mark.parametrize("dense", [True, False])
def test_distances_are_exact_however_many_rows_a_gap_has(dense: bool) -> None:
    """Needs `_split` for whole scales as well; 0.375 of a gap is a sum of powers of two."""
    reference = np.arange(2000) * 8.0
    middles = (reference if dense else reference[:3])[:-1] + 3.0
    window = np.concatenate((middles, np.full(1_000, 11.0), np.full(800_000, 3.0)))
    cells = ReferenceCells(one_column(reference))
    total = cells.summarise(one_column(window))
    assert total.dense == dense
    assert total.wholes.dtype == (np.uint8 if dense else np.uint32)
    column = cells.column(0, total)
    rows = np.array([800_001, 1_001, *[1] * (len(middles) - 2)])
    assert column.distances[2 : 2 * len(middles) + 1 : 2].tolist() == (rows * 3.0).tolist()
    assert column.distances.sum() == (rows * 3.0).sum()
    twice = cells.column(0, cells.merge(total, total))
    assert twice.distances.tolist() == (2 * column.distances).tolist()


def test_a_dense_bucket_takes_three_and_a_half_bytes_a_cell() -> None:
    values = np.random.default_rng(0).normal(size=(2, 100_000))
    cells = ReferenceCells(one_column(values[0][:6_000]))
    total = cells.summarise(one_column(values[1]))
    assert total.dense
    arrays = [getattr(total, each.name) for each in fields(total) if each.name != "rows"]
    assert sum(each.nbytes for each in arrays) < 3.6 * total.entries


@given(st.lists(st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**32, 2**40]), max_size=40))
def test_counts_are_kept_exactly_in_whatever_type(counts: list[int]) -> None:
    low, large, excess = _split(np.array(counts, np.int64))
    together = low.astype(np.int64)
    together[large] += excess
    assert together.tolist() == counts


def test_counts_beyond_four_billion_are_exact() -> None:
    cells = ReferenceCells(one_column([1, 2]))
    total = cells.summarise(one_column([1.0]))
    for _ in range(40):
        total = cells.merge(total, total)
    assert total.rows == 2**40
    assert cells.column(0, total).window.tolist() == [0, 2**40, 0, 0, 0]
    assert sorted(total.counts.tolist())[-2:] == [2**40, 2**40]  # of the score as well


def test_gaps_of_no_finite_width_hold_distances_that_are_numbers() -> None:
    reference = chunk_of([-1.7e308, 1.7e308])
    cells = ReferenceCells(reference)
    for values in ([0.0, 0.0], [-1.7e308], [-1e308, 1e308, np.inf]):
        column = cells.column(0, cells.summarise(chunk_of(values)))
        assert not np.isnan(column.distances).any()


def chunk_of(values: list[float]) -> Chunk:
    return Chunk.of_rows(("a",), np.array(values)[:, None], np.zeros(len(values)))
