"""What `read` promises: whole rows, each once, from any process, at any moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prediction_rows import LARGE, OTHER, SCHEMA, START, as_rows, closed, ids, logged, read, rows
from structlog.testing import capture_logs

from monitorkit.prediction_log import (
    Block,
    Cursor,
    Prediction,
    Reader,
    Writer,
    folders,
    names,
    reader,
)
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.rows import Formatter, header
from monitorkit.schema import Feature, FeatureSchema

HEADER = header(SCHEMA.names)


def lines(number: int) -> list[bytes]:
    return Formatter(SCHEMA).lines(rows(number)).splitlines(keepends=True)


def write(folder: Path, *parts: bytes, name: str = "predictions.csv") -> Path:
    path = folder / name
    path.write_bytes(b"".join(parts))
    return path


def test_rows_come_as_arrays_of_one_model_version(tmp_path: Path) -> None:
    batches = [rows(3, version="1"), rows(2, version="2"), rows(1, version="1")]
    write(tmp_path, HEADER, *(Formatter(SCHEMA).lines(batch) for batch in batches))
    blocks = list(Reader(tmp_path).read({}))
    assert [block.model_version for block in blocks] == ["1", "2", "1"]
    for block, batch in zip(blocks, batches, strict=True):
        chunk = block.chunk
        assert chunk.columns == SCHEMA.names
        assert chunk.ids.dtype.kind == "U"
        assert chunk.times.dtype == np.dtype("datetime64[us]")
        assert chunk.features.dtype == chunk.scores.dtype == np.float64
        assert chunk.features[:, 0].flags.c_contiguous  # monitors go column by column
        assert as_rows([block]) == [
            (r.prediction_id, r.timestamp, r.model_version, r.probability, list(r.features))
            for r in batch
        ]
    middle = blocks[0].cursor
    assert [b.chunk.ids.tolist() for b in Reader(tmp_path).read(middle)] == [
        ids(batch) for batch in batches[1:]
    ]


def test_no_folder_and_no_rows_are_no_blocks(tmp_path: Path) -> None:
    assert list(Reader(tmp_path / "nowhere").read({})) == []
    assert list(Reader(tmp_path).read({})) == []
    write(tmp_path, b"")
    assert list(Reader(tmp_path).read({})) == []
    write(tmp_path, HEADER[:9])
    assert list(Reader(tmp_path).read({})) == []
    write(tmp_path, HEADER)
    assert list(Reader(tmp_path).read({})) == []


def test_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    one, two = lines(2)
    write(tmp_path, HEADER, one, two[:-1])
    found, cursor = read(tmp_path)
    assert len(found) == 1
    assert read(tmp_path, cursor)[0] == []
    write(tmp_path, HEADER, one, two)
    assert len(read(tmp_path, cursor)[0]) == 1


BAD = {
    "NUL bytes": b"\0" * 100,
    "NUL bytes in a label": b"id,2026-01-02T03:04:05.123456Z,1,\0\0,0.5,1,2,3",
    "not UTF-8": b"id,2026-01-02T03:04:05.123456Z,\xff,0,0.5,1,2,3",
    "a label that is not UTF-8": b"id,2026-01-02T03:04:05.123456Z,1,\x80,0.5,1,2,3",
    "too few fields": b"id,2026-01-02T03:04:05.123456Z,1,0,0.5,1,2",
    "too many fields": b"id,2026-01-02T03:04:05.123456Z,1,0,0.5,1,2,3,4",
    "no number": b"id,2026-01-02T03:04:05.123456Z,1,0,0.5,1,2,three",
    "not a number": b"id,2026-01-02T03:04:05.123456Z,1,0,0.5,1,2,nan",
    "infinity": b"id,2026-01-02T03:04:05.123456Z,1,0,inf,1,2,3",
    "no probability": b"id,2026-01-02T03:04:05.123456Z,1,0,,1,2,3",
    "no time": b"id,,1,0,0.5,1,2,3",
    "no such time": b"id,2026-13-02T03:04:05.123456Z,1,0,0.5,1,2,3",
    "a time beyond the calendar": b"id,9999-12-31T23:59:59.999999-01:00,1,0,0.5,1,2,3",
    "a time before the calendar": b"id,0001-01-01T00:00:00.000000+01:00,1,0,0.5,1,2,3",
    "a leap second": b"id,2026-06-30T23:59:60.000000Z,1,0,0.5,1,2,3",
    "a time without a zone": b"id,2026-01-02T03:04:05.123456,1,0,0.5,1,2,3",
    "no id": b",2026-01-02T03:04:05.123456Z,1,0,0.5,1,2,3",
    "an open quote": b'id,2026-01-02T03:04:05.123456Z,"1,0,0.5,1,2,3',
    "a return": b"id,2026-01-02T03:04:05.123456Z,1\r,0,0.5,1,2,3",
    "a return before the id": b"\rid,2026-01-02T03:04:05.123456Z,1,0,0.5,1,2,3",
    "an empty line": b"",
    "two rows that ran together": b"id,2026-01-02T03:04:05id,2026-01-02T03:04:05.1Z,1,0,0.5,1,2,3",
    "the header again": HEADER[:-1],
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("block_bytes", [folders.BLOCK_BYTES, 150])
def test_a_line_that_is_no_row_harms_no_other(tmp_path: Path, bad: bytes, block_bytes: int) -> None:
    before, after = rows(3), rows(3)
    start = HEADER + Formatter(SCHEMA).lines(before)
    path = write(tmp_path, start, bad, b"\n", Formatter(SCHEMA).lines(after))
    log = Reader(tmp_path, block_bytes=block_bytes)
    with capture_logs() as events:
        found = [id_ for block in log.read({}) for id_ in block.chunk.ids.tolist()]
    assert found == ids(before + after)
    assert log.skipped == 1
    (event,) = events
    assert event.pop("reason")
    assert event == {
        "event": "prediction_log_row_skipped",
        "log_level": "warning",
        "file": str(path),
        "offset": len(start),
    }


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    after = rows(2)
    path = write(tmp_path, HEADER, *lines(2))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size + 100_000_000)  # a hole: no disk is used
        file.write(b"\n" + Formatter(SCHEMA).lines(after))
    log = Reader(tmp_path, block_bytes=1_000)
    with capture_logs() as events:
        found = [id_ for block in log.read({}) for id_ in block.chunk.ids.tolist()]
    assert found[2:] == ids(after)
    assert [(e["offset"], e["reason"]) for e in events] == [
        (size, "it is longer than 1048576 bytes")
    ]


def test_thousands_of_bad_lines_are_counted_and_told_of_in_one_more_event(tmp_path: Path) -> None:
    good = rows(2)
    text = Formatter(SCHEMA).lines(good).splitlines(keepends=True)
    write(tmp_path, HEADER, text[0], b"x\n" * 5_000, b"1,2,3,4,5,6,7,8\n" * 500, text[1])
    log = Reader(tmp_path)
    with capture_logs() as events:
        found = [id_ for block in log.read({}) for id_ in block.chunk.ids.tolist()]
    assert found == ids(good)
    assert log.skipped == 5_500
    assert len(events) == reader.EVENTS + 1
    assert events[-1] == {
        "event": "prediction_log_rows_skipped",
        "log_level": "warning",
        "rows": 5_500,
    }


def test_bad_lines_at_the_end_are_not_lost_to_the_cursor(tmp_path: Path) -> None:
    first, second = lines(2)
    write(tmp_path, HEADER, first, b"bad\n")
    found, cursor = read(tmp_path)
    write(tmp_path, HEADER, first, b"bad\n", second)
    log = Reader(tmp_path)
    assert sum(len(block.chunk) for block in log.read(cursor)) == 1
    assert log.skipped == 1
    assert len(found) == 1


def test_a_cursor_does_not_depend_on_how_the_log_was_read(tmp_path: Path) -> None:
    write(tmp_path, HEADER, *lines(4), b"bad\n", name="predictions-20260101T000000.000000Z.csv")
    write(tmp_path, HEADER, *lines(4), b"bad\n", b"bad\n", *lines(2), b"bad\n")
    cursors = {tuple(sorted(read(tmp_path, block_bytes=n)[1].items())) for n in (1, 99, 1_000)}
    assert len(cursors) == 1


async def test_a_cursor_survives_the_rotation_of_its_segment(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=LARGE)
    batches = [rows(3), rows(2), rows(2, schema=OTHER)]
    await writer.append(SCHEMA, batches[0])
    found, cursor = read(tmp_path)
    await writer.append(SCHEMA, batches[1])
    await writer.append(OTHER, batches[2])
    new, after = read(tmp_path, cursor)
    assert (found, new) == (ids(batches[0]), ids(batches[1] + batches[2]))
    (old,) = closed(tmp_path)
    assert after == {
        batches[0][0].prediction_id: old.stat().st_size,
        batches[2][0].prediction_id: (tmp_path / "predictions.csv").stat().st_size,
    }
    away = old.rename(tmp_path / "away.csv")  # what is gone may come back, and was read
    last = rows(1, schema=OTHER)
    await writer.append(OTHER, last)
    new, later = read(tmp_path, after)
    assert new == ids(last)
    away.rename(old)
    assert read(tmp_path, later)[0] == []
    await writer.close()


async def test_a_reading_can_stop_where_another_one_stopped(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=400)
    sent: list[str] = []
    cursors = []
    for _ in range(5):
        batch = rows(3)
        await writer.append(SCHEMA, batch)
        sent += ids(batch)
        cursors.append(read(tmp_path)[1])
    await writer.append(SCHEMA, rows(3))
    assert len(closed(tmp_path)) > 1
    for number, until in enumerate(cursors, start=1):
        blocks = list(Reader(tmp_path).read({}, until=until))
        found = [id_ for block in blocks for id_ in block.chunk.ids.tolist()]
        assert found == sent[: 3 * number]
        assert blocks[-1].cursor == until
        assert list(Reader(tmp_path).read(until, until=until)) == []
    await writer.close()


@pytest.mark.parametrize("edit", ["shifted", "cut"])
def test_a_segment_edited_under_its_cursor_is_read_again_and_says_so(
    tmp_path: Path, edit: str
) -> None:
    text = lines(4)
    write(tmp_path, HEADER, *text)
    found, cursor = read(tmp_path)
    if edit == "shifted":
        write(tmp_path, HEADER, text[0], b"longer" + text[1], *text[2:], *lines(1))
    else:
        write(tmp_path, HEADER, *text[:3])
    with capture_logs() as events:
        again, after = read(tmp_path, cursor)
    assert [event["event"] for event in events] == ["prediction_log_read_again"]
    assert len(again) == (5 if edit == "shifted" else 3)
    assert again[0] == found[0]
    assert read(tmp_path, after)[0] == []


def segment_of(folder: Path, batch: Sequence[Prediction], *, writer: str = "") -> Path:
    """A closed segment, called as its writer would."""
    moment = datetime.fromisoformat(batch[0].timestamp)
    name = f"predictions-{writer}{moment:%Y%m%dT%H%M%S.%fZ}.csv"
    return write(folder, HEADER, Formatter(SCHEMA).lines(batch), name=name)


def without_first(path: Path, count: int = 1) -> Path:
    """What `sed -i 2d` makes of a segment: another file of the same name."""
    head, *others = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    path.write_bytes(b"".join([head, *others[count:]]))
    return path


def looked_again(folder: Path, cursor: Cursor, newest: Prediction, **options: Any) -> list[str]:
    """The files of which a reading says that they had been read before; so does a plan."""
    found = []
    for plans in (False, True):
        log = Reader(folder, **options)
        until = datetime.fromisoformat(newest.timestamp)
        with capture_logs() as events:
            if plans:
                log.plan(cursor, piece_bytes=100, newest=until)
            else:
                list(log.read(cursor, newest=until))
        told = [e["file"] for e in events if e["event"] == "prediction_log_read_again"]
        assert log.read_again == bool(told)
        found.append(told)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("which", ["open", "closed", "since closed", "another writer's"])
def test_a_segment_without_its_first_rows_was_read_before(
    tmp_path: Path, which: str, count: int
) -> None:
    oldest, old, theirs, new = (rows(3) for _ in range(4))
    segment_of(tmp_path, oldest)
    closed_one = segment_of(tmp_path, old)
    of_b = write(tmp_path, HEADER, Formatter(SCHEMA).lines(theirs), name="predictions-b.csv")
    growing = write(tmp_path, HEADER, Formatter(SCHEMA).lines(new))
    found, cursor = read(tmp_path)
    assert len(found) == 12
    assert looked_again(tmp_path, cursor, new[-1]) == []
    edited = {"closed": closed_one, "another writer's": of_b}.get(which, growing)
    without_first(edited, count)
    if which == "since closed":
        edited = edited.rename(segment_of(tmp_path, new))
        write(tmp_path, HEADER, *lines(2))
    assert looked_again(tmp_path, cursor, new[-1]) == [str(edited)]
    _, anew = read(tmp_path)
    assert looked_again(tmp_path, anew, new[-1]) == []


def test_another_writers_segments_say_nothing_of_a_first_row_that_is_gone(tmp_path: Path) -> None:
    batch = rows(9)  # b begins between the first and the second row of the other writer
    growing = write(tmp_path, HEADER, Formatter(SCHEMA).lines(batch[::4]))
    write(tmp_path, HEADER, Formatter(SCHEMA).lines(batch[2::4]), name="predictions-b.csv")
    _, cursor = read(tmp_path)
    without_first(growing)
    assert looked_again(tmp_path, cursor, batch[-1]) == [str(growing)]


def test_a_segment_of_foreign_rows_without_its_first_one_was_read_before(tmp_path: Path) -> None:
    batch = [row._replace(prediction_id=f"order-{n}") for n, row in enumerate(rows(4))]
    path = segment_of(tmp_path, batch, writer="import-")
    _, cursor = read(tmp_path)
    without_first(path)
    assert looked_again(tmp_path, cursor, batch[-1]) == [str(path)]


def rotated(folder: Path, _log: list[Path]) -> None:
    """The open segment is closed, and the next one begins."""
    (folder / "predictions.csv").rename(folder / "predictions-20260102T040000.000000Z.csv")
    write(folder, HEADER, *lines(2))


def pruned_and_rotated(folder: Path, log: list[Path]) -> None:
    """Retention deletes the oldest one meanwhile."""
    log[0].unlink()
    rotated(folder, log)


def archived(folder: Path, log: list[Path]) -> None:
    """Closed ones are moved to where this reader does not look, and one rotates."""
    for path in log[:2]:
        path.unlink()
    rotated(folder, log)


def imported(folder: Path, _log: list[Path]) -> None:
    """Rows of a time that was read are added; nothing is gone."""
    segment_of(folder, rows(3, start=START - timedelta(days=1)), writer="import-")


def imported_as_one_before(folder: Path, log: list[Path]) -> None:
    """The same when something is gone, but another import was begun since that was."""
    log[0].unlink()
    segment_of(folder, rows(1, start=START + timedelta(minutes=1)), writer="import-")


def begun_before_the_newest_row(folder: Path, log: list[Path]) -> None:
    """An instance rotates while the other one's rows are read, and retention deletes one."""
    log[0].unlink()
    (folder / "predictions.csv").rename(folder / "predictions-20260102T040000.000000Z.csv")
    write(folder, HEADER, Formatter(SCHEMA).lines(rows(2, start=START - timedelta(seconds=1))))


