"""The floor of a delay: the nearest tolerated distribution is the nearest one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

from benchmarks import streams
from benchmarks.floor import (
    LEAST,
    _Limits,
    binned,
    nats,
    nearest_tolerated,
    nearest_within,
    rows_between_false_alarms,
)
from benchmarks.streams import CHANGES, Tallies

shares = st.lists(st.floats(0.02, 1), min_size=3, max_size=6)


@given(shares, shares, st.floats(0.01, 0.3))
def test_no_tolerated_distribution_is_nearer(
    before: list[float], after: list[float], tolerance: float
) -> None:
    """scipy looks for a nearer one among all, from ours and from the middle of the tube."""
    width = min(len(before), len(after))
    f, g = (np.array(each[:width]) / sum(each[:width]) for each in (before, after))
    found = nats(np.cumsum(f), np.cumsum(g), tolerance)
    below = np.tri(width)[:-1]
    tube = LinearConstraint(below, below @ f - tolerance, below @ f + tolerance)
    whole = LinearConstraint(np.ones(width), 1, 1)
    best = minimize(
        lambda h: float(np.sum(g * np.log(g / h))),
        f,
        jac=lambda h: -g / h,
        bounds=[(1e-6, 1)] * width,
        constraints=[tube, whole],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert found >= 0
    assert found <= best.fun + 1e-6
    if best.success:
        assert found == pytest.approx(best.fun, abs=1e-5)


def test_what_is_within_the_tolerance_tells_nothing() -> None:
    f, g = np.array([0.2, 0.5, 1.0]), np.array([0.24, 0.46, 1.0])
    assert nats(f, g, 0.05) == pytest.approx(0, abs=1e-9)
    assert nats(f, g, 0.03) > 0


def test_a_threshold_alone_tells_as_much_as_its_bernoulli_divergence() -> None:
    p, q = 0.45, 0.6
    expected = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    assert nats(np.array([0.4, 1]), np.array([q, 1]), 0.05) == pytest.approx(expected)


def test_cells_are_values_where_they_are_few_and_quantiles_where_not() -> None:
    f, g = binned(np.array([0.0, 0, 1, 2]), np.array([1.0, 1, 1, 3]))
    np.testing.assert_allclose(f, [0.5, 0.25, 0.25, 0])
    np.testing.assert_allclose(g, [0, 0.75, 0, 0.25])
    many = binned(np.arange(1000.0), np.arange(500.0, 1500.0), most=20)
    assert many.shape[1] <= 20
    np.testing.assert_allclose(many.sum(axis=1), 1)


def test_a_budget_of_a_false_alarm_in_3000_days_is_so_many_rows() -> None:
    assert rows_between_false_alarms(11) == pytest.approx(11 * 3000 * 288 * 100)


@given(shares, st.lists(st.lists(st.floats(-1, 1), min_size=6, max_size=6), max_size=3))
def test_no_weights_that_keep_the_limits_are_nearer(
    before: list[float], numbers: list[list[float]]
) -> None:
    """scipy looks for nearer ones, from the middle of those that keep them."""
    g = np.array(before) / sum(before)
    limits = np.array([each[: len(g)] for each in numbers]).reshape(-1, len(g)).T
    limits -= np.maximum(limits.mean(axis=0) + 0.05, 0)  # equal weights keep them
    found = nearest_within(limits, g)
    assert found.sum() == pytest.approx(1)
    assert np.all(found @ limits <= 1e-5)
    best = minimize(
        lambda h: float(np.sum(g * np.log(g / h))),
        np.full(len(g), 1 / len(g)),
        jac=lambda h: -g / h,
        bounds=[(1e-6, 1)] * len(g),
        constraints=[
            LinearConstraint(np.ones(len(g)), 1, 1),
            LinearConstraint(limits.T, -np.inf, 0) if limits.size else (),
        ][: 1 + bool(limits.size)],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    if best.success:
        assert float(np.sum(g * np.log(g / found))) == pytest.approx(best.fun, abs=1e-4)


@pytest.mark.parametrize("change", ["age -5", "dependents +1", "10 % missing income"])
def test_the_nearest_tolerated_rows_keep_every_limit_and_are_near(change: str) -> None:
    source = streams.synthetic()
    tallies = Tallies(source)
    weigher, events = tallies.weigher, tallies.weigher.events
    reference = tallies.of(source.reference)
    number = list(CHANGES).index(change)
    changed = tallies.of(source.changed(CHANGES[change][1], number))
    told, weights = nearest_tolerated(weigher, changed, reference)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    rows: Any = np.concatenate((changed, reference))
    successes, trials = events.count((weights @ rows)[np.newaxis])
    assert np.all(successes <= events.highest * trials + 1e-9)
    assert np.all(successes >= events.lowest * trials - 1e-9)
    for few in weigher.few.values():
        counts = few.count(weights @ rows)
        apart = np.abs(counts / counts.sum() - few.reference).sum() / 2
        assert apart <= few.tolerance + 1e-9

    # No tolerated rows are nearer than one event alone says, of which all rows say something.
    summed: Any = changed.astype(np.int64).sum(axis=0)
    now, of = events.count(summed)
    share = now / of
    beyond = np.where(of == len(changed), np.maximum(share - events.highest, 0), 0)
    event = int(np.argmax(beyond))
    if beyond[event] > 0:
        p, q = share[event], events.highest[event]
        assert told >= p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    # So much of the reference among the changed rows that all limits are kept is a worse answer.
    own = np.repeat([0, 1 / len(reference)], [len(changed), len(reference)])
    mixed = _Limits(weigher, rows).kept(np.where(own > 0, 0, 1 / len(changed)), own)
    assert told < 0.8 * -np.mean(np.log(mixed[: len(changed)] * len(changed)))


def test_rows_within_all_limits_tell_nothing() -> None:
    tallies = Tallies(streams.synthetic())
    reference = tallies.of(tallies.source.reference)
    told, weights = nearest_tolerated(tallies.weigher, reference, reference)
    assert told < LEAST
    assert weights.sum() == pytest.approx(1)
