"""A closed segment becomes a Parquet file, and every cursor and every bit of a row stays."""

from __future__ import annotations

import csv
import gc
import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_rows import SCHEMA, START, as_rows, closed, ids, read, rows, stamp
from pyarrow import parquet
from structlog.testing import capture_logs

from monitorkit import durable
from monitorkit.prediction_log import Block, Prediction, Reader, Writer, sidecar
from monitorkit.prediction_log.compression import LOCK, Compression
from monitorkit.prediction_log.rows import Formatter, header
from monitorkit.schema import Feature, FeatureSchema

HEADER = header(SCHEMA.names)
STEM = "predictions-20260101T000000.000000Z"
WORK = str(Path(__file__).with_name("compressing.py"))


def write(folder: Path, *parts: bytes, stem: str = STEM) -> Path:
    path = folder / f"{stem}.csv"
    path.write_bytes(b"".join([HEADER, *parts]))
    return path


def everything(folder: Path) -> dict[str, int]:
    """A cursor after all that is in the closed segments."""
    cursor = dict(read(folder)[1])
    for path in folder.glob("*.csv"):
        text = path.read_bytes()
        for identity in cursor:
            if identity.encode() in text:
                cursor[identity] = len(text)
    return cursor


def compress(folder: Path, **options: int) -> None:
    work = Compression(folder, **options)
    while work.work(everything(folder), seconds=0):
        pass


def bits(blocks: Sequence[Block]) -> list[Any]:
    """Rows that compare by the last bit."""
    return [
        (
            *row[:3],
            struct.pack("<d", row[3]),
            [None if v is None else struct.pack("<d", v) for v in row[4]],
        )
        for row in as_rows(blocks)
    ]


def test_an_import_that_takes_hours_keeps_its_segments(tmp_path: Path) -> None:
    write(tmp_path, Formatter(SCHEMA).lines(rows(4)))
    mine, left = tmp_path / ".predictions-import.9-a.tmp", tmp_path / f".{STEM}.parquet.9-a.tmp"
    for path in (mine, left):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    compress(tmp_path)
    assert mine.exists()
    assert not left.exists()