def another_instance(folder: Path, log: list[Path]) -> None:
    """One is scaled away with its files, and the next one has another name."""
    log[2].unlink()
    write(folder, HEADER, *lines(2), name="predictions-c.csv")


@pytest.mark.parametrize(
    "happens",
    [
        rotated,
        pruned_and_rotated,
        archived,
        imported,
        imported_as_one_before,
        begun_before_the_newest_row,
        another_instance,
    ],
)
def test_what_comes_and_goes_every_day_is_not_taken_for_an_edit(
    tmp_path: Path, happens: Callable[[Path, list[Path]], None]
) -> None:
    old, later, theirs, new, import_ = (rows(3) for _ in range(5))
    log = [segment_of(tmp_path, old), segment_of(tmp_path, later)]
    log.append(segment_of(tmp_path, theirs, writer="b-"))
    write(tmp_path, HEADER, Formatter(SCHEMA).lines(new))
    segment_of(tmp_path, import_, writer="import-")
    _, cursor = read(tmp_path)
    happens(tmp_path, log)
    assert looked_again(tmp_path, cursor, import_[-1]) == []


def test_segments_are_read_in_order_of_time_and_strangers_are_not(tmp_path: Path) -> None:
    batches = [rows(2) for _ in range(4)]
    files = [
        "predictions-20260101T000000.000000Z.csv",
        "predictions-20260101T000000.000000Z-2.csv",
        "predictions-20260101T000000.000000Z-10.csv",
        "predictions.csv",
    ]
    for name, batch in reversed(list(zip(files, batches, strict=True))):
        write(tmp_path, HEADER, Formatter(SCHEMA).lines(batch), name=name)
    write(tmp_path, HEADER, *lines(1), name="predictions-my-copy.csv")
    write(tmp_path, HEADER, *lines(1), name="predictions.csv.unknown-1")
    write(tmp_path, b"what,is,this\n", name="predictions-20260101T000001.000000Z.csv")
    with capture_logs() as events:
        assert read(tmp_path)[0] == [id_ for batch in batches for id_ in ids(batch)]
    assert [event["event"] for event in events] == ["prediction_log_header_unknown"]


