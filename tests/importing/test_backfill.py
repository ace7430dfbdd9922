"""An import: rows mean what served ones mean, each of them once, and nothing is lost silently."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_place import (
    HEADER,
    MAPS,
    SCHEMA,
    SHORT,
    START,
    Place,
    as_csv,
    stamp,
    store_model,
    theirs,
)
from pyarrow import parquet
from structlog.testing import capture_logs

from monitorkit.config import Config
from monitorkit.errors import ConfigError, DataError, ImportBusy, ImportFailed, ModelNotFound
from monitorkit.importing.batch import Batch
from monitorkit.importing.cells import SHOWN
from monitorkit.importing.records import CsvFile
from monitorkit.prediction_log import Reader
from monitorkit.prediction_log.compression import Compression
from monitorkit.prediction_log.rows import Formatter, Prediction, header
from monitorkit.schema import LARGEST
from monitorkit.training.table import MISSING


def test_rows_become_segments_as_the_service_writes_them(place: Place) -> None:
    file = place.write(as_csv(theirs(50)))
    summary = place.run(file, maps=MAPS)
    assert (summary.rows, summary.present, summary.rejected) == (50, 0, 0)
    assert (summary.first, summary.last) == (stamp(START), stamp(START + timedelta(seconds=49)))
    (segment,) = place.segments()
    assert segment.name == "predictions-import-20260102T030405.123456Z.csv"
    expected = [
        Prediction(i, t, v, int(label), float(score), [None if c == "" else float(c) for c in rest])
        for i, t, v, label, score, *rest in theirs(50)
    ]
    assert segment.read_bytes() == header(SCHEMA.names) + Formatter(SCHEMA).lines(expected)
    assert place.read() == 50
    assert summary.rejects is None
    assert place.left_behind() == [
        segment.name,
        f"{segment.stem}.json",
        "predictions-import.chain",
    ]


def test_an_export_of_ours_comes_back_to_the_last_bit(place: Place) -> None:
    random = [0.1 + 0.2, 1e-300, 5e-324, 1 - 2**-53, 1.0, 0.0]
    features: list[list[float | None]] = [
        [18.0, None, -0.0],
        [120.0, 1e38, 2**53 + 1.0],
        [50.0, 0.1, 1 / 3],
    ]
    served = [
        Prediction(f"id-{n}", stamp(START + timedelta(seconds=n)), "1", n % 2, score, values)
        for n, (score, values) in enumerate(zip(random, features * 2, strict=True))
    ]
    text = header(SCHEMA.names) + Formatter(SCHEMA).lines(served)
    summary = place.run(place.write(text, "predictions.csv"))
    assert summary.rows == 6
    assert place.segments()[0].read_bytes() == text


served = st.tuples(
    st.text(
        st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=1, max_size=6
    ).filter(lambda text: text not in MISSING),
    st.datetimes(datetime(1980, 1, 1), datetime(2025, 1, 1)),  # noqa: DTZ001 - stamp says UTC
    st.integers(0, 1),
    st.floats(0, 1),
    st.integers(18, 120).map(float),
    st.none() | st.floats(-LARGEST, LARGEST),
    st.floats(-LARGEST, LARGEST),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(served, min_size=1, max_size=12, unique_by=lambda row: row[0]))
def test_any_export_of_ours_comes_back_byte_for_byte(place: Place, rows: list[Any]) -> None:
    shutil.rmtree(place.log, ignore_errors=True)
    predictions = [
        Prediction(identity, stamp(time), "1", label, score, features)
        for identity, time, label, score, *features in rows
    ]
    text = header(SCHEMA.names) + Formatter(SCHEMA).lines(predictions)
    with capture_logs():
        summary = place.run(place.write(text, "predictions.csv"))
    assert summary.rows == len(set(text.splitlines()[1:])) == len(rows)
    assert place.segments()[0].read_bytes() == text
    assert place.read() == len(rows)


def test_importing_a_file_again_adds_nothing(place: Place) -> None:
    file = place.write(as_csv(theirs(50)))
    place.run(file, maps=MAPS)
    before = place.left_behind()
    summary = place.run(file, maps=MAPS)
    assert (summary.rows, summary.present, summary.rejected) == (0, 50, 0)
    assert summary.segments == []
    assert place.left_behind() == before


def test_rows_that_were_compressed_since_are_there_already(place: Place) -> None:
    rows = theirs(50)
    for n, row in enumerate(rows):
        row[0] = f'order "{n}", \u00fc'
    place.run(place.write(as_csv(rows)), maps=MAPS)
    cursor = [block.cursor for block in Reader(place.log).read({})][-1]
    assert not Compression(place.log).work(cursor, seconds=60)
    assert not list(place.log.glob("*.csv"))
    assert place.read() == 50
    summary = place.run(place.write(as_csv([*rows, *theirs(10, first=50)])), maps=MAPS)
    assert (summary.rows, summary.present) == (10, 50)
    assert place.read() == 60


def test_a_file_that_grew_adds_what_is_new(place: Place) -> None:
    place.run(place.write(as_csv(theirs(50))), maps=MAPS)
    summary = place.run(place.write(as_csv(theirs(70))), maps=MAPS)
    assert (summary.rows, summary.present) == (20, 50)
    assert len({row["prediction_id"] for row in place.rows()}) == place.read() == 70


def test_rows_that_the_service_logged_are_there_already(place: Place) -> None:
    served = place.log / "predictions.csv"
    served.parent.mkdir(parents=True)
    rows = [
        Prediction(i, t, v, int(label), float(score), [float(c or "nan") for c in rest])
        for i, t, v, label, score, *rest in theirs(30)
    ]
    served.write_bytes(header(SCHEMA.names) + Formatter(SCHEMA).lines(rows))
    summary = place.run(place.write(as_csv(theirs(50))), maps=MAPS)
    assert (summary.rows, summary.present) == (20, 30)
    assert place.read() == 50


def test_a_row_that_comes_twice_in_a_file_is_taken_once(place: Place) -> None:
    rows = theirs(20)
    summary = place.run(place.write(as_csv([*rows, rows[7]])), maps=MAPS)
    assert (summary.rows, summary.rejected) == (20, 1)
    assert summary.reasons[0].line == 22
    assert "came before in the file" in summary.reasons[0].text


@pytest.mark.parametrize(
    "identity",
    [
        "row-{}",
        "store1,{}",
        "{}",
        "0f8fad5b-d9cb-469f-a165-70867728{:04d}",
        "019e0000-0000-7000-8000-00000000{:04d}",
    ],
)
def test_files_that_count_their_rows_anew_are_all_read(place: Place, identity: str) -> None:
    """Their first rows have one id, at other times."""
    days = []
    for day in range(3):
        rows = theirs(20, start=START + timedelta(days=day))
        for number, row in enumerate(rows):
            row[0] = identity.format(number)
        days.append(as_csv(rows))
        assert place.run(place.write(days[-1], f"{day}.csv"), maps=MAPS).rows == 20
    with capture_logs() as events:
        assert place.read() == 60
    assert events == []
    for day, text in enumerate(days):
        assert place.run(place.write(text, f"{day}.csv"), maps=MAPS).present == 20


def test_a_file_full_of_repeats_is_split_into_lines_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits: list[int] = []

    def counted(self: CsvFile, data: bytes, *, last: bool) -> tuple[Batch, int]:
        batch, used = plain(self, data, last=last)
        raws = batch.raws

        def noted() -> Sequence[bytes]:
            splits.append(len(batch.lines))
            return raws()

        return replace(batch, raws=noted), used

    plain = CsvFile._batch
    monkeypatch.setattr(CsvFile, "_batch", counted)
    rows = theirs(6_000)
    summary = place.run(place.write(as_csv([*rows, *rows])), maps=MAPS)
    assert (summary.rows, summary.rejected) == (6_000, 6_000)
    assert 0 < len(splits) < 20
    assert summary.rejects is not None
    lines = summary.rejects.read_text().splitlines()
    assert lines[1].startswith("6002,")
    assert lines[-1].startswith("12001,")
    assert lines[-1].endswith(",".join(rows[-1]))


def without(rows: list[list[str]], *names: str) -> str:
    keep = [n for n, name in enumerate(HEADER) if name not in names]
    text: str = as_csv([[row[n] for n in keep] for row in rows], [HEADER[n] for n in keep])
    return text


def test_without_ids_each_row_gets_one_that_stays_the_same(place: Place) -> None:
    file = place.write(without(theirs(50), "id"))
    assert place.run(file, maps=MAPS[1:]).rows == 50
    ids = [row["prediction_id"] for row in place.rows()]
    assert len(set(ids)) == 50
    assert ids == sorted(ids)
    assert {identity[14] for identity in ids} == {"8"}
    # Renamed, compressed, and longer than it was: the same rows.
    again = place.write(gzip.compress(without(theirs(60), "id").encode()), "renamed.csv.gz")
    summary = place.run(again, maps=MAPS[1:])
    assert (summary.rows, summary.present) == (10, 50)


def test_equal_rows_without_ids_are_different_rows(place: Place) -> None:
    summary = place.run(place.write(without(theirs(1) * 3, "id")), maps=MAPS[1:])
    assert (summary.rows, summary.rejected) == (3, 0)


def test_without_labels_the_score_says_the_class(place: Place) -> None:
    rows = theirs(20)
    rows[0][4] = "0.5"
    place.run(place.write(without(rows, "label")), maps=[*MAPS[:3], MAPS[4]])
    found = [(row["prediction"], row["probability"]) for row in place.rows()]
    assert found[0] == ("0", "0.5")
    assert all(label == str(int(float(score) > 0.5)) for label, score in found)


def test_labels_of_the_file_are_kept_even_where_the_score_says_otherwise(place: Place) -> None:
    rows = theirs(20)
    for row in rows:
        row[3] = "1"
    place.run(place.write(as_csv(rows)), maps=MAPS)
    assert {row["prediction"] for row in place.rows()} == {"1"}


def test_one_version_may_be_said_for_all_rows(place: Place) -> None:
    file = place.write(without(theirs(10), "model"))
    place.run(file, maps=[m for m in MAPS if "model_version" not in m], version="1")
    assert {row["model_version"] for row in place.rows()} == {"1"}


def test_a_feature_that_the_file_does_not_have_can_be_said_to_be_missing(place: Place) -> None:
    file = place.write(without(theirs(10), "income"))
    with pytest.raises(DataError, match="none of its 10 rows fits: model version 1 reads 'income'"):
        place.run(file, maps=MAPS)
    with pytest.raises(DataError, match="no column 'income', which model version 1 reads"):
        place.run(file, maps=[m for m in MAPS if "model_version" not in m], version="1")
    assert place.run(file, maps=[*MAPS, "income="]).rows == 10
    assert {row["income"] for row in place.rows()} == {""}


def test_features_may_be_spelled_as_requests_spell_them(place: Place) -> None:
    text = as_csv(theirs(10), [*HEADER[:-1], "days_late"])
    assert place.run(place.write(text), maps=MAPS).rows == 10


def test_every_version_has_its_own_columns(place: Place) -> None:
    rows = theirs(40)
    for row in rows[::2]:
        row[2] = "2"
    assert place.run(place.write(as_csv(rows)), maps=MAPS).rows == 40
    heads = {path.read_text().splitlines()[0] for path in place.segments()}
    assert heads == {header(s.names).decode().strip() for s in (SCHEMA, SHORT)}
    assert place.read() == 40


def test_a_map_may_name_a_column_that_only_a_later_version_reads(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CsvFile.__init__, "__kwdefaults__", {"block_bytes": 40_000})
    rows = theirs(30_000)  # so many that the first ones are read before the last ones
    for row in rows[:-10]:
        row[2] = "2"
    header = [*HEADER[:6], "earned", HEADER[7]]
    summary = place.run(place.write(as_csv(rows, header)), maps=[*MAPS, "income=earned"])
    assert (summary.rows, summary.rejected) == (30_000, 0)


def test_versions_that_went_through_a_float_are_meant(place: Place) -> None:
    rows = theirs(10)
    for row in rows:
        row[2] = "1.0"
    assert place.run(place.write(as_csv(rows)), maps=MAPS).rows == 10
    assert {row["model_version"] for row in place.rows()} == {"1"}


NINES = "9" * (SHOWN - 1)
BAD = [
    (0, "", "prediction_id: is missing"),
    (1, "yesterday", "timestamp: must be ISO 8601, not 'yesterday'"),
    (1, "", "timestamp: is missing"),
    (1, "2999-01-01T00:00:00Z", "timestamp: must not be in the future, not 2999-01-01T00:00:00"),
    (1, "1970-01-20T00:00:00Z", "timestamp: must be 1980 or later, not 1970-01-20T00:00:00"),
    (2, "", "model_version: is missing"),
    (2, "v7", "model_version: must be a version of 'credit-risk-model' (none), not 'v7'"),
    (
        2,
        "9" * 3000,  # no path can be so long
        f"model_version: must be a version of 'credit-risk-model' (none), not '{NINES}…",
    ),
    (3, "maybe", "prediction: must be 0 or 1, not 'maybe'"),
    (4, "", "probability: is missing"),
    (4, "high", "probability: must be a number, not 'high'"),
    (4, "1.5", "probability: must be from 0 to 1, not 1.5"),
    (4, "inf", "probability: must be a finite number, not 'inf'"),
    (5, "", "age: is missing, and the model has learned no missing values here"),
    (5, "40.5", "age: must be a whole number, not 40.5"),
    (5, "17", "age: must be at least 18, not 17"),
    (5, "121", "age: must be at most 120, not 121"),
    (6, "1_000", "income: must be a number, not '1_000'"),
    (6, "-inf", "income: must be a finite number, not '-inf'"),
    (7, "NaN", "days-late: is missing, and the model has learned no missing values here"),
]


@pytest.mark.parametrize(("column", "cell", "reason"), BAD, ids=lambda value: str(value)[:30])
def test_a_bad_cell_costs_its_row_and_no_other(
    place: Place, column: int, cell: str, reason: str
) -> None:
    rows = theirs(20)
    rows[7][column] = cell
    with capture_logs() as events:
        summary = place.run(place.write(as_csv(rows)), maps=MAPS)
    assert (summary.rows, summary.rejected) == (19, 1)
    (event,) = [event for event in events if event["event"] == "import_row_rejected"]
    assert (event["line"], event["reason"]) == (9, reason)
    assert rows[7][0] not in {row["prediction_id"] for row in place.rows()}
    assert len(place.rows()) == 19


LINES = [
    (b"a,b", "it has 2 fields where the header has 8"),
    (b"a,b,c,d,e,f,g,h,i", "it has 9 fields where the header has 8"),
    (b'x,"never closed', "a quotation mark is not closed"),
    (b'x,"a"b,1,1,0.5,30,1,1', "it is no CSV: ',' expected after '\"'"),
    (b"x\xff,2026-01-02T03:04:05Z,1,1,0.5,30,1,1", "it is not UTF-8 (byte 0xff)"),
    (b"x\0,2026-01-02T03:04:05Z,1,1,0.5,30,1,1", "it holds NUL bytes"),
    (b"x" * (1 << 20) + b"y,1", "it is no CSV: field larger than field limit (1048576)"),
    (b"x" * (1 << 23), "it is longer than 1048576 bytes"),
]


@pytest.mark.parametrize(("line", "reason"), LINES, ids=[reason[:30] for _, reason in LINES])
def test_a_line_that_is_no_row_costs_itself_and_no_other(
    place: Place, line: bytes, reason: str
) -> None:
    lines = as_csv(theirs(20)).encode().splitlines()
    file = place.write(b"\n".join([*lines[:8], line, *lines[8:]]) + b"\n")
    summary = place.run(file, maps=MAPS)
    assert (summary.rows, summary.rejected) == (20, 1)
    assert [(each.text, each.line) for each in summary.reasons] == [(reason, 9)]
    assert summary.rejects is not None
    number, _, raw = summary.rejects.read_bytes().split(b"\n", 1)[1].partition(b",")
    assert number == b"9"
    assert line[:4096] in raw


def test_all_that_is_wrong_with_a_row_is_said_at_once(place: Place) -> None:
    rows = theirs(20)
    rows[3][4:6] = ["2", "7"]
    summary = place.run(place.write(as_csv(rows)), maps=MAPS)
    assert summary.rejects is not None
    assert "must be from 0 to 1, not 2; age: must be at least 18, not 7" in (
        summary.rejects.read_text()
    )
    assert (summary.rejected, len(summary.reasons)) == (1, 2)


def test_the_rejects_file_can_be_corrected_and_imported(place: Place) -> None:
    rows = theirs(20)
    rows[3][5], rows[9][5] = "7", "one, two"
    summary = place.run(place.write(as_csv(rows)), maps=MAPS)
    assert summary.rejects == place.folder / "theirs.csv.rejects.csv"
    lines = summary.rejects.read_text().splitlines()
    assert lines[0] == "reject_line,reject_reason," + ",".join(HEADER)
    assert [line.split(",")[0] for line in lines[1:]] == ["5", "11"]
    corrected = summary.rejects.read_text().replace(",7,", ",47,").replace('"one, two"', "29")
    again = place.run(place.write(corrected, "corrected.csv"), maps=MAPS)
    assert (again.rows, again.rejected) == (2, 0)
    assert place.read() == 20


def test_rows_that_are_rejected_twice_have_the_ids_that_they_would_have_had(place: Place) -> None:
    rows = [row[1:] for row in theirs(4)]  # without ids, which are made of the row and its line
    rows[1][4], rows[2][4] = "7", "one"
    file = place.write(as_csv(rows, HEADER[1:]))
    first = place.run(file, maps=MAPS[1:])
    assert first.rejects is not None
    half = place.write(first.rejects.read_text().replace(",7,", ",47,"), "half.csv")
    second = place.run(half, maps=MAPS[1:])
    assert (second.rows, second.rejected) == (1, 1)
    assert second.rejects is not None
    assert second.rejects.read_text().startswith("reject_line,reject_reason,reject_line,reject_rea")
    last = place.write(second.rejects.read_text().replace(",one,", ",48,"), "last.csv")
    assert place.run(last, maps=MAPS[1:]).rows == 1
    assert place.read() == 4
    # The rows as they are now, as somebody has them who corrects the first file as well.
    rows[1][4], rows[2][4] = "47", "48"
    again = place.run(place.write(as_csv(rows, HEADER[1:]), "whole.csv"), maps=MAPS[1:])
    assert (again.rows, again.present) == (0, 4)


def test_ids_of_ours_are_the_same_in_capitals(place: Place) -> None:
    """As a store gives them back that has a type for them."""
    rows = theirs(4)
    for n, row in enumerate(rows):
        begin = f"{int((START + timedelta(seconds=n)).timestamp() * 1000):012x}"
        row[0] = f"{begin[:8]}-{begin[8:]}-7abc-8def-{n:012d}"
    assert place.run(place.write(as_csv(rows)), maps=MAPS).rows == 4
    rows = [[row[0].upper(), *row[1:]] for row in rows]
    again = place.run(place.write(as_csv(rows), "capitals.csv"), maps=MAPS)
    assert (again.rows, again.present) == (0, 4)


def test_one_row_with_a_quotation_mark_takes_no_long_cell_from_another(place: Place) -> None:
    rows = [[*row, "x" * 140_000] for row in theirs(2)]
    rows[1][-1] = 'z, "q"'
    done = place.run(place.write(as_csv(rows, [*HEADER, "payload"])), maps=MAPS)
    assert (done.rows, done.rejected) == (2, 0)


def test_one_row_that_does_not_fit_is_told_as_one(place: Place) -> None:
    (row,) = theirs(1)
    file = place.write(as_csv([[*row[:5], "7", *row[6:]]]))
    with pytest.raises(DataError, match=r"its only row does not fit: age: .* \(1 row, on line 2\)"):
        place.run(file, maps=MAPS)


def test_nothing_that_fits_is_an_error_and_leaves_nothing(place: Place) -> None:
    rows = [[*row[:5], "7", *row[6:]] for row in theirs(20)]
    file = place.write(as_csv(rows))
    with pytest.raises(
        DataError,
        match=r"none of its 20 rows fits: age: must be at least 18, not 7 \(20 rows, .* line 2",
    ):
        place.run(file, maps=MAPS)
    assert place.left_behind() == []
    assert sorted(path.name for path in place.folder.iterdir()) == ["monitoring", "theirs.csv"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (as_csv([]).encode(), "a header and no rows"),
        ("id,a".encode("utf-16"), "not text in UTF-8"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
        (gzip.compress(as_csv(theirs(999)).encode())[:-40], "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_a_clear_error(place: Place, content: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        place.run(place.write(content), maps=MAPS)
    assert place.left_behind() == []


def test_a_file_that_is_not_there_is_a_clear_error(place: Place) -> None:
    with pytest.raises(DataError, match=r"no\.csv: it cannot be read: No such file"):
        place.run(Path("no.csv"))
    for folder in (place.folder, Path()):
        with pytest.raises(DataError, match="it is a folder"):
            place.run(folder)


def test_a_missing_column_is_told_with_what_to_write(place: Place) -> None:
    with pytest.raises(DataError, match=r"no columns 'timestamp', 'probability'\.") as error:
        place.run(place.write(as_csv(theirs(5))), version="1")
    assert "--map timestamp=" in str(error.value)
    assert "The file has: id, event_time, model" in str(error.value)
    with pytest.raises(DataError, match=r"'model_version'\. .*\(or --version V for all rows\)"):
        place.run(place.write(as_csv(theirs(5))), maps=MAPS[1::3])


def test_an_unknown_version_is_told_with_those_that_there_are(place: Place) -> None:
    with pytest.raises(ModelNotFound, match="version 9 of model"):
        place.run(place.write(as_csv(theirs(5))), maps=[*MAPS[:2], *MAPS[3:]], version="9")
    assert not (place.folder / "monitoring/mlflow").exists()


def test_a_version_is_said_in_one_way(place: Place) -> None:
    with pytest.raises(ConfigError, match="--version"):
        place.run(place.write(as_csv(theirs(5))), maps=MAPS, version="1")


def test_a_map_of_nothing_of_ours_is_an_error_with_a_suggestion(place: Place) -> None:
    with pytest.raises(ConfigError, match="we have no column 'agee'; did you mean 'age'"):
        place.run(place.write(as_csv(theirs(5))), maps=[*MAPS, "agee=age"])
    assert place.left_behind() == []


def test_a_version_cannot_be_left_out(place: Place) -> None:
    rows = as_csv(theirs(5), ["", *HEADER[1:]])  # as pandas writes its index
    with pytest.raises(DataError, match=r"'model_version'\. .*\(or --version V for all rows\)"):
        place.run(place.write(rows), maps=[*MAPS[1:2], *MAPS[3:], "model_version="])


def test_a_dry_run_writes_nothing_but_rejects(place: Place) -> None:
    rows = theirs(20)
    rows[3][5] = "7"
    summary = place.run(place.write(as_csv(rows)), maps=MAPS, dry_run=True)
    assert (summary.rows, summary.rejected, summary.segments) == (19, 1, [])
    assert not place.log.exists()
    assert summary.rejects is not None
    assert summary.rejects.exists()


def test_a_rejects_file_that_somebody_corrected_is_kept(place: Place) -> None:
    rows = theirs(20)
    rows[3][5] = "7"
    file = place.write(as_csv(rows))
    rejects = place.run(file, maps=MAPS, dry_run=True).rejects
    assert rejects is not None
    corrected = rejects.read_text().replace(",7,", ",47,")
    rejects.write_text(corrected)
    written = place.run(file, maps=MAPS).rejects
    assert written == rejects
    aside = rejects.with_name("theirs.csv.rejects-1.csv")
    assert aside.read_text() == corrected
    assert place.run(file, maps=MAPS).rejects == rejects
    assert not rejects.with_name("theirs.csv.rejects-2.csv").exists()  # the same as before
    assert place.run(aside, maps=MAPS).rows == 1


def test_rejects_go_where_the_user_says(place: Place) -> None:
    rows = theirs(20)
    rows[3][5] = "7"
    file = place.write(as_csv(rows))
    summary = place.run(file, maps=MAPS, rejects=place.folder / "bad.txt")
    assert summary.rejects == place.folder / "bad.txt"
    with pytest.raises(ConfigError, match="--rejects"):
        place.run(file, maps=MAPS, rejects=file)
    (place.folder / "other").mkdir()
    with pytest.raises(ConfigError, match="--rejects"):
        place.run(file, maps=MAPS, rejects=place.folder / "other" / ".." / file.name)
    (place.folder / "link.csv").symlink_to(file)
    with pytest.raises(ConfigError, match="--rejects"):
        place.run(file, maps=MAPS, rejects=place.folder / "link.csv")
    with pytest.raises(DataError, match="--rejects"):
        place.run(file, maps=MAPS, rejects=place.folder / "no" / "folder.csv", dry_run=True)


def test_rejects_that_cannot_be_written_leave_the_log_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = theirs(20)
    rows[3][5] = "7"
    file = place.write(as_csv(rows))
    (place.folder / "a folder").mkdir()
    with pytest.raises(DataError, match="rejected rows cannot be written there: Is a directory"):
        place.run(file, maps=MAPS, rejects=place.folder / "a folder")
    assert place.segments() == []

    def full(_: int) -> None:  # few rows stay in a buffer until the end
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="rejected rows cannot be written there: No space left"):
            place.run(file, maps=MAPS)
    assert place.segments() == []
    assert sorted(path.name for path in place.folder.glob("theirs*")) == ["theirs.csv"]
    assert place.run(file, maps=MAPS).rows == 19


def test_two_imports_do_not_collide(place: Place) -> None:
    place.log.mkdir(parents=True)
    with (
        FileLock(place.log / "predictions-import.lock"),
        pytest.raises(ImportBusy, match="another import is under way"),
    ):
        place.run(place.write(as_csv(theirs(5))), maps=MAPS)
    assert place.run(place.folder / "theirs.csv", maps=MAPS).rows == 5


def test_a_log_that_cannot_be_written_is_a_clear_error(place: Place) -> None:
    place.log.write_text("a file in the way")
    with pytest.raises(ImportFailed, match="rows cannot be imported: File exists"):
        place.run(place.write(as_csv(theirs(5))), maps=MAPS)
    assert place.log.read_text() == "a file in the way"


def test_a_service_may_hold_its_lock_meanwhile(place: Place) -> None:
    place.log.mkdir(parents=True)
    with FileLock(place.log / "predictions.lock"):
        assert place.run(place.write(as_csv(theirs(5))), maps=MAPS).rows == 5


def test_segments_are_as_large_as_the_configuration_says(place: Place) -> None:
    small = replace(place, config=Config(log={"rotate": "300KiB"}))
    assert small.run(place.write(as_csv(theirs(20_000))), maps=MAPS).rows == 20_000
    sizes = [path.stat().st_size for path in place.segments()]
    assert len(sizes) > 3
    assert max(sizes) <= 300 * 1024
    assert place.read() == 20_000


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_seen_in_the_header(place: Place, mark: str) -> None:
    rows = theirs(20)
    rows[3][5] = "7"
    summary = place.run(place.write(as_csv(rows, mark=mark)), maps=MAPS)
    assert (summary.rows, summary.rejected) == (19, 1)
    assert summary.rejects is not None
    assert summary.rejects.read_text().startswith(f"reject_line{mark}reject_reason{mark}id{mark}")


def test_a_file_of_windows_is_the_same_file(place: Place) -> None:
    text = "\ufeff" + as_csv(theirs(20)).replace("\n", "\r\n")
    summary = place.run(place.write(text), maps=MAPS)
    assert (summary.rows, summary.rejected) == (20, 0)


def test_columns_that_nobody_needs_do_no_harm(place: Place) -> None:
    rows = [[*row, '{"a": "b, c"}', "two\nlines"] for row in theirs(20)]
    text = as_csv(rows, [*HEADER, "request", "request"])
    assert place.run(place.write(text), maps=MAPS).rows == 20


def test_two_columns_of_a_needed_name_are_an_error(place: Place) -> None:
    text = as_csv([[*row, "1"] for row in theirs(20)], [*HEADER, "age"])
    with pytest.raises(DataError, match=r"column 'age': two columns have this name"):
        place.run(place.write(text), maps=MAPS)


def table(rows: list[list[str]]) -> pa.Table:
    """The rows as another service would keep them: typed."""
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {
            "id": columns[0],
            "event_time": pa.array(columns[1]).cast(pa.timestamp("ns", "UTC")),
            "model": pa.array(columns[2]).cast(pa.int64()),
            "label": pa.array(columns[3]).cast(pa.int8()).cast(pa.bool_()),
            "score": pa.array(columns[4]).cast(pa.float64()),
            "age": pa.array(columns[5]).cast(pa.int32()),
            "income": [float(cell) if cell else None for cell in columns[6]],
            "days-late": pa.array(columns[7]).cast(pa.decimal128(5, 1)),
            "tags": [["a"]] * len(rows),
        }
    )


def test_a_parquet_file_gives_the_rows_of_the_csv_file(place: Place) -> None:
    place.run(place.write(as_csv(theirs(300))), maps=MAPS)
    expected = place.segments()[0].read_bytes()
    place.segments()[0].unlink()
    parquet.write_table(table(theirs(300)), place.folder / "theirs.parquet", row_group_size=70)
    summary = place.run(place.folder / "theirs.parquet", maps=MAPS)
    assert (summary.rows, summary.rejected) == (300, 0)
    assert place.segments()[0].read_bytes() == expected


def test_bad_rows_of_a_parquet_file_are_rejected_as_csv(place: Place) -> None:
    rows = theirs(300)
    rows[99][5], rows[200][4] = "7", "1.25"
    parquet.write_table(table(rows), place.folder / "theirs.parquet", row_group_size=70)
    summary = place.run(place.folder / "theirs.parquet", maps=MAPS)
    assert (summary.rows, summary.rejected) == (298, 2)
    assert [each.line for each in summary.reasons] == [100, 201]
    assert summary.rejects is not None
    lines = summary.rejects.read_text().splitlines()
    assert lines[0].startswith("reject_line,reject_reason,id,event_time,")
    assert lines[1].startswith('100,"age: must be at least 18, not 7",t-000099,2026-01-02 03:05:44')
    corrected = summary.rejects.read_text().replace(",7,", ",47,").replace("1.25,", "0.25,")
    assert place.run(place.write(corrected), maps=MAPS).rows == 2


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([f"t-{n}".encode() for n in range(30)]), "t-0"),
        (pa.array([b"sixteen-bytes-%02d" % n for n in range(30)]), "sixteen-bytes-00"),
        (
            pa.array([bytes([n]) * 16 for n in range(30)], pa.binary(16)),
            "00000000-0000-0000-0000-000000000000",
        ),
        (pa.array([b"\xff%d" % n for n in range(30)]), "ff30"),
    ],
    ids=["text", "text of 16 bytes", "uuid", "no text"],
)
def test_binary_ids_of_a_parquet_file_are_texts(place: Place, cells: Any, expected: str) -> None:
    path = place.folder / "theirs.parquet"
    made = table(theirs(30))
    parquet.write_table(made.set_column(made.column_names.index("id"), "id", cells), path)
    assert place.run(path, maps=MAPS).rows == 30
    first = place.segments()[0].read_text().splitlines()[1]
    assert first.startswith(f"{expected},")


def test_parquet_rows_without_ids_get_one(place: Place) -> None:
    path = place.folder / "theirs.parquet"
    parquet.write_table(table(theirs(30)).drop_columns(["id"]), path)
    assert place.run(path, maps=MAPS[1:]).rows == 30
    assert place.run(path, maps=MAPS[1:]).present == 30


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("column", ["event_time", "closed", "score"])
def test_a_date_that_no_calendar_has_costs_its_row_at_most(
    place: Place, column: str, zone: str
) -> None:
    beyond = pa.array([0] * 29 + [10**15]).cast(pa.timestamp("ms"))
    made = table(theirs(30)).drop_columns(["id"])
    if column == "score":
        at = made.schema.get_field_index("score")
        path = place.folder / "theirs.parquet"
        parquet.write_table(made.set_column(at, "score", beyond), path)
        with pytest.raises(DataError, match="probability: must be a number"):
            place.run(path, maps=MAPS[1:], timezone=zone)
        return
    if column == "event_time":
        times = made["event_time"].cast(pa.timestamp("ms"), safe=False).combine_chunks()
        at = made.schema.get_field_index("event_time")
        made = made.set_column(at, "event_time", pa.concat_arrays([times[:-1], beyond[-1:]]))
    else:
        made = made.append_column("closed", beyond)
    path = place.folder / "theirs.parquet"
    parquet.write_table(made, path)
    summary = place.run(path, maps=MAPS[1:], timezone=zone)
    wrong = column == "event_time"
    assert (summary.rows, summary.rejected) == (30 - wrong, int(wrong))
    if wrong:
        assert summary.reasons[0].text.startswith("timestamp: must ")


def test_a_damaged_archive_is_a_clear_error(place: Place) -> None:
    packed = bytearray(gzip.compress(as_csv(theirs(200_000)).encode()))
    middle = len(packed) // 2
    packed[middle : middle + 64] = b"\xff" * 64
    with pytest.raises(DataError, match=r"it cannot be read: .*get a whole copy"):
        place.run(place.write(bytes(packed), "theirs.csv.gz"), maps=MAPS)
    assert place.segments() == []


def test_recent_rows_take_part_in_the_window(place: Place) -> None:
    """Rows that are too old for the look-back are no trouble either."""
    now = datetime.now(UTC)
    rows = theirs(300, start=now - timedelta(minutes=10)) + theirs(5, first=1000)
    summary = place.run(place.write(as_csv(rows)), maps=MAPS)
    assert summary.rows == 305
    assert summary.first == stamp(START + timedelta(seconds=1000))


def test_our_own_rows_are_there_already_whatever_a_store_made_of_their_times(place: Place) -> None:
    """In milliseconds or seconds; in another hour they would be others."""
    ids = [f"{int(START.timestamp() * 1000) + 20 * n:012x}" for n in range(4)]
    ids = [f"{each[:8]}-{each[8:]}-7000-8000-{n:012d}" for n, each in enumerate(ids)]
    rows = theirs(4)
    for n, row in enumerate(rows):
        row[:2] = [ids[n], stamp(START + timedelta(milliseconds=20 * n))]
    assert place.run(place.write(as_csv(rows)), maps=MAPS).rows == 4
    for at in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"):
        for n, row in enumerate(rows):
            moment = START + timedelta(milliseconds=20 * n)
            row[1] = moment.replace(microsecond=moment.microsecond // 1000 * 1000).strftime(at)
        summary = place.run(place.write(as_csv(rows)), maps=MAPS)
        assert (summary.rows, summary.present) == (0, 4)
    for row in rows:
        row[1] = row[1].replace("T03", "T05")
    assert place.run(place.write(as_csv(rows)), maps=MAPS).rows == 4


def test_rejected_rows_have_the_ids_that_they_would_have_had_in_the_file(place: Place) -> None:
    """Where it has none: so a file that grew may be imported again after its rejects."""
    rows = [["event_time", *HEADER[2:]], *(row[1:] for row in theirs(3))]
    rows[2][1] = "7"
    maps = MAPS[1:]
    file = place.write("".join(",".join(row) + "\n" for row in rows))
    first = place.run(file, maps=maps)
    assert (first.rows, first.rejected) == (2, 1)
    store_model(place.config, "7", SCHEMA)
    assert first.rejects is not None
    assert place.run(first.rejects, maps=maps).rows == 1
    with file.open("a") as more:
        more.write(",".join(theirs(4)[3][1:]) + "\n")
    again = place.run(file, maps=maps)
    assert (again.rows, again.present) == (1, 3)
    assert place.read() == 4


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([bytes([n + 1] * 16) for n in range(3)], pa.binary(16)),
        pa.array([b"a", b"b", b"c"]),
        pa.array([1.0, 2.0, 3.0]),
    ],
    ids=["uuids", "bytes", "floats"],
)
def test_rejects_of_a_parquet_file_have_its_ids(place: Place, ids: Any) -> None:
    columns = dict(zip(HEADER, zip(*theirs(3), strict=True), strict=True))
    table = pa.table({**columns, "id": ids, "age": [20, 3, 30]})
    file = place.folder / "theirs.parquet"
    parquet.write_table(table, file)
    first = place.run(file, maps=MAPS)
    assert first.rejects is not None
    corrected = first.rejects.read_bytes().replace(b",3,", b",33,")
    place.run(place.write(corrected), maps=MAPS)
    parquet.write_table(table.set_column(5, "age", pa.array([20, 33, 30])), file)
    again = place.run(file, maps=MAPS)
    assert (again.rows, again.present) == (0, 3)


def test_rejects_go_into_a_pipe_that_stays_one(place: Place) -> None:
    rows = theirs(3)
    rows[1][5] = "3"
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    thread.start()
    place.run(place.write(as_csv(rows)), maps=MAPS, rejects=pipe)
    thread.join(timeout=10)
    assert pipe.is_fifo()
    assert got[0].count(b"\n") == 2


def test_a_rejects_file_that_cannot_be_moved_aside_leaves_the_log_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder where only who owns a file may rename it."""
    rows = theirs(3)
    rows[1][5] = "3"
    file = place.write(as_csv(rows))
    rejects = place.write("somebody else's", f"{file.name}.rejects.csv")

    def forbidden(*_: Any) -> Any:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", forbidden)
        with pytest.raises(DataError, match=r"Operation not permitted.*--rejects"):
            place.run(file, maps=MAPS)
    assert place.segments() == []
    assert rejects.read_bytes() == b"somebody else's"


def test_an_id_that_is_spelled_as_missing_is_missing(place: Place) -> None:
    rows = theirs(3)
    rows[1][0] = "NULL"
    summary = place.run(place.write(as_csv(rows)), maps=MAPS)
    assert (summary.rows, summary.reasons[0].text) == (2, "prediction_id: is missing")


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits of a file's size here")
def test_a_disk_that_is_full_at_the_very_end_is_an_error_and_leaves_nothing(place: Place) -> None:
    file = place.write(as_csv(theirs(100)))
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from monitorkit.importing.backfill import Options, import_file\n"
        "from monitorkit.config import Config; from monitorkit.errors import ImportFailed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "config = Config.model_validate({'storage': {'root': sys.argv[1]}})\n"
        "for _ in range(2):\n"
        "    try: import_file(config, Path(sys.argv[2]), Options(maps=sys.argv[3:]))\n"
        "    except ImportFailed as error: print(error)\n"
    )
    given = (str(place.config.storage.root), str(file), *MAPS)
    ended = subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout.count("File too large")) == (0, 2), ended.stderr
    assert place.left_behind() == []
