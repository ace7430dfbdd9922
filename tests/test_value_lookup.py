"""Values are found among known ones where a binary search finds them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from numpy.typing import NDArray

from monitorkit.value_lookup import ValueLookup

finite = st.floats(allow_nan=False, allow_infinity=False)
ordinary = st.integers(-1000, 1000).map(lambda number: number / 8)


def known_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unique(values)


def around(known: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is known, its nearest neighbours, and what lies between."""
    with np.errstate(over="ignore", invalid="ignore"):
        between = known[:-1] + np.diff(known) / 2
    edges = [np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308]
    return np.concatenate(
        [known, np.nextafter(known, np.inf), np.nextafter(known, -np.inf), between, edges]
    )


def lookup_of(known: NDArray[np.float64]) -> ValueLookup | None:
    try:
        return ValueLookup(known)
    except ValueError:
        return None


@given(
    some.arrays(np.float64, st.integers(2, 60), elements=finite | ordinary, unique=True),
    some.arrays(np.float64, st.integers(0, 60), elements=finite | ordinary),
)
def test_it_finds_what_a_binary_search_finds(
    known: NDArray[np.float64], values: NDArray[np.float64]
) -> None:
    known = known_of(known)
    if known.size < 2 or (lookup := lookup_of(known)) is None:  # 0.0 and -0.0 are one value
        return
    with np.errstate(invalid="ignore"):
        wanted = np.concatenate([values, around(known)])
    wanted = wanted[~np.isnan(wanted)]
    np.testing.assert_array_equal(lookup.below(wanted), known.searchsorted(wanted))


RANDOM = np.random.default_rng(3)
SHAPES = {
    "even": RANDOM.random(3_000),
    "normal": RANDOM.normal(0, 1, 3_000),
    "far away": RANDOM.normal(1e12, 1, 3_000),
    "a long tail": RANDOM.lognormal(0, 4, 3_000),
    "a tail below": -RANDOM.lognormal(0, 4, 3_000),
    "two tails": RANDOM.standard_cauchy(3_000),
    "steps": RANDOM.integers(0, 100_000, 3_000).astype(np.float64),
    "all in one place, but one": np.append(np.nextafter(1, 2) + RANDOM.random(3_000) / 1e12, 1e12),
    "the smallest there are": np.arange(3_000) * 5e-324,
    "neighbours": 1 + np.arange(3_000) * np.finfo(np.float64).eps,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_the_known_values_is_found_otherwise(shape: str) -> None:
    known = known_of(SHAPES[shape])
    values = RANDOM.permutation(np.concatenate([around(known), RANDOM.choice(known, 20_000)]))
    lookup = ValueLookup(known)
    np.testing.assert_array_equal(lookup.below(values), known.searchsorted(values))


def test_a_range_without_a_finite_length_has_no_table() -> None:
    with pytest.raises(ValueError, match="no finite length"):
        ValueLookup(np.array([-1.5e308, 0.0, 1.5e308]))
