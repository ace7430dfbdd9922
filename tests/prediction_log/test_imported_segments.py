"""Imported rows become part of the log all at once, beside whoever writes and reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prediction_rows import OTHER, SCHEMA, read, rows

from monitorkit.errors import ImportBusy
from monitorkit.prediction_log import Prediction, sidecar
from monitorkit.prediction_log.imported import ImportedSegments, name_of
from monitorkit.prediction_log.rows import Formatter
from monitorkit.schema import FeatureSchema


def add(segments: ImportedSegments, some: list[Prediction], schema: FeatureSchema = SCHEMA) -> None:
    lines = Formatter(schema).lines(some).splitlines(keepends=True)
    segments.add(schema.names, lines, [row.timestamp for row in some])


def test_nothing_is_seen_before_all_is_there(tmp_path: Path) -> None:
    with ImportedSegments(tmp_path, 1000) as segments:
        for _ in range(20):
            add(segments, rows(5))
        assert read(tmp_path) == ([], {})
        added = segments.publish()
    assert len(added) > 2
    assert sum(each.rows for each in added) == 100 == len(read(tmp_path)[0])


def test_what_was_not_published_is_gone(tmp_path: Path) -> None:
    with ImportedSegments(tmp_path, 1000) as segments:
        add(segments, rows(50))
    assert [path.name for path in tmp_path.iterdir()] == ["predictions-import.lock"]


def test_a_segment_is_called_by_its_earliest_row_and_counted(tmp_path: Path) -> None:
    some = rows(9)
    with ImportedSegments(tmp_path, 10**6) as segments:
        add(segments, some[3:])
        add(segments, some[:3])
        (added,) = segments.publish()
    compact = some[0].timestamp.replace("-", "").replace(":", "")
    assert added.path.name == f"predictions-import-{compact}.csv"
    assert (added.first, added.last) == (some[0].timestamp, some[8].timestamp)
    counted = sidecar.read(added.path)
    assert counted is not None
    assert (counted.rows, counted.bytes) == (9, added.path.stat().st_size)
    assert counted.identity == some[3].prediction_id
    assert counted.last_timestamp == some[8].timestamp


def test_no_segment_takes_the_name_of_another(tmp_path: Path) -> None:
    some = rows(6)
    for part in (some[:3], some[:1] + some[3:]):
        with ImportedSegments(tmp_path, 10**6) as segments:
            add(segments, part)
            segments.publish()
    second, first = sorted(path.name for path in tmp_path.glob("*.csv"))
    assert second == first.replace(".csv", "-1.csv")
    assert name_of(some[0].timestamp, tmp_path).endswith("Z-2.csv")
    (tmp_path / second).rename((tmp_path / second).with_suffix(".parquet"))  # compressed since
    assert name_of(some[0].timestamp, tmp_path).endswith("Z-2.csv")


def test_rows_of_other_columns_have_segments_of_their_own(tmp_path: Path) -> None:
    with ImportedSegments(tmp_path, 10**6) as segments:
        for _ in range(3):
            add(segments, rows(2))
            add(segments, rows(2, schema=OTHER), OTHER)
        assert [each.rows for each in segments.publish()] == [6, 6]
    assert len(read(tmp_path)[0]) == 12


def test_rows_with_unusual_ids_are_read_however_few_they_are(tmp_path: Path) -> None:
    some = [
        row._replace(prediction_id=f"order {n}, \u00fc")
        for n, row in enumerate([*rows(2), *rows(2)])
    ]
    for part in (some[:2], some[2:]):
        with ImportedSegments(tmp_path, 10**6) as segments:
            add(segments, part)
            segments.publish()
    found, cursor = read(tmp_path)
    assert found == [row.prediction_id for row in some]
    assert len(cursor) == 2
    assert read(tmp_path, cursor)[0] == []


def test_one_import_at_a_time(tmp_path: Path) -> None:
    with (
        ImportedSegments(tmp_path, 10**6),
        pytest.raises(ImportBusy),
        ImportedSegments(tmp_path, 10**6),
    ):
        raise AssertionError
    with ImportedSegments(tmp_path, 10**6):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from monitorkit.prediction_log.imported import ImportedSegments
segments = ImportedSegments(Path(sys.argv[1]), 100)
segments.__enter__()
for n in range(5):
    segments.add(("a",), [b"x,2026-01-02T03:04:05.000000Z,1,1,0.5,1\\n"] * 9, ["2026"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_import_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -9
    left = [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]  # noqa: PTH208 - hidden
    assert len(left) == 5
    assert read(tmp_path) == ([], {})
    with ImportedSegments(tmp_path, 10**6) as segments:
        add(segments, rows(3))
        segments.publish()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]  # noqa: PTH208
