"""monitorkit/sequential/bursts.py: how many rows are worth one."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from monitorkit.cells import ReferenceCells
from monitorkit.contracts import Chunk
from monitorkit.sequential.bursts import FEWEST, Repeats, design_effect

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
    times, ids = np.zeros(len(features), "datetime64[us]"), np.arange(len(features)).astype(np.str_)
    return Chunk(ids, times, ("few", "many"), features, np.zeros(len(features)))


CELLS = ReferenceCells(rows_of(np.random.default_rng(1), 4000, 1))


@pytest.mark.parametrize(("repeats", "buckets"), [(1, 1), (1, 200), (4, 1), (10, 30)])
def test_repeated_rows_show_in_the_column_of_many_values(repeats: int, buckets: int) -> None:
    finder, random = Repeats(CELLS, (0, 1, 2)), np.random.default_rng(2)
    summaries = [CELLS.summarise(rows_of(random, 200, repeats)) for _ in range(buckets)]
    found = finder.design_effect([finder.held(each) for each in summaries])

    assert [each.column for each in finder.columns] == [1]
    assert found == pytest.approx(repeats, rel=0.05, abs=0.05)


def test_bursts_of_little_traffic_may_last_for_hours() -> None:
    finder, random = Repeats(CELLS, (0, 1, 2)), np.random.default_rng(2)
    rows = rows_of(random, 30, 10)
    each = [CELLS.summarise(rows.take(slice(at, at + 1))) for at in range(len(rows))]

    found = finder.design_effect([finder.held(part) for part in each])
    assert found == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("rows", [1, 60, 400, 3000])
def test_pairs_are_those_within_pieces_of_so_many_rows(rows: int) -> None:
    """Pieces of many small buckets, of some, and buckets that are one; counted row by row here."""
    finder, random = Repeats(CELLS, (0, 1, 2)), np.random.default_rng(3)
    (unique,) = finder.columns
    day = rows_of(random, max(4 * rows, 300), 3)
    values = day.features[:, 1]
    starts = range(0, len(day), rows)
    summaries = [CELLS.summarise(day.take(slice(a, a + rows))) for a in starts]

    pieces: dict[int, list[float]] = {}
    for at, value in enumerate(values.tolist()):
        begin = at // rows * rows
        pieces.setdefault(begin // unique.together, []).append(value)
    pairs = chance = 0.0
    known = CELLS.known[1]
    for piece in pieces.values():
        cells = np.searchsorted(known, piece) * 2 + np.isin(piece, known)
        counts = np.unique(cells, return_counts=True)[1]
        pairs += float((counts * (counts - 1)).sum())
        chance += unique.chance * len(piece) * (len(piece) - 1)
    expected = 1 + max((pairs - chance) / len(values), 0.0)
    assert finder.design_effect([finder.held(each) for each in summaries]) == pytest.approx(
        expected, rel=1e-12
    )
    assert expected > 2


def test_a_dense_summary_says_the_same_as_its_parts() -> None:
    random = np.random.default_rng(2)
    summaries = [CELLS.summarise(rows_of(random, 300, 3)) for _ in range(30)]
    whole = reduce(CELLS.merge, summaries)
    assert whole.dense
    assert not summaries[0].dense
    finder = Repeats(CELLS, (0, 1))
    parts = [finder.held(each).cells(0) for each in summaries]
    cells = np.concatenate([np.repeat(*part) for part in parts])
    places, rows = np.unique(cells, return_counts=True)

    held = finder.held(whole)
    found, counts = held.cells(0)
    assert [found.tolist(), counts.tolist()] == [places.tolist(), rows.tolist()]
    assert held.rows.tolist() == [rows.sum()]
    assert held.pairs.tolist() == [(rows * (rows - 1)).sum()]


def test_a_column_that_crowds_by_itself_is_no_burst() -> None:
    random = np.random.default_rng(2)

    def two_columns(crowded: bool) -> Chunk:
        values = random.normal(size=(3000, 2))
        if crowded:
            values[:, 0] = 0.0
        times, ids = np.zeros(3000, "datetime64[us]"), np.arange(3000).astype(np.str_)
        return Chunk(ids, times, ("a", "b"), values, np.zeros(3000))

    cells = ReferenceCells(two_columns(crowded=False))
    finder = Repeats(cells, (0, 1, 2))
    found = finder.design_effect([finder.held(cells.summarise(two_columns(crowded=True)))])

    assert [each.column for each in finder.columns] == [0, 1]
    assert found == pytest.approx(1, abs=0.1)


def test_without_a_column_of_many_values_repeats_do_not_show() -> None:
    finder = Repeats(CELLS, (0, 2))
    summary = CELLS.summarise(rows_of(np.random.default_rng(2), 100, 5))

    assert finder.columns == ()
    assert finder.design_effect([finder.held(summary)]) is None
