"""Further folders of the log, on any disk or at any URL, read like the one of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_rows import SCHEMA, START, as_rows, ids, rows
from structlog.testing import capture_logs

from monitorkit.errors import ArchiveUnreachable
from monitorkit.prediction_log import Block, Prediction, Reader, Writer
from monitorkit.prediction_log.compression import Compression
from monitorkit.prediction_log.remote_folder import Ranges
from monitorkit.prediction_log.rows import Formatter, header

HEADER = header(SCHEMA.names)
NAMES = [f"predictions-b-2026010{day}T000000.000000Z" for day in range(1, 7)]


@pytest.fixture(params=["s3", "memory", "file", "path"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An archive of each kind."""
    if request.param == "s3":
        yield request.getfixturevalue("s3")
        return
    place = tmp_path / "archive"
    place.mkdir()
    if request.param == "memory":
        memory = fsspec.filesystem("memory")
        memory.mkdirs("/here/predictions", exist_ok=True)
        yield "memory://here/predictions"
        memory.rm("/here", recursive=True)
    else:
        yield f"file://{place}" if request.param == "file" else str(place)


def put(archive: str, name: str, content: bytes) -> None:
    with fsspec.open(f"{archive}/{name}", "wb") as file:
        file.write(content)


def lines(made: list[Prediction]) -> bytes:
    return HEADER + Formatter(SCHEMA).lines(made)


def packed(folder: Path, made: list[Prediction], name: str, group_bytes: int = 10_000) -> bytes:
    """A compressed segment's bytes."""
    folder.mkdir()
    path = folder / f"{name}.csv"
    path.write_bytes(lines(made))
    cursor = {made[0].prediction_id: path.stat().st_size}
    with capture_logs():
        assert not Compression(folder, group_bytes=group_bytes).work(cursor, seconds=60)
    content = path.with_suffix(".parquet").read_bytes()
    shutil.rmtree(folder)
    return content


def found(reader: Reader, cursor: Any = None, **options: Any) -> tuple[list[str], Any]:
    """The ids after a cursor, and the cursor after them."""
    some: list[str] = []
    cursor = cursor or {}
    for block in reader.read(cursor, **options):
        some += block.chunk.ids.tolist()
        cursor = block.cursor
    return some, cursor


def test_segments_of_every_kind_are_read_in_order_and_go_on_at_any_cursor(
    tmp_path: Path, archive: str
) -> None:
    batches = [rows(40) for _ in range(6)]
    local = tmp_path / "local"
    local.mkdir()
    for number, (name, batch) in enumerate(zip(NAMES, batches, strict=True)):
        if number == 2:  # in the middle of those in the archive
            (local / f"{name}.csv").write_bytes(lines(batch))
        elif number % 2:
            put(archive, f"{name}.parquet", packed(tmp_path / "work", batch, name, 1_000))
        else:
            put(archive, f"{name}.csv", lines(batch))
    live = rows(10)
    put(archive, "predictions-b.csv", lines(live)[:-5])  # it grows
    put(archive, "notes.txt", b"not ours")
    sent = [id_ for batch in [*batches, live[:-1]] for id_ in ids(batch)]
    reader = Reader(local, [archive], block_bytes=700)
    with capture_logs() as events:
        blocks = list(reader.read({}))
    assert events == []
    assert [id_ for block in blocks for id_ in block.chunk.ids.tolist()] == sent
    for left, right in list(pairwise(blocks))[::7]:
        again, end = found(Reader(local, [archive]), left.cursor)
        assert again[0] == right.chunk.ids[0]
        assert sent[-len(again) :] == again
        assert end == blocks[-1].cursor
    put(archive, "predictions-b.csv", lines([*live, *rows(3)]))
    more, _ = found(reader, blocks[-1].cursor)
    assert more[0] == live[-1].prediction_id
    assert len(more) == 4


def test_pieces_give_the_rows_of_one_reading(tmp_path: Path, archive: str) -> None:
    batches = [rows(60) for _ in range(3)]
    put(archive, f"{NAMES[0]}.csv", lines(batches[0]) + b"junk\n")
    put(archive, f"{NAMES[1]}.parquet", packed(tmp_path / "work", batches[1], NAMES[1], 1_000))
    put(archive, "predictions-b.csv", lines(batches[2]) + b"torn")
    reader = Reader(tmp_path / "local", [archive])
    with capture_logs():
        expected = list(reader.read({}))
        plan = reader.plan({}, piece_bytes=777)
        elsewhere = Reader(tmp_path / "local", [archive])
        blocks = [block for piece in plan.pieces for block in elsewhere.read_piece(piece)]
    assert as_rows(blocks) == as_rows(expected)
    assert plan.cursor == expected[-1].cursor
    assert reader.skipped == elsewhere.skipped == 1
    assert len(plan.pieces) > 9


