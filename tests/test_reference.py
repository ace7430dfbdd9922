"""The reference: frozen once, whole or absent, and never believed without its hash."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from monitorkit import durable, reference
from monitorkit.errors import (
    DataError,
    ReferenceChanged,
    ReferenceExists,
    ReferenceMissing,
    ReferenceProblem,
    ReferenceUnreadable,
    SchemaError,
)
from monitorkit.reference import DATA, METADATA, Metadata
from monitorkit.schema import Feature, FeatureSchema

NAN = float("nan")
SCHEMA = FeatureSchema(
    (Feature("age", "integer"), Feature("income, monthly", nullable=True), Feature("ratio"))
)
ROWS = np.array([[47.0, NAN, 0.1], [30.0, 5400.0, 1e-300], [NAN, 1234.5, 1 / 3]])


def freeze(folder: Path, features: NDArray[np.float64] = ROWS) -> Metadata:
    return reference.freeze(folder, features, SCHEMA, source="test rows", model_version="3")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """As somebody with rights does it: the file is read-only, its folder is not."""
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def edit_metadata(folder: Path, *, seal: bool = False, **changes: Any) -> None:
    def change(content: bytes) -> bytes:
        document = {**json.loads(content), **changes}
        if seal:
            del document["metadata_hash"]
            document["metadata_hash"] = reference._hash(document)
        return json.dumps(document).encode()

    edit(folder / METADATA, change)


def test_what_is_frozen_is_what_is_loaded(tmp_path: Path) -> None:
    metadata = freeze(tmp_path / "reference")
    loaded = reference.load(tmp_path / "reference")
    assert loaded.metadata == metadata == reference.verify(tmp_path / "reference")
    np.testing.assert_array_equal(loaded.features, ROWS)
    assert not loaded.features.flags.writeable


def test_the_data_is_plain_csv(tmp_path: Path) -> None:
    freeze(tmp_path)
    assert (tmp_path / DATA).read_text() == (
        'age,"income, monthly",ratio\n47,,0.1\n30,5400.0,1e-300\n,1234.5,0.3333333333333333\n'
    )


def test_the_metadata_says_what_design_promises(tmp_path: Path) -> None:
    freeze(tmp_path)
    document = json.loads((tmp_path / METADATA).read_text(), parse_constant=pytest.fail)
    data = (tmp_path / DATA).read_bytes()
    assert document["schema_version"] == 1
    assert document["reference_hash"] == hashlib.sha256(data).hexdigest()
    assert document["num_samples"] == 3
    assert document["num_features"] == 3
    assert document["features"] == list(SCHEMA.names)
    assert FeatureSchema.from_json(document["feature_schema"]) == SCHEMA
    assert document["source"] == "test rows"
    assert document["model_version"] == "3"
    assert document["purpose"]
    assert "Frozen" in document["mutation_policy"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["created_at"])


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.just(3)),
        elements=st.floats(allow_infinity=False),
    )
)
def test_every_number_comes_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, features: NDArray[np.float64]
) -> None:
    folder = tmp_path_factory.mktemp("reference")
    freeze(folder, features)
    np.testing.assert_array_equal(reference.load(folder).features, features)


def test_a_single_column_keeps_its_missing_rows(tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("x"),))
    features = np.array([[1.5], [NAN], [2.5]])
    reference.freeze(tmp_path, features, schema, source="x", model_version="1")
    np.testing.assert_array_equal(reference.load(tmp_path).features, features)
    with (tmp_path / DATA).open(newline="") as file:
        assert list(csv.reader(file)) == [["x"], ["1.5"], [""], ["2.5"]]


def test_the_files_are_read_only(tmp_path: Path) -> None:
    freeze(tmp_path / "reference")
    for name in (DATA, METADATA):
        assert stat.S_IMODE((tmp_path / "reference" / name).stat().st_mode) == 0o444
    assert names_in(tmp_path) == ["reference"]


def test_an_empty_folder_may_be_there_already(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    freeze(tmp_path / "reference")
    assert reference.verify(tmp_path / "reference").num_samples == 3


def test_a_second_freeze_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    metadata = freeze(tmp_path)
    before = (tmp_path / DATA).read_bytes()
    with pytest.raises(ReferenceExists, match=re.escape(metadata.created_at)):
        freeze(tmp_path, ROWS + 1)
    assert (tmp_path / DATA).read_bytes() == before


def test_a_folder_with_anything_in_it_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ReferenceExists, match="an unknown time"):
        freeze(tmp_path)
    assert names_in(tmp_path) == ["mine.txt"]


def test_of_two_that_freeze_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reference"
    monkeypatch.setattr(reference, "refuse_existing", lambda _: None)  # both have passed it
    first = freeze(folder)
    with pytest.raises(ReferenceExists, match=re.escape(first.created_at)):
        freeze(folder, ROWS + 1)
    assert reference.verify(folder) == first
    assert names_in(tmp_path) == ["reference"]


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from monitorkit import reference
from monitorkit.schema import Feature, FeatureSchema

calls = 0
def counted(original):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os._exit(9)
        return original(*arguments, **named)
    return call

steps = [(os, "fsync"), (os, "close"), (Path, "mkdir"), (Path, "chmod"), (Path, "rename")]
for owner, name in steps:
    setattr(owner, name, counted(getattr(owner, name)))
schema = FeatureSchema((Feature("x"), Feature("y")))
reference.freeze(Path(sys.argv[1]), np.ones((100, 2)), schema, source="x", model_version="1")
"""


