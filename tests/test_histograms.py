"""Small histograms: exact counts in bins that a person would choose."""

from __future__ import annotations

import json

import numpy as np
import pytest
from compared import compared
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitorkit.histograms import MOST_BINS, histogram


def test_few_values_have_a_bin_each() -> None:
    found = histogram(compared([0, 0, 1, 2], [0, 0.5, 2, 3, -1]))
    assert found == {
        "edges": [0, 1, 2],
        "reference": [2, 1, 1, 0],
        "window": [2, 1, 1, 1],
        "values": True,
    }


def test_whole_numbers_come_as_many_to_each_bin() -> None:
    found = histogram(compared(list(range(18, 98)) * 10, list(range(18, 98))))
    assert found is not None
    assert set(np.diff(found["edges"])[:-1]) == {5.0}
    assert set(found["reference"][1:-3]) == {50}


def test_the_counts_are_those_of_numpy() -> None:
    random = np.random.default_rng(1)
    reference, window = random.normal(size=4000), random.normal(0.5, size=900)
    found = histogram(compared(reference.tolist(), window.tolist()))
    assert found is not None
    for name, values in (("reference", reference), ("window", window)):
        up_to = [int((values <= edge + 1e-4).sum()) for edge in found["edges"]]
        counts = np.diff([0, *up_to, values.size])
        assert np.abs(counts - found[name]).max() <= 2  # edges are told to six digits
    assert len(found["reference"]) == MOST_BINS
    assert np.diff(found["edges"]) == pytest.approx(np.diff(found["edges"])[0], rel=0.1)


def test_a_long_tail_does_not_push_all_rows_into_one_bin() -> None:
    values = np.exp(np.random.default_rng(2).normal(0, 3, 5000)).tolist()
    found = histogram(compared(values, values))
    assert found is not None
    assert max(found["reference"]) < 0.7 * 5000
    assert sum(count > 25 for count in found["reference"]) > 12


def test_nothing_known_is_no_histogram() -> None:
    assert histogram(compared([np.nan, np.nan], [1.0])) is None


@settings(max_examples=40, deadline=None)
@given(
    reference=arrays(np.float64, st.integers(1, 80), elements=st.floats(-1e150, 1e150)),
    window=arrays(
        np.float64, st.integers(0, 40), elements=st.floats(-1e150, 1e150) | st.just(np.nan)
    ),
)
def test_every_row_is_counted_once_and_it_is_json(
    reference: np.ndarray, window: np.ndarray
) -> None:
    column = compared(reference.tolist(), window.tolist())
    found = histogram(column)
    if found is None:
        assert not column.known.size
        return
    json.dumps(found, allow_nan=False)
    assert sum(found["reference"]) == column.reference_rows
    assert sum(found["window"]) == column.window_rows
    assert len(found["reference"]) == len(found["window"]) == len(found["edges"]) + 1 <= MOST_BINS
