"""monitorkit/sequential/bursts.py: how many rows are worth one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monitorkit.sequential.bursts import FEWEST, design_effect

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


def test_what_nobody_has_says_nothing() -> None:
    nothing = np.zeros((BUCKETS, 3))

    assert design_effect(TIMES, nothing, nothing) is None
    assert design_effect(TIMES, nothing, nothing + 5) is None