def test_a_copy_of_a_segment_is_not_read_twice(tmp_path: Path) -> None:
    content = [HEADER, *lines(3)]
    write(tmp_path, *content)
    write(tmp_path, *content, name="predictions-20260101T000000.000000Z.csv")
    with capture_logs() as events:
        assert len(read(tmp_path)[0]) == 3
    assert [event["event"] for event in events] == ["prediction_log_copy_ignored"]


async def test_a_look_back_does_not_read_a_year(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=1)
    months = [rows(2, start=START + timedelta(days=30 * month)) for month in range(12)]
    for batch in months:
        await writer.append(SCHEMA, batch)
    late = rows(1, start=START)  # the clock went back: an old row in a new segment
    await writer.append(SCHEMA, [*late, *rows(1, start=START + timedelta(days=400))])
    await writer.append(SCHEMA, rows(1, start=START + timedelta(days=401)))
    since = START + timedelta(days=30 * 10 - 1)
    blocks = list(Reader(tmp_path).read({}, since=since))
    found = [id_ for block in blocks for id_ in block.chunk.ids.tolist()]
    assert found[:5] == ids(months[10] + months[11] + late)
    assert len(found) == 7
    _, everything = read(tmp_path)
    assert blocks[-1].cursor == everything
    closed(tmp_path)[0].with_suffix(".json").unlink()
    with_unknown = [
        id_ for b in Reader(tmp_path).read({}, since=since) for id_ in b.chunk.ids.tolist()
    ]
    assert with_unknown == ids(months[0]) + found  # without a sidecar nobody knows: it is read
    await writer.close()