def test_a_segment_that_is_here_and_in_an_archive_is_read_once(
    tmp_path: Path, archive: str
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    made, others = rows(5), rows(5)
    (local / f"{NAMES[0]}.csv").write_bytes(lines(made))
    put(archive, f"{NAMES[0]}.parquet", packed(tmp_path / "work", made, NAMES[0]))
    put(archive, f"{NAMES[1]}.csv", lines(others))
    reader = Reader(local, [archive])
    with capture_logs() as events:
        some, cursor = found(reader)
        assert some == ids(made + others)
        (local / f"{NAMES[0]}.csv").unlink()  # now it is only there
        assert found(reader, cursor)[0] == []
        assert found(reader)[0] == ids(made + others)
    assert events == []


def test_a_copy_that_is_under_way_is_read_as_far_as_it_is_whole(
    tmp_path: Path, archive: str
) -> None:
    made = rows(10)
    content = lines(made)
    put(archive, f"{NAMES[0]}.csv", content[: len(content) - 30])
    reader = Reader(tmp_path / "local", [archive])
    with capture_logs() as events:
        some, cursor = found(reader)
        put(archive, f"{NAMES[0]}.csv", content)
        more, _ = found(reader, cursor)
    assert some + more == ids(made)
    assert len(more) == 1
    assert events == []


def test_a_look_back_passes_over_old_segments(tmp_path: Path, archive: str) -> None:
    old, older, new = (rows(4, start=START.replace(year=year)) for year in (2021, 2020, START.year))
    put(archive, f"{NAMES[0]}.parquet", packed(tmp_path / "work", older, NAMES[0]))
    put(archive, f"{NAMES[1]}.csv", lines(old))
    known = {
        "schema_version": 1,
        "identity": old[0].prediction_id,
        "rows": 4,
        "bytes": len(lines(old)),
        "first_timestamp": old[0].timestamp,
        "last_timestamp": old[-1].timestamp,
    }
    put(archive, f"{NAMES[1]}.json", json.dumps(known).encode())
    put(archive, f"{NAMES[2]}.csv", lines(new))
    reader = Reader(tmp_path / "local", [archive])
    some, cursor = found(reader, since=START.replace(year=2022))
    assert some == ids(new)
    assert set(cursor) == {batch[0].prediction_id for batch in (old, older, new)}
    assert found(Reader(tmp_path / "local", [archive]))[0] == ids([*older, *old, *new])


async def test_two_instances_that_are_archives_of_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / instance for instance in ("a", "b")]
    sent = []
    for folder in folders:
        writer = await Writer.open(
            folder, SCHEMA, durability="os", rotate_bytes=300, instance=folder.name
        )
        for _ in range(3):
            batch = rows(2)
            await writer.append(SCHEMA, batch)
            sent += ids(batch)
        await writer.close()
    readings = [found(Reader(one, [str(other)])) for one, other in (folders, folders[::-1])]
    assert readings[0] == readings[1]
    assert sorted(readings[0][0]) == sorted(sent)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("nowhere", "there is no such folder"),
        ("file:///nowhere/at/all", "there is no such folder"),
        ("memory://nowhere", "FileNotFoundError"),
        ("nosuch://bucket/x", "Protocol not known: nosuch"),
        ("empty", "it is empty, as where a disk is not mounted"),
    ],
)
def test_an_archive_that_cannot_be_read_is_an_error_with_key_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(ArchiveUnreachable, match=rf"\[log\] archives: .*{where}") as caught:
        list(Reader(tmp_path, [where]).read({}))
    assert reason in str(caught.value)


def test_a_new_archive_begins_with_any_file(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "README").touch()
    assert list(Reader(tmp_path / "log", [str(tmp_path / "archive")]).read({})) == []


