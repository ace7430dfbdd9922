"""Rows that are in the log: found whatever their order, in bounded memory, by id and time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_place import SHORT, START, stamp
from numpy.typing import NDArray
from structlog.testing import capture_logs

from monitorkit.importing import known
from monitorkit.importing.known import KeySet, KnownRows
from monitorkit.prediction_log import Reader
from monitorkit.prediction_log.compression import Compression
from monitorkit.prediction_log.folders import folders_of
from monitorkit.prediction_log.imported import ImportedSegments
from monitorkit.prediction_log.rows import Formatter, Prediction, header


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def known_rows(folder: Path, stack: ExitStack, archives: Sequence[str] = ()) -> KnownRows:
    return KnownRows(folders_of(folder, archives), stack)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1))), st.lists(st.integers(0, 9)))
def test_a_key_set_is_a_set(parts: list[list[int]], more: list[int]) -> None:
    keys, expected = KeySet(), set(more)
    keys.add(np.array(more, dtype=np.int64))
    for part in parts:
        keys.add(np.array(part, dtype=np.int64))
        expected |= set(part)
    asked = [*expected, 3, 5, -1, 7]
    assert keys.holds(np.array(asked, dtype=np.int64)).tolist() == [a in expected for a in asked]


def test_large_runs_are_kept_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "IN_MEMORY", 10)
    monkeypatch.setattr(known, "LARGEST_RUN", 100)
    keys = KeySet()
    for start in range(0, 1000, 50):
        keys.add(np.arange(start, start + 50) * 2)
    assert keys.holds(np.arange(2000)).tolist() == [n % 2 == 0 for n in range(2000)]


def lines(numbers: list[int]) -> tuple[list[bytes], list[str]]:
    times = [stamp(START + timedelta(seconds=n)) for n in numbers]
    rows = [
        Prediction(f'id "{n}", quoted' if n % 3 else f"id-{n}", time, "1", 1, 0.5, [1.0, 2.0])
        for n, time in zip(numbers, times, strict=True)
    ]
    return Formatter(SHORT).lines(rows).splitlines(keepends=True), times


@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_of_all_segments_are_found(
    tmp_path: Path, opened: ExitStack, *, shuffled: bool
) -> None:
    order = list(range(5000))
    if shuffled:
        random.Random(1).shuffle(order)  # noqa: S311 - no secret
    with ImportedSegments(tmp_path, 50_000) as segments:
        for start in range(0, 4000, 500):
            segments.add(SHORT.names, *lines(order[start : start + 500]))
        segments.publish()
    live, _ = lines(order[4000:4500])
    (tmp_path / "predictions-eu.csv").write_bytes(header(SHORT.names) + b"".join(live) + b"torn")
    (tmp_path / "predictions.csv.torn").write_bytes(b"nothing")
    rows = known_rows(tmp_path, opened)
    found = []
    for start in range(0, 5000, 700):
        logged, again = rows.check(*lines(order[start : start + 700]))
        assert not again.any()
        found += logged.tolist()
    assert found == [True] * 4500 + [False] * 500


def test_rows_behind_a_clock_that_was_set_back_are_found(tmp_path: Path, opened: ExitStack) -> None:
    """The first row of such a segment, which names it, is not its earliest."""
    (late,), _ = lines([3600])
    rest, _ = lines(list(range(1, 6)))
    name = "predictions-20260102T040405.123456Z.csv"
    (tmp_path / name).write_bytes(header(SHORT.names) + late + b"".join(rest))
    logged, _ = known_rows(tmp_path, opened).check(*lines(list(range(1, 8))))
    assert logged.tolist() == [True] * 5 + [False] * 2


def compress(folder: Path, numbers: list[int]) -> Path:
    path = folder / "predictions-20260102T030405.123456Z.csv"
    path.write_bytes(header(SHORT.names) + b"".join(lines(numbers)[0]))
    cursor = [block.cursor for block in Reader(folder).read({})][-1]
    assert not Compression(folder).work(cursor, seconds=60)
    return path.with_suffix(".parquet")


def test_rows_of_compressed_segments_are_found(tmp_path: Path, opened: ExitStack) -> None:
    compress(tmp_path, list(range(100)))
    (tmp_path / "predictions-eu-20260102T030405.123456Z.parquet").write_bytes(b"damaged")
    with capture_logs() as events:
        logged, _ = known_rows(tmp_path, opened).check(*lines([5, 6, 99, 100]))
    assert logged.tolist() == [True, True, True, False]
    assert [event["event"] for event in events] == ["prediction_log_header_unknown"]


def test_damage_in_a_compressed_segment_is_told(tmp_path: Path, opened: ExitStack) -> None:
    path = compress(tmp_path, list(range(100)))
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.write_bytes(content)
    with capture_logs() as events:
        logged, _ = known_rows(tmp_path, opened).check(*lines([5]))
    assert logged.tolist() == [False]
    assert [event["event"] for event in events] == ["prediction_log_segment_damaged"]
    assert events[0]["file"] == str(path)


def test_files_may_change_their_names_and_folders_meanwhile(
    tmp_path: Path, opened: ExitStack
) -> None:
    here, archive = tmp_path / "here", tmp_path / "archive"
    here.mkdir()
    archive.mkdir()
    (archive / "README").touch()
    text = [header(SHORT.names) + b"".join(lines([n, n + 1])[0]) for n in (0, 10, 20)]
    closed = [here / f"predictions-20260102T0304{n}5.123456Z.csv" for n in range(2)]
    for path, content in zip([*closed, here / "predictions.csv"], text, strict=True):
        path.write_bytes(content)
    rows = known_rows(here, opened, [str(archive)])
    closed[0].rename(archive / closed[0].name)
    cursor = [block.cursor for block in Reader(here).read({})][-1]
    assert not Compression(here).work(cursor, seconds=60)
    assert not closed[1].exists()
    (here / "predictions.csv").rename(archive / "predictions-20260102T030425.123456Z.csv")
    (here / "predictions.csv").write_bytes(header(SHORT.names))
    logged, _ = rows.check(*lines([0, 1, 2, 10, 11, 20, 21, 22]))
    assert logged.tolist() == [True, True, False, True, True, True, True, False]


def test_a_segment_that_is_in_several_folders_is_read_once(
    tmp_path: Path, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = header(SHORT.names) + b"".join(lines([1, 2])[0])
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
        (folder / "predictions-20260102T030405.123456Z.csv").write_bytes(text)
    added: list[int] = []
    real = KeySet.add

    def add(keys: KeySet, some: NDArray[np.int64]) -> None:
        added.append(len(some))
        real(keys, some)

    monkeypatch.setattr(KeySet, "add", add)
    rows = known_rows(folders[0], opened, [str(folder) for folder in folders[1:]])
    assert rows.check(*lines([1, 2, 3]))[0].tolist() == [True, True, False]
    assert added == [2, 1]


def test_rows_that_came_before_are_told_from_those_that_are_logged(
    tmp_path: Path, opened: ExitStack
) -> None:
    rows = known_rows(tmp_path, opened)
    assert [mask.tolist() for mask in rows.check(*lines([1, 2, 2]))] == [
        [False, False, False],
        [False, False, True],
    ]
    assert [mask.tolist() for mask in rows.check(*lines([2, 3]))] == [[False] * 2, [True, False]]


def test_an_id_at_another_time_is_another_row(tmp_path: Path, opened: ExitStack) -> None:
    rows = known_rows(tmp_path, opened)
    first, times = lines([1])
    rows.check(first, times)
    later = stamp(START + timedelta(days=1))
    moved = [first[0].replace(times[0].encode(), later.encode())]
    logged, again = rows.check(moved, [later])
    assert not logged.any()
    assert not again.any()
