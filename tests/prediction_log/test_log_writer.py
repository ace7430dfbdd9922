"""What `append` promises: the rows are in the file when it returns, and counted."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from pathlib import Path

import pytest
from prediction_rows import LARGE, OTHER, SCHEMA, START, closed, ids, logged, read, rows, stamp

from monitorkit.errors import LogLocked, LogWriteFailed
from monitorkit.prediction_log import Prediction, Reader, Writer, log_file
from monitorkit.schema import Feature, FeatureSchema


async def open_log(
    folder: Path, schema: FeatureSchema = SCHEMA, rotate_bytes: int = LARGE
) -> Writer:
    return await Writer.open(folder, schema, durability="os", rotate_bytes=rotate_bytes)


async def test_a_new_log_is_a_folder_with_a_header(tmp_path: Path) -> None:
    writer = await open_log(tmp_path / "deep" / "predictions")
    text = (tmp_path / "deep" / "predictions" / "predictions.csv").read_text("utf-8")
    assert text == (
        "prediction_id,timestamp,model_version,prediction,probability,"
        'age,income,"a, ""quoted"" name"\n'
    )
    assert writer.rows == 0
    await writer.close()


async def test_a_row_is_one_line_that_reads_back_to_the_last_bit(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    values = [(47.0, None, 0.1), (-0.0, 1e300, 5e-324), (1e16, 2.5, -3.0), (float("nan"), 1, 2)]
    for number, features in enumerate(values):
        label = ["a,b", 'the "x"', "two\nlines\r", ""][number]
        row = Prediction(f"id{number}", stamp(START), "v,1", label, 1 / 3, features)
        await writer.append(SCHEMA, [row])
    await writer.close()
    lines = (tmp_path / "predictions.csv").read_text("utf-8").split("\n")[1:-1]
    assert lines == [
        'id0,2026-01-02T03:04:05.123456Z,"v,1","a,b",0.3333333333333333,47,,0.1',
        'id1,2026-01-02T03:04:05.123456Z,"v,1","the ""x""",0.3333333333333333,-0,1e+300,5e-324',
        'id2,2026-01-02T03:04:05.123456Z,"v,1",two\\nlines\\r,0.3333333333333333,1e+16,2.5,-3',
        'id3,2026-01-02T03:04:05.123456Z,"v,1","",0.3333333333333333,,1,2',
    ]


