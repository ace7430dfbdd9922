"""Rows that are in the log: found whatever their order, in bounded memory, by id and time."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_place import SHORT, START, stamp
from pyarrow import csv, parquet
from structlog.testing import capture_logs

from monitorkit.importing import known
from monitorkit.importing.known import KeySet, KnownRows
from monitorkit.prediction_log.imported import ImportedSegments
from monitorkit.prediction_log.rows import Formatter, Prediction, header


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
def test_rows_of_all_segments_are_found(tmp_path: Path, *, shuffled: bool) -> None:
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
    rows = KnownRows(tmp_path)
    found = []
    for start in range(0, 5000, 700):
        logged, again = rows.check(*lines(order[start : start + 700]))
        assert not again.any()
        found += logged.tolist()
    assert found == [True] * 4500 + [False] * 500


def test_rows_of_compressed_segments_are_found(tmp_path: Path) -> None:
    text = header(SHORT.names) + b"".join(lines(list(range(100)))[0])
    table = csv.read_csv(
        pa.BufferReader(text),
        convert_options=csv.ConvertOptions(column_types={"timestamp": pa.timestamp("us", "UTC")}),
    )
    parquet.write_table(table, tmp_path / "predictions-20260102T030405.123456Z.parquet")
    (tmp_path / "predictions-eu-20260102T030405.123456Z.parquet").write_bytes(b"damaged")
    with capture_logs() as events:
        logged, _ = KnownRows(tmp_path).check(*lines([5, 6, 99, 100]))
    assert logged.tolist() == [True, True, True, False]
    assert [event["event"] for event in events] == ["prediction_log_header_unknown"]


def test_rows_that_came_before_are_told_from_those_that_are_logged(tmp_path: Path) -> None:
    rows = KnownRows(tmp_path)
    assert [mask.tolist() for mask in rows.check(*lines([1, 2, 2]))] == [
        [False, False, False],
        [False, False, True],
    ]
    assert [mask.tolist() for mask in rows.check(*lines([2, 3]))] == [[False] * 2, [True, False]]


def test_an_id_at_another_time_is_another_row(tmp_path: Path) -> None:
    rows = KnownRows(tmp_path)
    first, times = lines([1])
    rows.check(first, times)
    later = stamp(START + timedelta(days=1))
    moved = [first[0].replace(times[0].encode(), later.encode())]
    logged, again = rows.check(moved, [later])
    assert not logged.any()
    assert not again.any()
