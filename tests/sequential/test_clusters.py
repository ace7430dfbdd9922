"""monitorkit/sequential/clusters.py: never more evidence than rows that come together can make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from monitorkit.sequential.clusters import Clusters, log_evidence_above_of_clusters
from monitorkit.sequential.evidence import log_evidence_above

Array = NDArray[np.float64]


def evidence(rows: int, have: Array, bound: float, effect: float, largest: float) -> Array:
    """Of so many rows that have something, among so many."""
    one = np.ones_like(have)
    clusters = Clusters(one * effect, one * largest, one * largest)
    return log_evidence_above_of_clusters(have / effect, one * rows / effect, one * bound, clusters)


def chances(single: int, clusters: int, size: int, bound: float) -> Array:
    """(rows + 1,) that so many rows have something, or more: exact."""
    every = np.zeros(clusters * size + 1)
    every[::size] = stats.binom.pmf(np.arange(clusters + 1), clusters, bound)
    both = np.convolve(stats.binom.pmf(np.arange(single + 1), single, bound), every)
    found: Array = np.cumsum(both[::-1])[::-1]
    return found


@settings(deadline=None, max_examples=60)
@given(
    single=st.integers(0, 400),
    clusters=st.integers(1, 30),
    size=st.integers(3, 60),
    bound=st.floats(0.001, 0.9),
)
def test_as_much_as_there_is_comes_with_at_most_such_a_chance(
    single: int, clusters: int, size: int, bound: float
) -> None:
    rows = single + clusters * size
    effect = (single + clusters * size**2) / rows
    have = np.arange(rows + 1, dtype=np.float64)
    found = evidence(rows, have, bound, effect, size)
    with np.errstate(divide="ignore"):
        rarity = -np.log(np.minimum(chances(single, clusters, size, bound), 1.0))
    assert np.all((found <= rarity + 1e-6) | ~np.isfinite(rarity))


def test_two_clients_that_have_what_is_rare_are_no_evidence_and_as_many_others_are() -> None:
    """One client in each hour of a day sends its row 15 times, beside 1,200 rows of others."""
    rows, effect = 24 * 1200, 1 + 15 * 14 / 1200
    have = np.array([30.0])
    apart = log_evidence_above(have / effect, np.array([rows / effect]), np.array([1e-4]))
    together = evidence(rows, have, 1e-4, effect, 15)
    assert apart > 25
    assert together < 8


@pytest.mark.parametrize("largest", [0.0, 1.0, 3.0])
def test_where_no_cluster_is_larger_than_the_design_effect_it_is_that_of_effective_rows(
    largest: float,
) -> None:
    have = np.arange(0.0, 301.0)
    usual = log_evidence_above(have / 3, np.full(301, 100.0), np.full(301, 0.2))
    assert evidence(300, have, 0.2, 3.0, largest).tolist() == usual.tolist()


def test_hardly_any_is_lost_of_what_many_single_rows_show() -> None:
    have, rows = np.array([800.0, 2000.0]), 2000
    effect = 1 + 15 * 14 / rows
    usual = log_evidence_above(have / effect, np.full(2, rows / effect), np.full(2, 0.3))
    found = evidence(rows, have, 0.3, effect, 15)
    assert np.all(found > 0.85 * usual)
    assert np.all(found <= usual)


def test_what_cannot_be_is_infinite_evidence_however_it_comes() -> None:
    assert evidence(100, np.array([20.0]), 0.0, 4.8, 20.0).tolist() == [np.inf]