def test_a_bucket_or_a_server_that_is_not_there_is_told(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArchiveUnreachable, match="s3://no-such-bucket/x"):
        list(Reader(tmp_path, ["s3://no-such-bucket/x"]).read({}))
    with pytest.raises(ArchiveUnreachable, match=f"{s3}"):
        list(Reader(tmp_path, [s3]).read({}))  # nothing is in it
    put(s3, f"{NAMES[0]}.csv", lines(rows(2)))
    assert len(found(Reader(tmp_path, [s3]))[0]) == 2
    fsspec.filesystem("s3").clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ArchiveUnreachable, match=s3):
        list(Reader(tmp_path, [s3]).read({}))


def test_a_copy_that_was_made_while_a_segment_grew_hides_none_of_its_rows(tmp_path: Path) -> None:
    made = rows(30)
    early, late = tmp_path / "early", tmp_path / "late"
    for folder, name, some in ((early, "predictions-b", made[:10]), (late, NAMES[0], made)):
        folder.mkdir()
        put(str(folder), f"{name}.csv", lines(some))
    own = tmp_path / "own"
    for archives in ([early, late], [late, early]):
        assert found(Reader(own, list(map(str, archives))))[0] == ids(made)


def test_a_listing_without_sizes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.mkdirs("/page", exist_ok=True)
    put("memory://page", f"{NAMES[0]}.csv", lines(rows(2)))
    listed = [{**entry, "size": None} for entry in memory.ls("/page", detail=True)]
    monkeypatch.setattr(type(memory), "ls", lambda *_, **__: listed)
    with pytest.raises(ArchiveUnreachable, match="does not say how long files are"):
        found(Reader(tmp_path, ["memory://page"]))


def test_a_network_that_fails_in_the_middle_costs_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    memory.mkdirs("/failing", exist_ok=True)
    made = rows(30)
    put("memory://failing", f"{NAMES[0]}.parquet", packed(tmp_path / "work", made, NAMES[0], 500))
    reader = Reader(tmp_path, ["memory://failing"])
    reader.begun()
    reads = 0

    class Failing:
        def __init__(self, file: Any) -> None:
            self.file = file

        def read(self, size: int) -> bytes:
            nonlocal reads
            reads += 1
            if reads == 20:
                raise OSError("the connection was lost")
            return bytes(self.file.read(size))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    real = type(memory).open
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "open", lambda *a, **k: Failing(real(*a, **k)))
        blocks: list[Block] = []
        with pytest.raises(ArchiveUnreachable, match="the connection was lost"):
            blocks.extend(reader.read({}))  # keeps those before the error
        some = [id_ for block in blocks for id_ in block.chunk.ids.tolist()]
        cursor = blocks[-1].cursor
    assert 0 < len(some) < 30
    assert some + found(reader, cursor)[0] == ids(made)
    memory.rm("/failing", recursive=True)


def test_what_was_looked_at_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    memory.mkdirs("/known", exist_ok=True)
    for name in NAMES:
        put("memory://known", f"{name}.csv", lines(rows(3)))
    reader = Reader(tmp_path, ["memory://known"])
    some, cursor = found(reader)
    assert len(some) == 18
    asked: list[str] = []
    real = type(memory).cat_file

    def cat_file(self: Any, path: str, *args: Any, **options: Any) -> Any:
        asked.append(path.rpartition("/")[2])
        return real(self, path, *args, **options)

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    new = rows(2)
    put("memory://known", "predictions-b.csv", lines(new))
    assert found(reader, cursor)[0] == ids(new)
    assert set(asked) == {"predictions-b.csv"}
    assert len(asked) <= 3
    memory.rm("/known", recursive=True)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 320)), max_size=8),
    st.integers(1, 64),
)
def test_ranges_are_the_bytes_of_the_file(
    content: bytes, asked: list[tuple[int, int]], ahead: int
) -> None:
    def fetch(count: int, offset: int) -> bytes:
        assert offset < len(content)
        return content[offset : offset + count]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitorkit.prediction_log.remote_folder.AHEAD_BYTES", ahead)
        read = Ranges(fetch, len(content))
        for count, offset in asked:
            assert read(count, offset) == content[offset : offset + count]


def test_reading_this_machines_folder_loads_no_fsspec(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_bytes(lines(rows(2)))
    program = (
        "import sys; from pathlib import Path\n"
        "from monitorkit.prediction_log import Reader\n"
        f"assert len(list(Reader(Path({str(tmp_path)!r})).read({{}}))) == 1\n"
        "assert not {'fsspec', 's3fs'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
