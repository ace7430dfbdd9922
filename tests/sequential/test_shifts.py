"""Evidence that everybody's value moved by as much."""

from __future__ import annotations

import numpy as np
import pytest
from compared import one_column
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from monitorkit.cells import ReferenceCells
from monitorkit.sequential.clusters import Clusters
from monitorkit.sequential.events import Limits, Tube
from monitorkit.sequential.shifts import Shifts
from monitorkit.sequential.weighing import Weigher

NONE = np.zeros(1)
ONE_BY_ONE = Clusters(np.ones(1), NONE, NONE)
Floats = NDArray[np.float64]


def ages(random: np.random.Generator, rows: int) -> Floats:
    return (21 + 70 * random.beta(2, 2.5, rows)).round()


def weigher(reference: Floats, limits: Limits | None = None) -> Weigher:
    cells = ReferenceCells(one_column(reference.tolist()))
    return Weigher(cells, (0,), limits or Limits(), 1 / (3000 * 86400))


AGES = weigher(ages(np.random.default_rng(1), 6000))
MIXED = weigher(
    np.where(
        np.random.default_rng(2).random(4000) < 0.3,
        1000.0,
        np.exp(np.random.default_rng(3).normal(7, 1, 4000)),
    )
)


def tally(of: Weigher, values: Floats) -> NDArray[np.int64]:
    cells = of.events.cells
    return of.events.tally(cells.summarise(one_column(values.tolist())))


def most_expected(ratios: Floats, tube: Tube) -> float:
    """The largest expected value of a row's ratio that any tolerated distribution gives it."""
    parts = ratios.size
    below = np.tri(parts)[:-1]
    found = linprog(
        -ratios / ratios.max(),
        A_ub=np.concatenate((below, -below)),
        b_ub=np.concatenate((tube.high[1:-1], -tube.low[1:-1])),
        A_eq=np.ones((1, parts)),
        b_eq=[1],
    )
    assert found.success
    return float(-found.fun * ratios.max())


@pytest.mark.parametrize("of", [AGES, MIXED], ids=["whole numbers", "one of them frequent"])
def test_of_what_is_tolerated_a_ratio_is_expected_to_be_at_most_1(of: Weigher) -> None:
    """So that of many rows, however they depend on those before, is a supermartingale."""
    shifts, tube = of.shifts[0], of.events.tube(0)

    assert len(shifts.by) == 6
    for ratios in np.exp(shifts.log_ratios):
        assert most_expected(ratios, tube) <= 1 + 1e-7


@given(
    st.lists(st.integers(0, 60), min_size=40, max_size=300),
    st.floats(0.01, 0.4),
    st.floats(1.05, 3),
    st.floats(1e-4, 0.05),
)
@settings(max_examples=60, deadline=None)
def test_that_is_so_of_any_reference(
    values: list[int], tolerance: float, factor: float, smallest: float
) -> None:
    of = weigher(np.array(values, np.float64), Limits(tolerance, factor, smallest))
    for shifts in of.shifts.values():
        assert np.all(np.isfinite(shifts.log_ratios))
        for ratios in np.exp(shifts.log_ratios):
            assert most_expected(ratios, of.events.tube(0)) <= 1 + 1e-6


def test_the_reference_lies_within_its_own_limits() -> None:
    for of in (AGES, MIXED):
        tube = of.events.tube(0)
        counted = of.events.tally(of.events.cells.reference)[tube.entries]
        shares = (counted - counted[0]) / (counted[-1] - counted[0])
        assert np.all((tube.low <= shares) & (shares <= tube.high))
        assert np.all(np.diff(tube.cells) > 0)


def test_shifts_are_whole_steps_of_the_column() -> None:
    assert AGES.shifts[0].by.tolist() == [-12, -6, -3, 3, 6, 12]
    cents = weigher(ages(np.random.default_rng(1), 6000) / 100)
    assert cents.shifts[0].by == pytest.approx([-0.12, -0.06, -0.03, 0.03, 0.06, 0.12])
    np.testing.assert_allclose(cents.shifts[0].log_ratios, AGES.shifts[0].log_ratios, atol=1e-9)


def test_a_column_that_hardly_varies_has_one_shift_each_way() -> None:
    values = np.zeros(3000)
    values[::10] = np.arange(300) % 40

    assert weigher(values).shifts[0].by.tolist() == [-1, 1]


def test_sums_that_differ_by_rounding_alone_are_one_value() -> None:
    """0.3 and 0.1 + 0.2 are two floats, nearer to each other than any step of the column."""
    random = np.random.default_rng(23)
    tenths = random.integers(2, 40, 3000)
    some = random.integers(1, tenths)
    added = some * 0.1 + (tenths - some) * 0.1
    noisy = weigher(np.choose(random.integers(0, 3, 3000), [tenths / 10, added, tenths * 0.1]))

    assert np.round(10 * noisy.shifts[0].by, 6).tolist() == [-9, -5, -2, 2, 5, 9]
    for ratios in np.exp(noisy.shifts[0].log_ratios):
        assert most_expected(ratios, noisy.events.tube(0)) <= 1 + 1e-7