async def test_reading_beside_a_writer_that_rotates_finds_every_row_once(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path, SCHEMA, durability="os", rotate_bytes=600)
    found: list[str] = []
    done = threading.Event()

    def follow() -> int:
        cursor: dict[str, int] = {}
        passes = 0
        last = False
        while not last:
            last = done.is_set()
            passes += 1
            for block in Reader(tmp_path, block_bytes=300).read(cursor):
                found.extend(block.chunk.ids.tolist())
                cursor = dict(block.cursor)
        return passes

    sent: list[str] = []
    following = asyncio.create_task(asyncio.to_thread(follow))
    for number in range(400):
        schema = OTHER if number % 50 == 49 else SCHEMA
        batch = rows(1 + number % 5, schema=schema)
        await writer.append(schema, batch)
        sent += ids(batch)
    done.set()
    passes = await following
    assert passes > 2
    assert len(closed(tmp_path)) > 50
    assert found == sent
    assert sorted(logged(tmp_path)) == sorted(sent)
    assert writer.rows == len(sent)
    await writer.close()


def test_a_rotation_between_opening_and_listing_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = rows(3), rows(2)
    path = write(tmp_path, HEADER, Formatter(SCHEMA).lines(old))
    real = names.segments
    calls = 0

    def listed(folder: Path) -> list[Name]:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first one says which file to open
            path.rename(tmp_path / "predictions-20260101T000000.000000Z.csv")
            write(tmp_path, HEADER, Formatter(SCHEMA).lines(new))
        return real(folder)

    monkeypatch.setattr(names, "segments", listed)
    assert read(tmp_path)[0] == ids(old + new)


def test_a_wide_schema_and_ids_of_any_length(tmp_path: Path) -> None:
    schema = FeatureSchema(
        tuple(Feature(f"a rather long name of feature {i}") for i in range(5000))
    )
    text = b"".join(
        name.encode() + b",2026-01-02T03:04:05Z,1,0,0.5" + b",1.25" * 5000 + b"\r\n"
        for name in ("a", "häß", "c" * 50)
    )
    write(tmp_path, header(schema.names), text)
    (block,) = Reader(tmp_path).read({})
    assert block.chunk.ids.tolist() == ["a", "häß", "c" * 50]
    assert block.chunk.features.shape == (3, 5000)
    assert np.all(block.chunk.features == 1.25)


def test_a_block_holds_no_more_than_asked_for(tmp_path: Path) -> None:
    text = lines(1000)
    write(tmp_path, HEADER, *text)
    blocks: list[Block] = list(Reader(tmp_path, block_bytes=5_000).read({}))
    assert max(len(block.chunk) for block in blocks) <= 5_000 // min(map(len, text))
    assert sum(len(block.chunk) for block in blocks) == 1000
