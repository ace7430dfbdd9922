"""The checkpoint gives back what it was given, or says that it cannot be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitorkit.monitoring import checkpoint, encoding

SHARED_FOLDER = [HealthCheck.function_scoped_fixture]  # each example overwrites its file
DOCUMENT = {"numbers": np.arange(10), "text": "x" * 20, "none": None, "share": 0.1}


def test_loads_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.save(path, DOCUMENT)
    loaded = checkpoint.load(path)
    assert loaded is not None
    assert encoding.encode(loaded) == encoding.encode(DOCUMENT)


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "a.ckpt") is None


@settings(max_examples=60, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_changed_bit_is_never_believed(tmp_path: Path, place: int, bit: int) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.save(path, DOCUMENT)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    loaded = checkpoint.load(path)
    # A bit of the head may be one that does not matter (its `bytes`); the body is under the hash.
    assert loaded is None or encoding.encode(loaded) == encoding.encode(DOCUMENT)


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


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object"):
        checkpoint.save(tmp_path / "a.ckpt", {"x": object()})
    assert list(tmp_path.iterdir()) == []