async def test_rows_of_another_length_are_refused_and_not_written(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    with pytest.raises(ValueError, match="2 values for 3 features"):
        await writer.append(SCHEMA, rows(1, schema=OTHER))
    assert logged(tmp_path) == []
    await writer.close()


async def test_appends_at_the_same_time_each_stay_together(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    batches = [rows(n) for n in (1, 500, 3, 1, 200)]  # formatted here, and in the thread
    await asyncio.gather(*(writer.append(SCHEMA, batch) for batch in batches))
    found = logged(tmp_path)
    assert writer.rows == len(found) == 705
    for batch in batches:
        at = found.index(batch[0].prediction_id)
        assert found[at : at + len(batch)] == ids(batch)
    await writer.close()


async def test_appends_of_two_schemas_at_the_same_time_end_in_segments_of_their_own(
    tmp_path: Path,
) -> None:
    writer = await open_log(tmp_path)
    schemas = [SCHEMA, OTHER, SCHEMA, OTHER]
    batches = [rows(n, schema=s) for n, s in zip((300, 1, 1, 300), schemas, strict=True)]
    await asyncio.gather(
        *(writer.append(s, batch) for s, batch in zip(schemas, batches, strict=True))
    )
    reader = Reader(tmp_path)
    found = {
        id_: block.chunk.columns for block in reader.read({}) for id_ in block.chunk.ids.tolist()
    }
    assert reader.skipped == 0
    for schema, batch in zip(schemas, batches, strict=True):
        assert {found.pop(id_) for id_ in ids(batch)} == {schema.names}
    assert not found
    await writer.close()


async def test_a_cancelled_append_leaves_whole_rows_and_a_right_count(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    task = asyncio.create_task(writer.append(SCHEMA, rows(5)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await writer.append(SCHEMA, rows(1))
    assert writer.rows == len(logged(tmp_path)) in (1, 6)
    await writer.close()


async def test_only_one_process_writes_a_folder(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    with pytest.raises(LogLocked, match="another process writes"):
        await open_log(tmp_path)
    await writer.append(SCHEMA, rows(1))
    await writer.close()
    again = await open_log(tmp_path)
    assert again.rows == 1
    await again.close()


async def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    await writer.close()
    await writer.close()
    with pytest.raises(LogWriteFailed, match="closed"):
        await writer.append(SCHEMA, rows(1))


async def test_a_large_segment_is_closed_under_its_first_timestamp(tmp_path: Path) -> None:
    writer = await open_log(tmp_path, rotate_bytes=2_000)
    batches = [rows(10) for _ in range(5)]
    for batch in batches:
        await writer.append(SCHEMA, batch)
    names = [path.name for path in closed(tmp_path)]
    first = [batch[0].timestamp.replace("-", "").replace(":", "") for batch in batches]
    assert f"predictions-{first[0]}.csv" in names
    assert len(names) > 1
    assert all((tmp_path / name).stat().st_size <= 2_000 for name in names)
    assert read(tmp_path)[0] == [id_ for batch in batches for id_ in ids(batch)]
    sidecar = json.loads((tmp_path / names[0]).with_suffix(".json").read_bytes())
    with (tmp_path / names[0]).open(encoding="utf-8") as file:
        inside = list(csv.reader(file))[1:]
    assert sidecar == {
        "schema_version": 1,
        "identity": batches[0][0].prediction_id,
        "rows": len(inside),
        "bytes": (tmp_path / names[0]).stat().st_size,
        "first_timestamp": batches[0][0].timestamp,
        "last_timestamp": inside[-1][1],
        "cut": False,
        "unfit": None,
    }
    assert writer.rows == 50
    await writer.close()


async def test_rows_of_the_same_moment_never_overwrite_a_segment(tmp_path: Path) -> None:
    writer = await open_log(tmp_path, rotate_bytes=1)
    sent = []
    for n in range(5):
        row = Prediction(f"id{n}", stamp(START), "1", 0, 0.5, [1.0, 2.0, 3.0])
        await writer.append(SCHEMA, [row])
        sent.append(row.prediction_id)
    names = {path.name for path in closed(tmp_path)}
    stem = "predictions-20260102T030405.123456Z"
    assert names == {f"{stem}.csv", f"{stem}-1.csv", f"{stem}-2.csv", f"{stem}-3.csv"}
    assert read(tmp_path)[0] == sent
    await writer.close()


async def test_a_clock_that_goes_back_does_not_change_the_order_of_segments(tmp_path: Path) -> None:
    writer = await open_log(tmp_path, rotate_bytes=1)
    later, earlier = rows(2), rows(2, start=START.replace(year=2025))
    for row in [*later, *earlier]:
        await writer.append(SCHEMA, [row])
    assert read(tmp_path)[0] == ids([*later, *earlier])
    await writer.close()


async def test_another_schema_begins_a_new_segment_and_both_are_read(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    old, new = rows(3), rows(2, schema=OTHER)
    await writer.append(SCHEMA, old)
    await writer.append(OTHER, new)
    assert writer.rows == 5
    blocks = list(Reader(tmp_path).read({}))
    assert [block.chunk.columns for block in blocks] == [SCHEMA.names, OTHER.names]
    assert [block.chunk.ids.tolist() for block in blocks] == [ids(old), ids(new)]
    await writer.close()


async def test_other_bounds_are_no_other_schema(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    await writer.append(SCHEMA, rows(1))
    await writer.append(SCHEMA.with_bounds({"age": {"minimum": 18.0}}), rows(1))
    assert not closed(tmp_path)
    await writer.close()


async def test_rows_are_counted_over_all_segments_without_reading_them(tmp_path: Path) -> None:
    writer = await open_log(tmp_path, rotate_bytes=1_000)
    for _ in range(10):
        await writer.append(SCHEMA, rows(5))
    await writer.close()
    again = await open_log(tmp_path)
    assert again.rows == 50
    await again.close()
    for path in [*closed(tmp_path), tmp_path / "predictions.csv"]:
        path.with_suffix(".json").write_text("{not json")
    again = await open_log(tmp_path)
    assert again.rows == 50
    await again.close()
    for path in closed(tmp_path):  # a hole of the same size: no row to count
        size = path.stat().st_size
        os.truncate(path, 0)
        os.truncate(path, size)
    again = await open_log(tmp_path)
    assert again.rows == 50
    await again.close()


async def test_a_sidecar_is_kept_up_to_date_while_the_segment_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "SIDECAR_EVERY", 1_000)
    writer = await open_log(tmp_path)
    for _ in range(5):
        await writer.append(SCHEMA, rows(10))
    known = json.loads((tmp_path / "predictions.json").read_bytes())
    assert 30 <= known["rows"] <= 50
    await writer.close()


async def test_columns_with_missing_bounds_and_one_feature(tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("only"),))
    writer = await open_log(tmp_path, schema)
    await writer.append(schema, [Prediction("a", stamp(START), "1", 1, 0.5, [None])])
    await writer.close()
    (block,) = Reader(tmp_path).read({})
    assert block.chunk.columns == ("only",)
    assert str(block.chunk.features.tolist()) == "[[nan]]"
