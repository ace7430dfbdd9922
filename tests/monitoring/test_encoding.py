"""Summaries come back from their bytes as they were, to the last bit; no object ever does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monitorkit.monitoring import encoding

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
arrays = hnp.arrays(
    dtype=st.sampled_from([np.int64, np.uint64, np.float64, np.bool_, np.int8]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
trees = st.recursive(
    scalars | arrays,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return bool(left.dtype == right.dtype and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and bool(left == right)


@settings(max_examples=150, deadline=None)
@given(document=st.dictionaries(st.text(), trees, max_size=4))
def test_a_document_comes_back_to_the_last_bit(document: dict[str, Any]) -> None:
    assert same(document, encoding.decode(encoding.encode(document)))


@dataclass(frozen=True)
class Summary:
    rows: int
    counts: np.ndarray


def test_a_summary_is_made_of_its_fields() -> None:
    dumped = encoding.dump_summary(Summary(3, np.array([1, 2], np.uint8)))
    loaded = encoding.load_summary(Summary, dumped)
    assert (loaded.rows, loaded.counts.tolist()) == (3, [1, 2])
    assert loaded.counts.dtype == np.uint8
    with pytest.raises(TypeError):  # of another version of the class
        encoding.load_summary(Summary, encoding.encode({"rows": 3}))


@pytest.mark.parametrize(
    ("value", "match"), [(object(), "object"), (np.array(["text"]), "numbers"), ({1, 2}, "set")]
)
def test_objects_are_refused_rather_than_pickled(value: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        encoding.encode({"x": value})
