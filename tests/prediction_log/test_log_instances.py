"""Several writers in one folder, each with files of its own, and one log to read."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prediction_rows import LARGE, SCHEMA, START, ids, logged, read, rows, stamp
from structlog.testing import capture_logs

from monitorkit.errors import LogLocked
from monitorkit.prediction_log import Reader, Writer, names
from monitorkit.prediction_log.rows import Formatter, header

WRITE = str(Path(__file__).with_name("prediction_writer.py"))
HEADER = header(SCHEMA.names)

instances = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.]{0,31}", fullmatch=True)


async def open_log(folder: Path, instance: str = "", rotate_bytes: int = LARGE) -> Writer:
    return await Writer.open(
        folder, SCHEMA, durability="os", rotate_bytes=rotate_bytes, instance=instance
    )


@given(
    instances | st.just(""),
    st.datetimes(min_value=START.replace(tzinfo=None)).map(stamp),
    st.integers(0, 3),
)
def test_a_name_says_whose_segment_it_is(instance: str, time: str, earlier: int) -> None:
    writers = names.Writers(instance)
    open_name = names.parse(writers.current)
    assert open_name is not None
    assert (open_name.instance, open_name.closed) == (instance, False)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(earlier + 1):
            closed = names.parse(writers.next_closed(time, Path(folder)))
            assert closed is not None
            assert (closed.instance, closed.number, closed.closed) == (instance, number, True)
            (Path(folder) / closed.text).touch()
        assert [name.number for name in writers.closed(Path(folder))] == [*range(earlier + 1)]


@pytest.mark.parametrize(
    "instance", ["a-b", "-a", "a/b", "a b", "20260101T000000.000000Z", "x" * 33, "ä"]
)
def test_what_could_not_be_told_apart_is_no_instance(instance: str) -> None:
    with pytest.raises(ValueError, match="no name of an instance"):
        names.Writers(instance)


async def test_each_instance_has_files_of_its_own(tmp_path: Path) -> None:
    writers = [await open_log(tmp_path, instance, rotate_bytes=300) for instance in ("", "a", "b")]
    sent = []
    for _ in range(4):
        for writer in writers:
            batch = rows(2)
            await writer.append(SCHEMA, batch)
            sent += ids(batch)
    assert [writer.rows for writer in writers] == [8, 8, 8]
    for writer in writers:
        await writer.close()
    files = set(os.listdir(tmp_path))  # noqa: PTH208 - as good, and allowed in async code
    for stem in ("predictions", "predictions-a", "predictions-b"):
        closed = {n for n in files if n.startswith(f"{stem}-2") and n.endswith(".csv")}
        assert {f"{stem}.csv", f"{stem}.json", f"{stem}.lock"} <= files
        assert len(closed) > 1
        assert {name.replace(".csv", ".json") for name in closed} <= files
    assert sorted(read(tmp_path)[0]) == sent


async def test_the_same_instance_twice_is_refused_and_the_remedy_named(tmp_path: Path) -> None:
    one = await open_log(tmp_path, "a")
    with pytest.raises(LogLocked, match=r"predictions-a\.lock.*\[log\] instance"):
        await open_log(tmp_path, "a")
    other = await open_log(tmp_path, "b")
    await one.close()
    await other.close()


async def test_a_start_recovers_and_counts_its_own_files_only(tmp_path: Path) -> None:
    for instance in ("", "a"):
        writer = await open_log(tmp_path, instance, rotate_bytes=300)
        for _ in range(3):
            await writer.append(SCHEMA, rows(2))
        await writer.close()
    torn = tmp_path / "predictions-a.csv"
    with torn.open("ab") as file:
        file.write(b"half a li")
    before = torn.read_bytes()
    with capture_logs() as events:
        writer = await open_log(tmp_path)
    assert (events, torn.read_bytes()) == ([], before)
    assert writer.rows == 6
    await writer.close()
    with capture_logs() as events:
        writer = await open_log(tmp_path, "a")
    assert [event["event"] for event in events] == ["prediction_log_torn_line"]
    assert (tmp_path / "predictions-a.csv.torn").read_bytes() == b"half a li\n"
    assert writer.rows == 6
    await writer.close()


def test_closed_segments_are_read_by_time_and_then_those_that_grow(tmp_path: Path) -> None:
    files = [
        "predictions-b-20260101T000000.000000Z.csv",
        "predictions-b-20260101T000000.000000Z-1.csv",
        "predictions-20260102T000000.000000Z.csv",
        "predictions-a-20260102T000000.000000Z.csv",
        "predictions-b-20260103T000000.000000Z.csv",
        "predictions.csv",
        "predictions-a.csv",
        "predictions-b.csv",
    ]
    batches = [rows(2) for _ in files]
    for name, batch in reversed(list(zip(files, batches, strict=True))):
        (tmp_path / name).write_bytes(HEADER + Formatter(SCHEMA).lines(batch))
    found, cursor = read(tmp_path)
    assert found == [id_ for batch in batches for id_ in ids(batch)]
    assert cursor == {
        batch[0].prediction_id: (tmp_path / name).stat().st_size
        for name, batch in zip(files, batches, strict=True)
    }
    assert read(tmp_path, cursor)[0] == []


async def test_an_instance_that_is_gone_is_passed_over_once_its_rows_are_old(
    tmp_path: Path,
) -> None:
    writer = await open_log(tmp_path, "gone")
    await writer.append(SCHEMA, rows(3, start=START.replace(year=2020)))
    await writer.close()
    writer = await open_log(tmp_path)
    new = rows(2)
    await writer.append(SCHEMA, new)
    found = [
        id_
        for block in Reader(tmp_path).read({}, since=START.replace(year=2025))
        for id_ in block.chunk.ids.tolist()
    ]
    assert found == ids(new)
    await writer.close()


async def test_a_file_that_takes_rows_and_leads_nowhere_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "predictions-a.csv").symlink_to(tmp_path / "nowhere")
    writer = await open_log(tmp_path)
    new = rows(2)
    await writer.append(SCHEMA, new)
    assert read(tmp_path)[0] == ids(new)
    await writer.close()


async def test_two_processes_write_and_a_reader_beside_them_finds_every_row_once(
    tmp_path: Path,
) -> None:
    def start(instance: str) -> subprocess.Popen[str]:
        options = ["--instance", instance, "--prefix", f"{instance}-", "--rows", "400"]
        return subprocess.Popen(
            [sys.executable, WRITE, str(tmp_path), *options, "--rotate", "600"],
            stdout=subprocess.PIPE,
            text=True,
        )

    processes = [start(instance) for instance in ("a", "b")]
    finished = [asyncio.create_task(asyncio.to_thread(each.communicate)) for each in processes]
    found: list[str] = []
    cursor: dict[str, int] = {}
    passes = 0
    last = False
    while not last:
        last = all(task.done() for task in finished)
        new, after = await asyncio.to_thread(read, tmp_path, cursor, block_bytes=300)
        cursor = dict(after)
        found += new
        passes += bool(new)
    assert passes > 2
    reports = [json.loads((await task)[0].splitlines()[-1]) for task in finished]
    assert [report["rows"] for report in reports] == [400, 400]
    assert len([name for name in names.segments(tmp_path) if name.closed]) > 60
    for report, instance in zip(reports, ("a", "b"), strict=True):
        mine = [id_ for id_ in found if id_.startswith(f"{instance}-")]
        assert mine == report["answered"]  # in order, each once
    assert len(found) == 800
    assert sorted(found) == sorted(logged(tmp_path))
