"""The checkpoint gives back what it was given, or says that it cannot be trusted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monitorkit.monitoring import checkpoint

SHARED_FOLDER = [HealthCheck.function_scoped_fixture]  # each example overwrites its file

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


@settings(max_examples=150, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(document=st.dictionaries(st.text(), trees, max_size=4))
def test_loads_what_was_saved_to_the_last_bit(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.save(path, document)
    loaded = checkpoint.load(path)
    assert loaded is not None
    assert same(document, loaded)


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "a.ckpt") is None


@settings(max_examples=60, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_changed_bit_is_never_believed(tmp_path: Path, place: int, bit: int) -> None:
    path = tmp_path / "a.ckpt"
    document = {"numbers": np.arange(10), "text": "x" * 20}
    checkpoint.save(path, document)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    loaded = checkpoint.load(path)
    # A bit of the head may be one that does not matter (its `bytes`); the body is under the hash.
    assert loaded is None or same(loaded, document)


def test_a_torn_file_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.save(path, {"numbers": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:-100])
    assert checkpoint.load(path) is None


def test_another_schema_version_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.save(path, {})
    path.write_bytes(path.read_bytes().replace(b'"schema_version": 1', b'"schema_version": 9'))
    assert checkpoint.load(path) is None


def test_objects_are_refused_rather_than_pickled(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object"):
        checkpoint.save(tmp_path / "a.ckpt", {"x": object()})
    with pytest.raises(TypeError, match="numbers"):
        checkpoint.save(tmp_path / "a.ckpt", {"x": np.array(["text"])})
    assert list(tmp_path.iterdir()) == []