@pytest.mark.parametrize(
    "values",
    [
        np.append(np.random.default_rng(1).normal(size=3000), [0.0, 5e-324]),
        np.random.default_rng(1).uniform(-1, 1, 3000) * 1.7e308,
        np.random.default_rng(1).uniform(0.1, 1, 3000) * 1.7e308,
        np.append(np.random.default_rng(1).normal(size=3000), [-1.7e308, 1.7e308]),
        np.random.default_rng(1).uniform(0, 1, 3000) * 1e-310,
    ],
    ids=["the smallest", "wide", "large", "far away", "tiny"],
)
def test_the_range_of_floats_is_no_trouble(values: Floats) -> None:
    of = weigher(values)
    for shifts in of.shifts.values():
        assert np.all(np.isfinite(shifts.by))
        for ratios in np.exp(shifts.log_ratios):
            assert most_expected(ratios, of.events.tube(0)) <= 1 + 1e-7


def test_where_all_is_near_enough_there_is_none() -> None:
    assert weigher(ages(np.random.default_rng(1), 6000), Limits(0.95, 1e6, 0.9)).shifts == {}


def test_few_values_have_none() -> None:
    assert weigher(np.arange(2000.0) % 20).shifts == {}
    assert weigher(np.full(100, np.nan)).shifts == {}


@pytest.mark.parametrize("by", [-6.0, 6.0])
def test_a_shift_is_found_before_any_one_limit_is_left_for_sure(by: float) -> None:
    """In 400 rows; by their distance alone it takes 700 and more."""
    after = ages(np.random.default_rng(5), 400) + by
    counted = tally(AGES, after)[np.newaxis]
    successes, trials = (part.astype(np.float64) for part in AGES.events.count(counted))
    evidence = AGES._evidence(successes, trials, counted, ONE_BY_ONE)[0]
    needed = AGES.needed(np.array(3600.0))
    excess = {measure: evidence[at] - needed[at] for (_, measure), at in AGES.place.items()}

    assert excess.pop("shift") > 0
    assert max(excess.values()) < 0
    each = AGES.shifts[0].log_evidence(counted, ONE_BY_ONE)[0]
    assert AGES.shifts[0].by[np.argmax(each)] == by


def test_quiet_rows_are_no_evidence() -> None:
    for seed in range(20):
        counted = tally(AGES, ages(np.random.default_rng(100 + seed), 2000))[np.newaxis]
        assert AGES.shifts[0].log_evidence(counted, ONE_BY_ONE).max() < 0


def expected_of_a_cluster(shifts: Shifts, tube: Tube, rows: int, clusters: Clusters) -> float:
    """The largest of any tolerated distribution when one value comes so many times."""
    parts = shifts.entries.size - 1
    entries = np.zeros((parts, int(shifts.entries.max()) + 1), np.int64)
    entries[:, shifts.entries] = rows * np.tri(parts + 1, parts, -1, dtype=np.int64).T
    evidence = shifts.log_evidence(entries, clusters.each(np.zeros(parts, np.int64)))
    return max(most_expected(np.exp(each), tube) for each in evidence.T)


@pytest.mark.parametrize("rows", [2, 7, 20])
@pytest.mark.parametrize("known", [0.0, 20.0])
def test_a_client_that_repeats_a_row_is_no_more_evidence_than_one_row(
    rows: int, known: float
) -> None:
    shifts, tube = AGES.shifts[0], AGES.events.tube(0)
    clusters = Clusters(np.ones(1), np.array([20.0]), np.array([known]))

    assert expected_of_a_cluster(shifts, tube, rows, clusters) <= 1 + 1e-9
    assert expected_of_a_cluster(shifts, tube, rows, ONE_BY_ONE) > 1.1


def test_pairs_beside_a_burst_are_no_evidence() -> None:
    """Half of 400 rows come in pairs: the most that any tolerated rows expect of their product."""
    shifts, tube = AGES.shifts[0], AGES.events.tube(0)
    ratios = np.exp(shifts.log_ratios[1])
    pairs, rows, largest = 100, 400, 20.0
    effect = 1 + (2 * pairs + largest * (largest - 1)) / rows
    clusters = Clusters(np.array([effect]), np.array([largest]), np.array([largest]))
    most = int(np.argmax(ratios))
    counted = np.zeros((1, int(shifts.entries.max()) + 1), np.int64)
    counted[:, shifts.entries[most + 1 :]] = rows

    taken = rows * np.log(ratios[most]) - shifts.log_evidence(counted, clusters)[0, 1]

    assert taken > pairs * np.log(most_expected(ratios**2, tube)) > 0


def test_one_burst_does_not_hide_a_shift_of_many_single_rows() -> None:
    after = np.concatenate((ages(np.random.default_rng(5), 1500) - 6, np.full(20, 44.0)))
    counted = tally(AGES, after)[np.newaxis]
    burst = Clusters(np.ones(1), np.array([20.0]), np.array([20.0]))

    single = AGES.shifts[0].log_evidence(counted, ONE_BY_ONE).max()
    found = AGES.shifts[0].log_evidence(counted, burst).max()

    assert single / 20 < 0.4 * single < found < single


def test_no_rows_are_no_evidence() -> None:
    none = np.zeros((1, int(AGES.shifts[0].entries.max()) + 1), np.int64)

    assert AGES.shifts[0].log_evidence(none, ONE_BY_ONE).max() <= 0
