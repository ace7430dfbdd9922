"""The distribution of the Kolmogorov-Smirnov statistic is scipy's."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import kstwo

from monitorkit import kolmogorov
from monitorkit.kolmogorov import two_sided_sf


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 3000) | st.integers(1, 10**8), st.floats(0, 5))
@example(141, 0.548)
@example(140, 1.999)
@example(141, math.sqrt(2.2))
def test_every_probability_is_scipys(rows: int, scaled: float) -> None:
    distance = min(1.0, scaled / math.sqrt(rows))
    expected = float(kstwo.sf(distance, rows))
    assert two_sided_sf(rows, distance) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.integers(1, 500), st.floats(0, 1))
def test_any_distance_of_few_rows(rows: int, distance: float) -> None:
    expected = float(kstwo.sf(distance, rows))
    assert two_sided_sf(rows, distance) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_process_that_judges_does_not_wait_for_scipy_stats() -> None:
    code = (
        "import sys; from monitorkit import counts; from monitorkit.kolmogorov import two_sided_sf;"
        "two_sided_sf(100, 0.3); assert 'scipy.special' in sys.modules;"
        "assert not {'scipy.stats', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_ends() -> None:
    assert [two_sided_sf(10, d) for d in (-0.0, 0.0, 0.05, 1.0)] == [1.0, 1.0, 1.0, 0.0]
    assert math.isnan(two_sided_sf(0, 0.5))
    assert two_sided_sf(10**9, 0.5) == 0


def test_the_ways_meet_where_one_ends() -> None:
    """Rows and distances that two ways can take give the same in both."""
    for rows in (200, 2000, 20_000):
        for z in (0.6, 0.9, 1.2):
            exact = kolmogorov._durbin(rows, z / math.sqrt(rows))
            near = kolmogorov._pelz_good(rows, z / math.sqrt(rows))
            assert near == pytest.approx(exact, abs=0.2 / rows**2)
