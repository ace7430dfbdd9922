"""monitorkit/sequential/repeats.py: what rows that repeat each other are worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from monitorkit.cells import Counts, ReferenceCells
from monitorkit.contracts import Chunk
from monitorkit.sequential.crowding import Held
from monitorkit.sequential.repeats import Repeats
from monitorkit.sequential.table import Table


def rows_of(random: np.random.Generator, clients: int, repeats: int) -> Chunk:
    """Each row comes so many times; a column of few values, and one of many."""
    few, many = random.integers(0, 3, clients), random.normal(size=clients).round(5)
    features = np.repeat(np.stack((few, many), axis=1).astype(np.float64), repeats, axis=0)
    return Chunk.of_rows(("few", "many"), features, np.zeros(len(features)))


CELLS = ReferenceCells(rows_of(np.random.default_rng(1), 4000, 1))


def window(finder: Repeats, summaries: list[Counts]) -> list[Held]:
    repeated = finder.repeated(Table.of(summaries))
    cells = [partial(finder.cells, each) for each in summaries]
    return [Held(*each) for each in zip(repeated, cells, strict=True)]


@pytest.mark.parametrize(("repeats", "buckets"), [(1, 1), (1, 200), (4, 1), (10, 30)])
def test_repeated_rows_show_in_the_column_of_many_values(repeats: int, buckets: int) -> None:
    finder, random = Repeats(CELLS, (0, 1, 2)), np.random.default_rng(2)
    summaries = [CELLS.summarise(rows_of(random, 200, repeats)) for _ in range(buckets)]
    found = finder.of(window(finder, summaries)).design_effect()

    assert [each.column for each in finder.columns] == [1]
    assert found == pytest.approx(repeats, rel=0.05, abs=0.05)


def test_bursts_of_little_traffic_may_last_for_hours() -> None:
    finder, random = Repeats(CELLS, (0, 1, 2)), np.random.default_rng(2)
    rows = rows_of(random, 30, 10)
    each = [CELLS.summarise(rows.take(slice(at, at + 1))) for at in range(len(rows))]

    found = finder.of(window(finder, each)).design_effect()
    assert found == pytest.approx(10, rel=0.1)


def in_common(pieces: list[list[NDArray[np.float64]]]) -> list[float]:
    """Of each piece, a list of buckets, the chance that `bursts` says."""

    def meet(one: list[NDArray[np.float64]], other: list[NDArray[np.float64]]) -> float:
        here, there = np.concatenate(one), np.concatenate(other)
        return float(np.mean(here[:, None] == there[None, :]))

    if len(pieces) >= 4:
        found = []
        for at in range(len(pieces)):
            others = [n for n in (at - 2, at + 2) if 0 <= n < len(pieces)]
            found.append(max(meet(pieces[at], pieces[n]) for n in others))
        return found
    found = []
    for piece in pieces:
        rows = np.cumsum([len(bucket) for bucket in piece])
        first = [n for n in range(len(piece)) if n == 0 or rows[n - 1] < rows[-1] / 3]
        last = [n for n in range(1, len(piece)) if rows[n - 1] >= rows[-1] * 2 / 3]
        whole = bool(last) and first[-1] + 1 < last[0]
        ends = [[piece[n] for n in part] for part in (first, last)]
        found.append(meet(*ends) if whole else 0.0)
    return found


@pytest.mark.parametrize(
    ("rows", "dense"),
    [([1], 0), ([60, 0, 7], 0), ([400, 900, 20], 0), ([20_000], 1), ([40, 20_000], 1)],
)
def test_pairs_are_those_within_pieces_of_so_many_rows(rows: list[int], dense: int) -> None:
    """Pieces of many buckets, some of them empty or dense, and buckets that are a piece each."""
    finder, random = Repeats(CELLS, (0, 1, 2)), np.random.default_rng(3)
    (unique,) = finder.columns
    sizes = (rows * 400)[: max(8, 300 // max(rows))]
    day = rows_of(random, -(-sum(sizes) // 3), 3)
    day.features[random.random(len(day)) < 0.1, 1] = np.nan
    begins = np.cumsum([0, *sizes])
    parts = [day.take(slice(*begins[at : at + 2])) for at in range(len(sizes))]
    summaries = [CELLS.summarise(part) for part in parts]

    # Row by row: the piece of each one is that in which its bucket begins.
    pieces: dict[int, list[NDArray[np.float64]]] = {}
    before = 0
    known = CELLS.known[1]
    for part in parts:
        values = part.features[~np.isnan(part.features[:, 1]), 1]
        if values.size:
            of_bucket = np.searchsorted(known, values) * 2 + np.isin(values, known)
            pieces.setdefault(before // unique.together, []).append(of_bucket)
        before += len(values)
    pairs = by_chance = most = 0.0
    for piece, chance in zip(pieces.values(), in_common(list(pieces.values())), strict=True):
        counts = np.unique(np.concatenate(piece), return_counts=True)[1]
        count = counts.sum()
        pairs += float((counts * (counts - 1)).sum())
        by_chance += unique.chance * count * (count - 1)
        most += max(chance, unique.chance) * count * (count - 1)
    beyond = pairs - (most if 2 * most > pairs else by_chance)
    found = finder.of(window(finder, summaries)).design_effect()
    assert found == pytest.approx(1 + beyond / before, rel=1e-12)
    assert found is not None
    assert found > 2
    assert sum(each.dense for each in summaries) >= dense


def test_a_dense_summary_says_the_same_as_its_parts() -> None:
    random = np.random.default_rng(2)
    summaries = [CELLS.summarise(rows_of(random, 300, 3)) for _ in range(30)]
    whole = reduce(CELLS.merge, summaries)
    assert whole.dense
    assert not summaries[0].dense
    finder = Repeats(CELLS, (0, 1))
    parts = [finder.cells(each, 0) for each in summaries]
    cells = np.concatenate([np.repeat(*part) for part in parts])
    places, rows = np.unique(cells, return_counts=True)

    found, counts = finder.cells(whole, 0)
    assert [found.tolist(), counts.tolist()] == [places.tolist(), rows.tolist()]
    (repeated,) = finder.repeated(Table.of([whole]))
    assert repeated.rows.tolist() == [rows.sum()]
    assert repeated.pairs.tolist() == [(rows * (rows - 1)).sum()]


def test_a_column_that_crowds_by_itself_is_no_burst() -> None:
    random = np.random.default_rng(2)

    def two_columns(crowded: bool) -> Chunk:
        values = random.normal(size=(3000, 2))
        if crowded:
            values[:, 0] = 0.0
        return Chunk.of_rows(("a", "b"), values, np.zeros(3000))

    cells = ReferenceCells(two_columns(crowded=False))
    finder = Repeats(cells, (0, 1, 2))
    found = finder.of(window(finder, [cells.summarise(two_columns(crowded=True))])).design_effect()

    assert [each.column for each in finder.columns] == [0, 1]
    assert found == pytest.approx(1, abs=0.1)


def day(
    buckets: int, rows: int, change: Callable[[NDArray[np.float64], int], None], repeats: int = 1
) -> tuple[Repeats, list[Held]]:
    """Buckets of a reference with two columns of many values, each of them changed."""
    random = np.random.default_rng(4)

    def chunk(count: int, at: int | None, repeats: int) -> Chunk:
        values = np.repeat(random.normal(size=(count // repeats, 2)), repeats, axis=0)
        if at is not None:
            change(values, at)
        return Chunk.of_rows(("a", "b"), values, np.zeros(len(values)))

    cells = ReferenceCells(chunk(4000, None, 1))
    finder = Repeats(cells, (0, 1))
    return finder, window(
        finder, [cells.summarise(chunk(rows, at, repeats)) for at in range(buckets)]
    )


def beyond_the_range(values: NDArray[np.float64], _: int) -> None:
    values += 1000.0


def constant(values: NDArray[np.float64], _: int) -> None:
    values[:] = 0.25


def squeezed(values: NDArray[np.float64], _: int) -> None:
    values /= 100.0


def from_the_middle_on(values: NDArray[np.float64], at: int) -> None:
    if at >= 20:
        values += 1000.0


def unchanged(_values: NDArray[np.float64], _: int) -> None:
    pass


@pytest.mark.parametrize(("buckets", "rows"), [(40, 700), (40, 60), (12, 60)])
@pytest.mark.parametrize("change", [beyond_the_range, constant, squeezed])
def test_columns_that_all_crowd_are_no_burst(
    buckets: int, rows: int, change: Callable[[NDArray[np.float64], int], None]
) -> None:
    """Else the largest drifts of all would be called the fewest rows, and not be found."""
    finder, held = day(buckets, rows, change)
    found = finder.of(held).design_effect()
    assert found is not None
    assert found < 1.3


def test_a_change_of_all_columns_is_no_burst_before_and_after() -> None:
    finder, held = day(40, 700, from_the_middle_on)
    assert finder.of(held).design_effect() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("buckets", "rows"), [(300, 600), (40, 700), (40, 100), (30, 20)])
def test_bursts_are_bursts_in_traffic_of_any_size(buckets: int, rows: int) -> None:
    finder, held = day(buckets, rows, unchanged, repeats=10)
    assert finder.of(held).design_effect() == pytest.approx(10, rel=0.05)


def test_without_a_column_of_many_values_repeats_do_not_show() -> None:
    finder = Repeats(CELLS, (0, 2))
    summary = CELLS.summarise(rows_of(np.random.default_rng(2), 100, 5))

    assert finder.columns == ()
    assert finder.of(window(finder, [summary])).design_effect() is None


def one_client_at_the_end(values: NDArray[np.float64], at: int) -> None:
    if at == 39:
        values[: len(values) // 2] = values[0]


def test_one_burst_in_a_day_counts_from_the_starts_before_it() -> None:
    finder, held = day(40, 60, one_client_at_the_end)
    of = finder.of(held)
    assert of.design_effect() == pytest.approx(1.36, abs=0.05)
    starts = np.array([0, 20, 36, 38, 39])
    alone = [1 + 30 * 29 / ((40 - start) * 60) for start in starts]
    assert of.of_starts(starts, 1.36) == pytest.approx(np.maximum(alone, 1.36), rel=0.05)


def test_a_start_is_worth_at_least_the_whole_window() -> None:
    finder, held = day(40, 60, unchanged)
    assert of_all(finder, held, 7.0) == [7.0] * 40


def of_all(finder: Repeats, held: list[Held], least: float) -> list[float]:
    found: list[float] = finder.of(held).of_starts(np.arange(len(held)), least).tolist()
    return found


def from_the_end(buckets: int) -> Callable[[NDArray[np.float64], int], None]:
    def change(values: NDArray[np.float64], at: int) -> None:
        if at >= 40 - buckets:
            values[:] = 1000.0

    return change


@pytest.mark.parametrize("buckets", [4, 8, 20])
def test_columns_that_all_crowd_from_some_time_on_are_no_burst(buckets: int) -> None:
    """In heavy traffic, where a bucket is compared with others; after a few of them."""
    finder, held = day(40, 700, from_the_end(buckets))
    assert of_all(finder, held, 1.0)[40 - buckets] < 1.3


@pytest.mark.parametrize("buckets", [1, 2, 3])
@pytest.mark.parametrize("change", [beyond_the_range, constant])
def test_columns_that_all_crowd_in_a_few_buckets_say_nothing(
    buckets: int, change: Callable[[NDArray[np.float64], int], None]
) -> None:
    """Rows of a nightly job, say: there is no other time with which they could be compared."""
    finder, held = day(buckets, 5000, change)
    assert finder.of(held).design_effect() is None


@pytest.mark.parametrize("buckets", [1, 2, 3])
def test_rows_that_all_come_ten_times_show_in_a_few_buckets(buckets: int) -> None:
    finder, held = day(buckets, 5000, unchanged, repeats=10)
    assert finder.of(held).design_effect() == pytest.approx(10, rel=0.05)


def test_a_column_that_repeated_rows_leave_empty_shows_nothing() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=(4000, 2))
    cells = ReferenceCells(Chunk.of_rows(("a", "b"), values, np.zeros(4000)))
    finder = Repeats(cells, (0, 1))
    rows = np.repeat(random.normal(size=(50, 2)), 20, axis=0)
    rows[:, 1] = np.nan
    rows = np.concatenate([rows, random.normal(size=(100, 2))])
    held = window(finder, [cells.summarise(Chunk.of_rows(("a", "b"), rows, np.zeros(1100)))])
    assert finder.of(held).design_effect() == pytest.approx(1 + 50 * 20 * 19 / 1100, rel=0.05)


def test_the_largest_burst_since_a_start_and_all_of_them() -> None:
    finder, held = day(40, 60, one_client_at_the_end)
    starts = np.array([0, 20, 39])
    largest, together = finder.of(held).bursts(starts)
    assert largest == pytest.approx(30, abs=1)
    assert together[-1] == pytest.approx(30, abs=1)
    assert together[0] < 45  # by chance, some three rows in a cell
    quiet, rows = day(40, 60, unchanged)
    assert quiet.of(rows).bursts(starts)[0].max() < 8


def test_what_the_reference_often_has_is_no_burst() -> None:
    random = np.random.default_rng(7)

    def chunk(rows: int) -> Chunk:
        values = random.normal(size=(rows, 1))
        values[random.random(rows) < 0.3] = 0.0
        return Chunk.of_rows(("a",), values, np.zeros(rows))

    cells = ReferenceCells(chunk(4000))
    finder = Repeats(cells, (0,))
    held = window(finder, [cells.summarise(chunk(200)) for _ in range(20)])
    assert [each.column for each in finder.columns] == [0]
    assert finder.of(held).bursts(np.array([0]))[0].max() < 8


def test_columns_that_crowd_are_no_burst_where_another_one_has_their_rows_apart() -> None:
    """But rows without a value there, or with one that many rows have, may be the same."""
    random = np.random.default_rng(8)

    def chunk(rows: int, crowd: int = 0, apart: float | None = None) -> Chunk:
        values = random.normal(size=(rows, 3))
        values[random.random(rows) < 0.3, 2] = 0.0
        values[:crowd, :2] = 9.0
        if apart is not None:
            values[:crowd, 2] = apart
        return Chunk.of_rows(("a", "b", "c"), values, np.zeros(rows))

    cells = ReferenceCells(chunk(4000))
    finder = Repeats(cells, (0, 1, 2))
    assert [each.column for each in finder.columns] == [0, 1, 2]

    def largest(rows: Chunk) -> float:
        held = window(finder, [cells.summarise(rows)])
        return float(finder.of(held).bursts(np.array([0]))[0][0])

    assert largest(chunk(200, crowd=100)) < 80  # as many as may have 0.0 in the third one
    assert largest(chunk(200, crowd=100, apart=0.0)) == pytest.approx(100, abs=1)
    assert largest(chunk(200, crowd=100, apart=np.nan)) == pytest.approx(100, abs=1)
    assert largest(chunk(200, crowd=100, apart=8.0)) == pytest.approx(100, abs=1)
