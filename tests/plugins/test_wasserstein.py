"""Wasserstein: scipy's distance where it is exact, within its bounds elsewhere, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from compared import compared, one_column
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monitorkit_plugins.wasserstein import Wasserstein, WassersteinOptions, wasserstein_bounds
from scipy.stats import wasserstein_distance

from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(1000)
Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def bounds(reference: Values, window: Values) -> tuple[float, float]:
    return wasserstein_bounds(compared(reference, window))


def test_it_keeps_the_laws() -> None:
    monitor = Wasserstein(WassersteinOptions(), REFERENCE)
    check_monitor(monitor, make_chunk(300, seed=1), tolerance=0)


KNOWN = st.integers(-4, 4).map(float)


@settings(deadline=None)
@given(
    window=arrays(np.float64, st.integers(1, 40), elements=KNOWN),
    more=arrays(np.float64, st.integers(0, 20), elements=KNOWN),
)
def test_it_is_exact_where_all_values_are_known(window: Values, more: Values) -> None:
    reference = np.concatenate((np.arange(-4.0, 5.0), more))
    lower, upper = bounds(reference, window)
    assert lower == upper
    assert lower == pytest.approx(wasserstein_distance(reference, window), abs=1e-12)


@settings(deadline=None, max_examples=200)
@given(
    reference=arrays(np.float64, st.integers(1, 8), elements=st.floats(-9, 9)),
    window=arrays(np.float64, st.integers(1, 30), elements=st.floats(-9, 9)),
)
def test_scipys_distance_lies_within_the_bounds(reference: Values, window: Values) -> None:
    lower, upper = bounds(reference, window)
    rounding = 2.0**-33 * max(float(np.ptp(reference)), 9.0) * 2 + 1e-12
    exact = wasserstein_distance(reference, window)
    assert lower - rounding <= exact <= upper + rounding


def test_on_continuous_values_the_bounds_are_close() -> None:
    random = np.random.default_rng(0)
    reference, window = random.normal(size=2000), random.normal(0.2, 1.1, size=1500)
    lower, upper = bounds(reference, window)
    exact = wasserstein_distance(reference, window)
    assert lower - 1e-9 <= exact <= upper + 1e-9
    assert upper - lower < 1e-3 * exact


def test_it_is_normed_as_evidently_does() -> None:
    monitor = Wasserstein(WassersteinOptions(columns=("b",), score=False), REFERENCE)
    window = make_chunk(400, seed=2, shift=1.0)
    (finding,) = judge_summaries(monitor, [monitor.summarise(window)]).findings
    before, now = (c.features[:, 1][~np.isnan(c.features[:, 1])] for c in (REFERENCE, window))
    expected = wasserstein_distance(before, now) / max(float(np.std(before)), 0.001)
    assert finding.value == pytest.approx(expected, rel=1e-8)
    assert finding.drift


def test_a_constant_reference_is_not_divided_by_zero() -> None:
    monitor = Wasserstein(WassersteinOptions(score=False), one_column(np.full(300, 5.0)))
    moved = monitor.summarise(one_column(np.full(300, 6.0)))
    (finding,) = judge_summaries(monitor, [moved]).findings
    assert finding.value == pytest.approx(1000.0, rel=1e-8)
    assert finding.drift


def test_an_almost_constant_reference_does_not_hide_what_is_far_away() -> None:
    reference, window = np.array([0.0, 1e-300]), np.array([1.0, 2.0])
    assert bounds(reference, window) == pytest.approx((1.5, 1.5), abs=1e-9)


def test_values_too_large_for_a_distance_are_excluded() -> None:
    largest = float(np.finfo(np.float64).max)
    monitor = Wasserstein(
        WassersteinOptions(score=False), one_column(np.array([-largest, largest]))
    )
    summary = monitor.summarise(one_column(np.array([0.0, 1.0])))
    (finding,) = judge_summaries(monitor, [summary]).findings
    assert finding.measure == "excluded"


@pytest.mark.parametrize("rows", [200, 1000])
def test_the_same_distribution_is_quiet(rows: int) -> None:
    alarms = 0
    for seed in range(20):
        monitor = Wasserstein(WassersteinOptions(), make_chunk(1000, seed=seed))
        summary = monitor.summarise(make_chunk(rows, seed=100 + seed))
        alarms += any(f.drift for f in judge_summaries(monitor, [summary]).findings)
    # One in a hundred is what the false alarm rate allows.
    assert alarms <= 1
