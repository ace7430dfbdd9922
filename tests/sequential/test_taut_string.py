"""The shortest way through a tube. That it is the nearest: tests/test_benchmarks_floor.py."""

from __future__ import annotations

import numpy as np

from monitorkit.sequential.taut_string import taut_string


def test_a_string_goes_straight_where_the_tube_is_wide_and_bends_where_it_is_not() -> None:
    x = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    low, high = np.array([0, 0, 0, 0, 1.0]), np.array([0, 1, 1, 1, 1.0])
    np.testing.assert_allclose(taut_string(x, low, high), x)
    low = np.array([0, 0, 0.7, 0, 1.0])
    np.testing.assert_allclose(taut_string(x, low, high), [0, 0.35, 0.7, 0.85, 1])
    high = np.array([0, 0.1, 1, 1, 1.0])
    np.testing.assert_allclose(taut_string(x, low, high), [0, 0.1, 0.7, 0.85, 1])
