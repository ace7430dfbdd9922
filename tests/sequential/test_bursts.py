"""monitorkit/sequential/bursts.py: how many rows are worth one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from monitorkit.cells import Counts, ReferenceCells
from monitorkit.contracts import Chunk
from monitorkit.sequential.bursts import FEWEST, Held, Repeats, design_effect
from monitorkit.sequential.table import Table

SHARES = np.linspace(0.15, 0.85, 8)
BUCKETS = 256
TIMES = np.arange(BUCKETS, dtype=np.float64) * 60


def effect(random: np.random.Generator, repeats: int, rows: int = 100) -> float | None:
    """Of a day of buckets in which every value comes so many times in a row."""
    values = random.random((BUCKETS * rows // repeats + 1, 5))
    happened = np.repeat(values[..., None] < SHARES, repeats, axis=0)[: BUCKETS * rows]
    successes = happened.reshape(BUCKETS, rows, -1).sum(axis=1).astype(np.float64)
    return design_effect(TIMES, successes, np.full(successes.shape, float(rows)))


def test_independent_rows_are_worth_themselves() -> None:
    found = [effect(np.random.default_rng(seed), 1) for seed in range(40)]

    assert np.median([value for value in found if value is not None]) < 1.05
    assert max(value for value in found if value is not None) < 1.3


@pytest.mark.parametrize(("repeats", "rows"), [(5, 100), (20, 100), (10, 10), (10, 3)])
def test_repeated_rows_are_worth_one(repeats: int, rows: int) -> None:
    found = [effect(np.random.default_rng(seed), repeats, rows) for seed in range(20)]

    assert np.median([value for value in found if value is not None]) == pytest.approx(
        repeats, rel=0.25
    )


def moved(shares: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    return np.where(np.arange(BUCKETS)[:, None] < BUCKETS // 2, shares, shares - by)


def test_a_change_is_no_burst() -> None:
    random = np.random.default_rng(3)
    trials = np.full((BUCKETS, SHARES.size), 100.0)
    successes = random.binomial(100, moved(SHARES, 0.15)).astype(np.float64)

    found = design_effect(TIMES, successes, trials)

    assert found is not None
    assert found < 1.2


def test_too_few_pieces_say_nothing() -> None:
    few = np.ones((FEWEST - 1, 3))

    assert design_effect(TIMES[: FEWEST - 1], few, 2 * few) is None


def test_what_nobody_has_does_not_count() -> None:
    nothing = np.zeros((BUCKETS, 3))

    assert design_effect(TIMES, nothing, nothing) == 1
    assert design_effect(TIMES, nothing, nothing + 5) == 1


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
    found = finder.design_effect(window(finder, summaries))

    assert [each.column for each in finder.columns] == [1]
    assert found == pytest.approx(repeats, rel=0.05, abs=0.05)


def test_bursts_of_little_traffic_may_last_for_hours() -> None:
    finder, random = Repeats(CELLS, (0, 1, 2)), np.random.default_rng(2)
    rows = rows_of(random, 30, 10)
    each = [CELLS.summarise(rows.take(slice(at, at + 1))) for at in range(len(rows))]

    found = finder.design_effect(window(finder, each))
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
    found = finder.design_effect(window(finder, summaries))
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
    found = finder.design_effect(window(finder, [cells.summarise(two_columns(crowded=True))]))

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
    found = finder.design_effect(held)
    assert found is not None
    assert found < 1.3


def test_a_change_of_all_columns_is_no_burst_before_and_after() -> None:
    finder, held = day(40, 700, from_the_middle_on)
    assert finder.design_effect(held) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("buckets", "rows"), [(300, 600), (40, 700), (40, 100), (30, 20)])
def test_bursts_are_bursts_in_traffic_of_any_size(buckets: int, rows: int) -> None:
    finder, held = day(buckets, rows, unchanged, repeats=10)
    assert finder.design_effect(held) == pytest.approx(10, rel=0.05)


def test_without_a_column_of_many_values_repeats_do_not_show() -> None:
    finder = Repeats(CELLS, (0, 2))
    summary = CELLS.summarise(rows_of(np.random.default_rng(2), 100, 5))

    assert finder.columns == ()
    assert finder.design_effect(window(finder, [summary])) is None