texts = st.text(max_size=8) | st.sampled_from(["1", "2", 'a"b', "a,b", "\n", "\r", "\ud800", "ü"])
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [-0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.datetimes(min_value=START.replace(tzinfo=None)).map(stamp),
            texts.filter(lambda text: "\0" not in text),
            (st.integers() | st.booleans() | texts).filter(lambda label: "\0" not in str(label)),
            st.floats(0, 1),
            st.lists(st.none() | numbers, min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 500),
    st.integers(20, 500),
)
def test_any_rows_survive_bit_for_bit_with_cursors_at_any_line(
    given_rows: list[Any], group_bytes: int, piece_bytes: int
) -> None:
    made = [Prediction(f"id-{n}", *row) for n, row in enumerate(given_rows)]
    with tempfile.TemporaryDirectory() as name, capture_logs():
        folder = Path(name)
        path = write(folder, Formatter(SCHEMA).lines(made))
        labels = [row[3] for row in csv.reader(io.StringIO(path.read_text("utf-8"), newline=""))]
        by_line = list(Reader(folder, block_bytes=1).read({}))
        assert len(by_line) == len(made)
        cursors = [{}, *(dict(block.cursor) for block in by_line)]
        compress(folder, group_bytes=group_bytes)
        assert here(folder) - {f"{STEM}.json"} == {f"{STEM}.parquet"}
        reader = Reader(folder)
        for number, cursor in enumerate(cursors):
            assert bits(list(reader.read(cursor))) == bits(by_line[number:])
            assert bits(list(reader.read({}, until=cursor))) == bits(by_line[:number])
        plan = reader.plan(cursors[len(made) // 2], piece_bytes=piece_bytes)
        blocks = [block for piece in plan.pieces for block in reader.read_piece(piece)]
        assert bits(blocks) == bits(by_line[len(made) // 2 :])
        assert plan.cursor == cursors[-1]
        table = parquet.read_table(folder / f"{STEM}.parquet")
    assert table.column("prediction").to_pylist() == labels[1:]
    assert table.column_names == [*next(csv.reader([HEADER.decode()])), "line_end"]


@given(st.integers(1, 2_000))
@settings(max_examples=50, deadline=None)
def test_a_cursor_that_is_no_lines_start_begins_again_and_says_so(at: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = rows(12)
        path = write(folder, Formatter(SCHEMA).lines(made))
        cursor = {made[0].prediction_id: at}
        with capture_logs() as before:
            expected = read(folder, cursor)
        size = path.stat().st_size
        compress(folder, group_bytes=200)
        assert not path.exists()
        with capture_logs() as after:
            assert read(folder, cursor) == expected
    told = [(event["event"], event["offset"], event["bytes"]) for event in before]
    assert told == [(event["event"], event["offset"], event["bytes"]) for event in after]
    assert at <= size or told


async def test_only_closed_segments_that_were_wholly_read_are_compressed(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1_000)
    sent = []
    for _ in range(6):
        batch = rows(10)
        await writer.append(SCHEMA, batch)
        sent += ids(batch)
    first, *others = closed(tmp_path)
    cursor = {sent[0]: first.stat().st_size, sent[10]: others[0].stat().st_size - 1}
    assert not Compression(tmp_path).work(cursor, seconds=60)
    assert closed(tmp_path) == others
    assert first.with_suffix(".parquet").exists()
    assert read(tmp_path)[0] == sent
    whole = read(tmp_path)[1]
    assert not Compression(tmp_path).work(whole, seconds=60)
    assert closed(tmp_path) == []
    assert read(tmp_path) == (sent, whole)
    await writer.close()


async def test_a_start_counts_compressed_rows_and_reuses_no_name(tmp_path: Path) -> None:
    async def open_log() -> Writer:
        return await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1)

    sent = []
    writer = await open_log()
    for round_ in range(3):
        for n in range(3):
            row = Prediction(f"id-{round_}-{n}", stamp(START), "1", 0, 0.5, [1.0, 2.0, 3.0])
            await writer.append(SCHEMA, [row])
            sent.append(row.prediction_id)
        await writer.close()
        compress(tmp_path)
        writer = await open_log()
        assert writer.rows == len(sent)
    assert not closed(tmp_path)
    assert read(tmp_path)[0] == sent
    await writer.close()


def test_the_process_that_serves_counts_without_pyarrow(tmp_path: Path) -> None:
    write(tmp_path, Formatter(SCHEMA).lines(rows(7)))
    compress(tmp_path)
    program = (
        "import sys; from pathlib import Path\n"
        "from monitorkit.prediction_log import Reader, Writer, sidecar\n"
        f"assert sidecar.rows_of(Path({str(tmp_path)!r}) / '{STEM}.parquet') == 7\n"
        "assert not {'pyarrow', 'fsspec'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "junk", [b"no row\n", b"id,2026-01-02T03:04:05.123456Z,1,0,,1,2,3\n", b"no end"]
)
def test_a_segment_with_lines_that_are_no_rows_stays_and_one_event_says_why(
    tmp_path: Path, junk: bytes
) -> None:
    good = rows(3)
    path = write(tmp_path, Formatter(SCHEMA).lines(good), junk)
    content = path.read_bytes()
    for _ in range(2):  # a process, and the next one
        work = Compression(tmp_path)
        with capture_logs() as events:
            assert not work.work({good[0].prediction_id: len(content)}, seconds=60)
            assert not work.work({good[0].prediction_id: len(content)}, seconds=60)
        if _ == 0:
            (event,) = events
            assert event["event"] == "prediction_log_not_compressed"
            assert (event["file"], "no row" in event["reason"]) == (str(path), True)
        else:
            assert events == []
    assert path.read_bytes() == content
    assert here(tmp_path) == {f"{STEM}.csv", f"{STEM}.json"}
    with capture_logs():
        assert read(tmp_path)[0] == ids(good)


def test_a_feature_with_the_name_of_another_column_stays_csv(tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("line_end"), Feature("b")))
    made = rows(2, schema=schema)
    path = tmp_path / f"{STEM}.csv"
    path.write_bytes(header(schema.names) + Formatter(schema).lines(made))
    with capture_logs() as events:
        compress(tmp_path)
    assert ["one name" in event["reason"] for event in events] == [True]
    assert read(tmp_path)[0] == ids(made)


def test_names_with_dots_and_missing_values_alone(tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("prediction.x"), Feature("line_end.y"), Feature("ü ,")))
    made = [Prediction(f"id{n}", stamp(START), "1", "x", 0.5, [None] * 3) for n in range(3)]
    path = tmp_path / f"{STEM}.csv"
    path.write_bytes(header(schema.names) + Formatter(schema).lines(made))
    before = as_rows(list(Reader(tmp_path).read({})))
    compress(tmp_path)
    assert not path.exists()
    (block,) = Reader(tmp_path).read({})
    assert (as_rows([block]), block.chunk.columns) == (before, schema.names)


def test_it_works_in_stretches_of_bounded_size(tmp_path: Path) -> None:
    made = rows(1_000)
    write(tmp_path, Formatter(SCHEMA).lines(made))
    cursor = everything(tmp_path)
    work = Compression(tmp_path, group_bytes=5_000)
    steps = 1
    while work.work(cursor, seconds=0):
        steps += 1
        assert (tmp_path / f"{STEM}.csv").exists()
    metadata = parquet.ParquetFile(tmp_path / f"{STEM}.parquet").metadata
    assert steps > 2 * metadata.num_row_groups - 2 > 20
    assert max(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)) < 100
    for block_bytes, number in ((1_000_000, metadata.num_row_groups), (1, 1_000)):
        blocks = list(Reader(tmp_path, block_bytes=block_bytes).read({}))
        assert [id_ for block in blocks for id_ in block.chunk.ids.tolist()] == ids(made)
        assert len(blocks) == number


def a_program_that_reads_it(folder: Path) -> str:
    """What another process runs, after some rows were compressed; a test adds what it looks at."""
    write(folder, Formatter(SCHEMA).lines(rows(7)))
    compress(folder)
    return (
        "import sys; from pathlib import Path\n"
        "from monitorkit.prediction_log import Reader\n"
        f"assert len(list(Reader(Path({str(folder)!r})).read({{}}))) == 1\n"
    )


def test_reading_it_loads_no_pandas(tmp_path: Path) -> None:
    program = a_program_that_reads_it(tmp_path) + "assert 'pandas' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells a process's threads")