def test_a_process_killed_in_the_middle_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    seen = set()
    for call in range(1, 40):
        folder = tmp_path / str(call) / "reference"
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(call)], check=False, timeout=60
        )
        try:
            assert reference.load(folder).features.shape == (100, 2)
            seen.add("all")
        except ReferenceMissing:
            seen.add("nothing")
            assert not folder.exists()
        if done.returncode == 0:
            break
        assert done.returncode == 9
    else:
        pytest.fail("never got through")
    assert seen == {"all", "nothing"}


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    old, new = (durable.beside(folder) for _ in range(2))
    for leftover in (old, new):
        leftover.mkdir()
        (leftover / DATA).write_text("half")
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    freeze(folder)
    assert names_in(tmp_path) == sorted(["reference", new.name])  # it may be at work


def test_one_changed_byte_is_found_with_both_hashes(tmp_path: Path) -> None:
    metadata = freeze(tmp_path)
    edit(tmp_path / DATA, lambda content: content.replace(b"5400.0", b"5400.1"))
    found = hashlib.sha256((tmp_path / DATA).read_bytes()).hexdigest()
    for read in (reference.verify, reference.load):
        with pytest.raises(ReferenceChanged) as caught:
            read(tmp_path)
        assert (caught.value.expected, caught.value.found) == (metadata.reference_hash, found)
        assert caught.value.path.endswith(DATA)


@pytest.mark.parametrize(
    "changes",
    [
        {"reference_hash": "0" * 64},
        {"num_samples": 4},
        {"purpose": "another"},
        {"created_at": "2020-01-01T00:00:00.000000Z"},
        {"feature_schema": FeatureSchema((Feature("age"),)).to_json()},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_edited_metadata_is_found(tmp_path: Path, changes: dict[str, Any]) -> None:
    freeze(tmp_path)
    edit_metadata(tmp_path, **changes)
    with pytest.raises(ReferenceChanged, match=METADATA):
        reference.verify(tmp_path)


def test_metadata_that_were_only_laid_out_anew_are_the_same(tmp_path: Path) -> None:
    metadata = freeze(tmp_path)
    edit_metadata(tmp_path)
    assert reference.verify(tmp_path) == metadata


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_samples": 4}, "3 rows of 3 columns"),
        ({"features": ["age", "x", "ratio"]}, "the columns differ"),
    ],
    ids=["rows", "columns"],
)
def test_metadata_forged_with_their_hash_must_still_fit_the_data(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    freeze(tmp_path)
    edit_metadata(tmp_path, seal=True, **changes)
    with pytest.raises(ReferenceUnreadable, match=reason):
        reference.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"schema_version": 1}'],
    ids=["empty", "torn", "list", "null", "not utf-8", "no keys", "few keys"],
)
def test_metadata_that_are_none_are_named(tmp_path: Path, content: bytes) -> None:
    freeze(tmp_path)
    edit(tmp_path / METADATA, lambda _: content)
    with pytest.raises(ReferenceUnreadable, match=METADATA):
        reference.verify(tmp_path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    freeze(tmp_path)
    edit_metadata(tmp_path, seal=True, schema_version=2)
    with pytest.raises(ReferenceUnreadable, match="schema_version 2 is not 1"):
        reference.verify(tmp_path)


@pytest.mark.parametrize("name", [DATA, METADATA])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    freeze(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ReferenceMissing, match=f"{name} is gone"):
        reference.verify(tmp_path)


def test_no_reference_tells_how_to_get_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ReferenceMissing, match="python -m monitorkit bootstrap"):
            reference.verify(folder)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_not_followed(tmp_path: Path) -> None:
    real, linked = tmp_path / "real", tmp_path / "linked"
    metadata = freeze(real)
    for name, error in ((DATA, ReferenceChanged), (METADATA, ReferenceUnreadable)):
        away = tmp_path / f"away-{name}"
        (real / name).rename(away)
        (real / name).symlink_to(away)
        with pytest.raises(error, match="symbolic link") as caught:
            reference.load(real)
        if isinstance(caught.value, ReferenceChanged):
            assert caught.value.expected == metadata.reference_hash
        (real / name).unlink()
        away.rename(real / name)
    linked.symlink_to(real)
    with pytest.raises(ReferenceUnreadable, match="symbolic link"):
        reference.load(linked)
    with pytest.raises(ReferenceExists):
        freeze(linked)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    freeze(tmp_path)
    (tmp_path / DATA).unlink()
    os.mkfifo(tmp_path / DATA)
    with pytest.raises(ReferenceUnreadable, match="not a regular file"):
        reference.verify(tmp_path)


def test_what_cannot_be_a_reference_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    with pytest.raises(DataError, match="no rows"):
        freeze(folder, np.empty((0, 3)))
    with pytest.raises(DataError, match=r"line 3, column 'ratio'.*infinite"):
        freeze(folder, np.array([[1.0, 1.0, 1.0], [1.0, 1.0, np.inf]]))
    with pytest.raises(SchemaError, match="3 features"):
        freeze(folder, np.ones((2, 2)))
    assert names_in(tmp_path) == []


def test_every_problem_is_one_that_monitoring_handles() -> None:
    problems = (ReferenceChanged, ReferenceExists, ReferenceMissing, ReferenceUnreadable)
    assert all(issubclass(problem, ReferenceProblem) for problem in problems)


def test_30000_rows_are_read_in_no_time(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    features = np.column_stack(
        [random.integers(20, 90, 30_000), random.integers(0, 20_000, 30_000), random.random(30_000)]
    ).astype(np.float64)
    freeze(tmp_path, features)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        reference.load(tmp_path)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2  # 0.02 s on a quiet machine
