"""monitorkit/sequential/evidence.py: what a share must be like to be evidence, at any time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from monitorkit.sequential.evidence import (
    distance_error,
    log_evidence_above,
    log_evidence_below,
    reference_distance_error,
    reference_variation_error,
    share_bounds,
    variation_error,
)


@pytest.mark.parametrize(
    ("successes", "trials", "bound"), [(9, 10, 0.5), (40, 100, 0.3), (3, 3, 0.01), (200, 210, 0.9)]
)
def test_it_is_the_mean_likelihood_ratio_over_larger_shares(
    successes: int, trials: int, bound: float
) -> None:
    mean = min(bound + 0.25 * np.sqrt(bound * (1 - bound)), (1 + bound) / 2)
    prior = stats.beta(5 / (1 - mean), 5 / mean)

    def weighted_likelihood(share: float) -> float:
        return float(stats.binom.pmf(successes, trials, share) * prior.pdf(share))

    total, _ = integrate.quad(weighted_likelihood, bound, 1, limit=200)
    expected = total / prior.sf(bound) / stats.binom.pmf(successes, trials, bound)

    found = log_evidence_above(np.array(successes), np.array(trials), np.array(bound))

    assert float(found) == pytest.approx(np.log(expected), rel=1e-6)


def test_below_is_above_of_the_others() -> None:
    s, n, p = np.array([3.0]), np.array([50.0]), np.array([0.2])

    assert log_evidence_below(s, n, p) == pytest.approx(log_evidence_above(n - s, n, 1 - p))


def test_there_is_none_where_the_share_is_within_its_bound() -> None:
    found = log_evidence_above(
        np.array([5.0, 4.0, 0.0]), np.array([10.0, 10.0, 0.0]), np.array(0.5)
    )

    assert found.tolist() == [-np.inf] * 3


def test_what_cannot_be_is_infinite_evidence() -> None:
    found = log_evidence_above(np.array([1.0]), np.array([10.0]), np.array([0.0]))

    assert found.tolist() == [np.inf]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_looking_after_each_row_raises_no_more_false_alarms_than_it_says(
    share: float,
) -> None:
    """At 1 in 20, of 4,000 streams 200 are expected at most; 290 have a chance below 1e-9."""
    rows, streams, chance = 500, 4000, 0.05
    random = np.random.default_rng(6)
    alarmed = np.zeros(streams, np.bool_)
    successes = np.cumsum(random.random((streams, rows)) < share, axis=1)
    for trials in range(1, rows + 1):
        so_far = successes[:, trials - 1].astype(np.float64)
        evidence = log_evidence_above(so_far, np.array(float(trials)), np.array(share))
        alarmed |= evidence >= -np.log(chance)

    assert 0 < alarmed.sum() < 290


def test_a_share_beyond_its_bound_is_found() -> None:
    random = np.random.default_rng(6)
    successes = float((random.random(2000) < 0.13).sum())

    assert log_evidence_above(np.array(successes), np.array(2000.0), np.array(0.075)) > 20


def test_bounds_of_shares_are_those_of_scipy() -> None:
    for successes, trials in ((0, 50), (3, 50), (50, 50)):
        expected = stats.binomtest(successes, trials).proportion_ci(0.98, "exact")

        found = share_bounds(np.array([successes]), np.array([trials]), np.array([0.01]))
        assert np.ravel(found) == pytest.approx([expected.low, expected.high])


@pytest.mark.parametrize("few", [True, False])
def test_distances_from_the_source_stay_below_their_error_at_every_look(*, few: bool) -> None:
    """At 1 in 20, of 2,000 streams 100 are expected at most; 160 have a chance below 1e-8."""
    random = np.random.default_rng(6)
    streams, rows = 2000, 400
    values = random.integers(0, 5, (streams, rows))
    counts = np.cumsum(values[..., None] == np.arange(5), axis=1)
    number = np.arange(1, rows + 1)
    apart = counts / number[:, None] - 0.2
    distances = (
        np.abs(apart).sum(axis=2) / 2 if few else np.abs(np.cumsum(apart, axis=2)).max(axis=2)
    )
    bounds = [
        variation_error(n, 5, 0.05) if few else distance_error(n, 0.05) for n in number.tolist()
    ]

    assert np.any(distances > bounds, axis=1).sum() < 160


def test_errors_shrink_with_rows_and_are_never_more_than_one() -> None:
    assert distance_error(0, 0.01) == distance_error(5, 0.01) == 1
    assert 0.02 < distance_error(10_000, 0.01) < 0.03
    assert variation_error(0, 5, 0.01) == 1
    assert reference_distance_error(0, 0.01) == 1
    assert reference_distance_error(6000, 0.01) == pytest.approx(0.021, abs=1e-3)


def test_a_reference_of_few_values_is_as_far_from_its_source_as_it_says() -> None:
    """At 1 in 100, of 2,000 references 20 are expected at most; 55 have a chance below 1e-9."""
    random, rows = np.random.default_rng(6), 500
    for source in (np.full(20, 0.05), np.array([0.95, 0.03, 0.02])):
        shares = random.multinomial(rows, source, 2000) / rows
        distances = np.abs(shares - source).sum(axis=1) / 2
        errors = np.array([reference_variation_error(each, rows, 0.01) for each in shares])
        assert np.count_nonzero(distances > errors) < 55