def test_reading_it_starts_no_thread_that_could_outlive_the_interpreter(tmp_path: Path) -> None:
    """pyarrow's would give back our file then, and end the process with SIGABRT now and then."""
    program = a_program_that_reads_it(tmp_path) + (
        "for task in Path('/proc/self/task').iterdir():\n"
        "    print((task / 'comm').read_text().strip())\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    told = subprocess.check_output([sys.executable, "-c", program], text=True, env=environment)
    assert [name for name in told.split() if not name.startswith("jemalloc")] == ["python"]


def test_there_being_nothing_to_do_opens_no_segment_twice(tmp_path: Path) -> None:
    for number in range(5):
        write(
            tmp_path,
            Formatter(SCHEMA).lines(rows(2)),
            stem=f"predictions-202601{number + 1:02d}T000000.000000Z",
        )
    compress(tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 5
    work = Compression(tmp_path)
    started = time.perf_counter()
    for _ in range(100):
        assert not work.work({}, seconds=1)
    assert time.perf_counter() - started < 1


def here(folder: Path) -> set[str]:
    """The files in a folder beside the lock."""
    return {path.name for path in folder.iterdir()} - {LOCK}


@pytest.mark.parametrize("step", range(6))
def test_stopped_anywhere_each_row_is_read_once_and_the_next_one_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    made = rows(60)
    path = write(tmp_path, Formatter(SCHEMA).lines(made))
    cursor = everything(tmp_path)
    if step < 4:
        work = Compression(tmp_path, group_bytes=2_000)
        for _ in range(step):
            assert work.work(cursor, seconds=0)
        leftovers = list(tmp_path.glob(".*"))
        for leftover in leftovers:  # a process that is killed takes nothing away
            shutil.copy(leftover, tmp_path / f".kept{leftover.name}")
        del work
        gc.collect()  # as the end of its process, which frees its lock
    else:

        def stop(_folder: Path) -> None:
            nonlocal step
            step -= 1
            if step < 4:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(durable, "sync_folder", stop)
            with pytest.raises(KeyboardInterrupt):
                Compression(tmp_path).work(cursor, seconds=60)
        assert path.with_suffix(".parquet").exists()
    with capture_logs() as events:
        assert read(tmp_path) == (ids(made), cursor)
        assert sum(sidecar.rows_of(p) for p in closed(tmp_path)) in (0, 60)
    assert events == []
    compress(tmp_path)
    assert not path.exists()
    assert read(tmp_path) == (ids(made), cursor)


def test_two_processes_do_not_compress_the_same(tmp_path: Path) -> None:
    made = rows(60)
    write(tmp_path, Formatter(SCHEMA).lines(made))
    cursor = everything(tmp_path)
    one, other = (Compression(tmp_path, group_bytes=2_000) for _ in range(2))
    assert one.work(cursor, seconds=0)
    with capture_logs() as events:
        assert not other.work(cursor, seconds=60)  # leaves it alone
        assert events == []
        assert not one.work(cursor, seconds=60)
        assert not other.work(cursor, seconds=60)
    assert [event["event"] for event in events] == ["prediction_log_compressed"]
    assert read(tmp_path) == (ids(made), cursor)


def test_it_can_finish_what_it_began_and_begin_nothing(tmp_path: Path) -> None:
    stems = [f"predictions-20260101T0000{number:02d}.000000Z" for number in range(2)]
    for stem in stems:
        write(tmp_path, Formatter(SCHEMA).lines(rows(60)), stem=stem)
    _, cursor = read(tmp_path)
    work = Compression(tmp_path, group_bytes=2_000)
    assert not work.work(cursor, seconds=60, begin=False)
    assert work.work(cursor, seconds=0)
    assert not work.work(cursor, seconds=60, begin=False)
    assert [path.stem for path in tmp_path.glob("*.parquet")] == stems[:1]


def test_killed_at_any_moment_every_row_is_there_once(tmp_path: Path) -> None:
    made = []
    for number in range(16):
        batch = rows(300)
        stem = f"predictions-20260101T0000{number:02d}.000000Z"
        write(tmp_path, Formatter(SCHEMA).lines(batch), stem=stem)
        made += ids(batch)
    _, cursor = read(tmp_path)
    kills = 0
    while closed(tmp_path):
        process = subprocess.Popen([sys.executable, WORK, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.read(1)  # it works
        time.sleep(0.02 + 0.03 * kills)  # ever later, so that it ends
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kills += 1
        with capture_logs() as events:
            assert read(tmp_path) == (made, cursor)
        assert events == []
    assert kills > 1
    assert len(list(tmp_path.glob("predictions-*.parquet"))) == 16


def test_a_full_disk_costs_nothing_but_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rows(5)
    path = write(tmp_path, Formatter(SCHEMA).lines(made))
    cursor = everything(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    work = Compression(tmp_path)
    with monkeypatch.context() as patch, capture_logs() as events:
        patch.setattr("os.fsync", full)
        assert not work.work(cursor, seconds=60)
        assert not work.work(cursor, seconds=60)  # not at once again
    assert [(e["event"], e["file"]) for e in events] == [
        ("prediction_log_not_compressed", str(path))
    ]
    assert here(tmp_path) == {path.name}
    compress(tmp_path)
    assert read(tmp_path)[0] == ids(made)


def with_another_row(table: Any) -> Any:
    return table.take([*range(49), 0])


def with_another_version(table: Any) -> Any:
    others = pa.array(["another"] * 50).dictionary_encode()
    return table.set_column(2, table.column_names[2], others)


@pytest.mark.parametrize("other", [with_another_row, with_another_version])
def test_what_does_not_read_back_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Callable[[Any], Any]
) -> None:
    path = write(tmp_path, Formatter(SCHEMA).lines(rows(50)))
    cursor = everything(tmp_path)
    real = parquet.ParquetWriter.write_table

    def wrong(self: Any, table: Any, **options: Any) -> None:
        real(self, other(table), **options)

    with monkeypatch.context() as patch, capture_logs() as events:
        patch.setattr(parquet.ParquetWriter, "write_table", wrong)
        assert not Compression(tmp_path).work(cursor, seconds=60)
    assert ["read back" in event.get("reason", "") for event in events] == [True]
    assert here(tmp_path) == {path.name}


def test_damage_in_a_parquet_file_is_told_and_harms_no_other_rows(tmp_path: Path) -> None:
    made, others = rows(400), rows(3)
    write(tmp_path, Formatter(SCHEMA).lines(made))
    write(tmp_path, Formatter(SCHEMA).lines(others), stem="predictions-20260102T000000.000000Z")
    compress(tmp_path, group_bytes=8_000)
    path = tmp_path / f"{STEM}.parquet"
    content = bytearray(path.read_bytes())
    place = parquet.ParquetFile(path).metadata.row_group(0).column(5).data_page_offset
    content[place + 50] ^= 255
    path.write_bytes(content)
    reader = Reader(tmp_path)
    with capture_logs() as events:
        found = [id_ for block in reader.read({}) for id_ in block.chunk.ids.tolist()]
    assert [event["event"] for event in events] == ["prediction_log_row_skipped"]
    assert events[0]["file"] == str(path)
    assert found == ids([*made, *others])[-len(found) :]
    assert 250 < len(found) < 403
    path.write_bytes(content[:-100])
    with capture_logs() as events:
        assert read(tmp_path)[0] == ids(others)
    assert [event["event"] for event in events] == ["prediction_log_header_unknown"]


def test_a_cursor_within_rows_whose_ends_are_damaged_goes_on_behind_them(tmp_path: Path) -> None:
    made = rows(400)
    write(tmp_path, Formatter(SCHEMA).lines(made))
    before = Reader(tmp_path, block_bytes=1000)
    first = next(iter(before.read({})))
    (identity,) = first.cursor
    compress(tmp_path, group_bytes=8_000)
    path = tmp_path / f"{STEM}.parquet"
    group = parquet.ParquetFile(path).metadata.row_group(0)
    column = group.column(group.num_columns - 1)
    content = bytearray(path.read_bytes())
    at = column.data_page_offset + column.total_compressed_size // 2
    content[at] ^= 0xFF
    path.write_bytes(content)
    reader = Reader(tmp_path)
    with capture_logs() as events:
        blocks = list(reader.read(first.cursor))
        plan = reader.plan(first.cursor, piece_bytes=1000)
    assert sum(len(block.chunk) for block in blocks) == 400 - group.num_rows
    assert [event["event"] for event in events] == ["prediction_log_row_skipped"]
    assert plan.cursor == blocks[-1].cursor
    assert plan.cursor[identity] > first.cursor[identity]


def test_a_look_back_passes_over_old_parquet_files(tmp_path: Path) -> None:
    old = rows(3, start=START.replace(year=2020))
    new = rows(3)
    write(tmp_path, Formatter(SCHEMA).lines(old))
    write(tmp_path, Formatter(SCHEMA).lines(new), stem="predictions-20260102T000000.000000Z")
    compress(tmp_path)
    for path in tmp_path.glob("*.json"):
        path.unlink()
    blocks = list(Reader(tmp_path).read({}, since=START.replace(year=2025)))
    assert [id_ for block in blocks for id_ in block.chunk.ids.tolist()] == ids(new)
    assert len(blocks[-1].cursor) == 2


def test_a_reading_beside_it_finds_every_row_every_time(tmp_path: Path) -> None:
    made = []
    for number in range(30):
        batch = rows(50)
        stem = f"predictions-20260101T0000{number:02d}.000000Z"
        write(tmp_path, Formatter(SCHEMA).lines(batch), stem=stem)
        made += ids(batch)
    _, cursor = read(tmp_path)
    work = Compression(tmp_path, group_bytes=1_000)
    readings = 0
    reading = Reader(tmp_path).read({})
    found: list[str] = []
    more = True
    while more:
        more = work.work(cursor, seconds=0)
        block = next(reading, None)
        if block is not None:
            found += block.chunk.ids.tolist()
            continue
        assert found == made
        readings += 1
        found, reading = [], Reader(tmp_path).read({})
    assert readings > 1


def test_a_piece_is_found_again_after_its_segment_was_compressed(tmp_path: Path) -> None:
    made = rows(30)
    write(tmp_path, Formatter(SCHEMA).lines(made))
    plan = Reader(tmp_path).plan({}, piece_bytes=333)
    compress(tmp_path, group_bytes=500)
    assert not closed(tmp_path)
    found = [
        id_
        for piece in plan.pieces
        for block in Reader(tmp_path).read_piece(piece)
        for id_ in block.chunk.ids.tolist()
    ]
    assert found == ids(made)
