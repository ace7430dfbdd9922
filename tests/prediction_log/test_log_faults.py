"""Disk full, folder gone, file replaced or edited, killed: nothing answered is ever missing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prediction_rows import LARGE, OTHER, SCHEMA, closed, ids, logged, read, rows
from small_disk import mounted
from structlog.testing import capture_logs

from monitorkit.errors import LogWriteFailed
from monitorkit.prediction_log import Reader, Writer

WRITE = str(Path(__file__).with_name("prediction_writer.py"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with mounted(tmp_path / "disk", "256k") as disk:
        yield disk


def fill(path: Path) -> None:
    """Take all the room that a disk has left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


async def open_log(folder: Path, *, rotate_bytes: int = LARGE, durability: str = "os") -> Writer:
    assert durability in ("os", "fsync")
    return await Writer.open(
        folder,
        SCHEMA,
        durability="fsync" if durability == "fsync" else "os",
        rotate_bytes=rotate_bytes,
    )


@pytest.mark.parametrize("durability", ["os", "fsync"])
async def test_a_full_disk_refuses_whole_batches_and_goes_on_when_there_is_room(
    small_disk: Path, durability: str
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 150_000)
    writer = await open_log(small_disk / "log", durability=durability)
    answered: list[str] = []
    refused: list[tuple[str, str, str | None]] = []
    for _ in range(100):
        batch = rows(30)
        try:
            await writer.append(SCHEMA, batch)
        except LogWriteFailed as error:
            refused.append((error.path, error.reason, writer.failure))
        else:
            answered += ids(batch)
            assert writer.failure is None
    full = "No space left on device"
    assert set(refused) == {(str(small_disk / "log" / "predictions.csv"), full, full)}
    assert answered
    assert logged(small_disk / "log") == answered
    ballast.unlink()
    batch = rows(30)
    await writer.append(SCHEMA, batch)
    assert writer.failure is None
    assert logged(small_disk / "log") == answered + ids(batch) == read(small_disk / "log")[0]
    assert writer.rows == len(answered) + 30
    await writer.close()


async def test_a_disk_that_is_full_at_a_rotation(small_disk: Path) -> None:
    writer = await open_log(small_disk / "log")
    old = rows(30)
    await writer.append(SCHEMA, old)
    ballast = small_disk / "ballast"
    fill(ballast)
    for _ in range(3):
        with pytest.raises(LogWriteFailed, match="No space left"):
            await writer.append(OTHER, rows(1, schema=OTHER))
    ballast.unlink()
    new = rows(1, schema=OTHER)
    await writer.append(OTHER, new)
    assert read(small_disk / "log")[0] == ids(old + new)
    assert writer.rows == 31
    await writer.close()


def test_a_limit_on_the_file_size_is_a_full_disk_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, WRITE, str(tmp_path), "--limit", "20000"],
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["failure"] == "File too large"
    assert logged(tmp_path) == report["answered"]
    assert len(report["answered"]) > 50


async def test_a_folder_that_is_gone_fails_appends_until_it_is_back(tmp_path: Path) -> None:
    folder, away = tmp_path / "log", tmp_path / "away"
    writer = await open_log(folder)
    before = rows(3)
    await writer.append(SCHEMA, before)
    folder.rename(away)
    for _ in range(2):
        with pytest.raises(LogWriteFailed, match="the folder is gone"):
            await writer.append(SCHEMA, rows(1))
    assert not folder.exists()  # it may be a mount point: its rows do not belong elsewhere
    away.rename(folder)
    after = rows(2)
    await writer.append(SCHEMA, after)
    assert read(folder)[0] == ids(before + after)
    assert writer.rows == 5
    await writer.close()


async def test_a_folder_that_is_made_anew_is_written_and_locked(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    writer = await open_log(folder)
    await writer.append(SCHEMA, rows(3))
    shutil.rmtree(folder)
    folder.mkdir()
    after = rows(2)
    await writer.append(SCHEMA, after)
    assert logged(folder) == ids(after)
    assert writer.rows == 2
    with pytest.raises(Exception, match="another process writes"):
        await open_log(folder)
    await writer.close()


async def test_a_folder_made_anew_that_another_process_writes_is_left_to_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "log"
    first = await open_log(folder)
    await first.append(SCHEMA, rows(1))
    shutil.rmtree(folder)
    second = await open_log(folder)
    with pytest.raises(LogWriteFailed, match="another process writes it"):
        await first.append(SCHEMA, rows(1))
    assert first.locked_out
    await second.close()
    assert not first.locked_out
    after = rows(1)
    await first.append(SCHEMA, after)
    assert logged(folder) == ids(after)
    assert not first.locked_out
    await first.close()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
async def test_a_file_that_is_taken_away_is_begun_again(tmp_path: Path, how: str) -> None:
    writer = await open_log(tmp_path)
    path = tmp_path / "predictions.csv"
    before, after = rows(2), rows(2)
    await writer.append(SCHEMA, before)
    if how == "deleted":
        path.unlink()
    elif how == "moved":
        path.rename(tmp_path / "elsewhere.csv")
    else:
        shutil.copy(path, tmp_path / "copy")
        (tmp_path / "copy").replace(path)
    with capture_logs() as events:
        await writer.append(SCHEMA, after)
    expected = ids(before + after) if how == "replaced" else ids(after)
    assert logged(tmp_path) == expected
    assert writer.rows == len(expected)
    event = "prediction_log_replaced" if how == "replaced" else "prediction_log_gone"
    assert [e["event"] for e in events] == [event]
    await writer.close()


async def test_a_file_that_moves_away_in_the_middle_of_an_append_is_not_what_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await open_log(tmp_path)
    path = tmp_path / "predictions.csv"
    before, after = rows(2), rows(2)
    await writer.append(SCHEMA, before)
    content = path.read_bytes()
    real = os.write

    def write_and_move(fd: int, data: bytes) -> int:
        if path.exists() and os.fstat(fd).st_ino == path.stat().st_ino:
            monkeypatch.setattr(os, "write", real)
            path.rename(tmp_path / "elsewhere")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write_and_move)
    await writer.append(SCHEMA, after)
    assert logged(tmp_path) == ids(after)
    assert (tmp_path / "elsewhere").read_bytes() == content
    await writer.close()


@pytest.mark.parametrize("number", [2, 500], ids=["at once", "in the thread"])
@pytest.mark.parametrize("then", [b"", b"one more\n"], ids=["before", "before and after"])
async def test_rows_behind_a_line_that_comes_between_a_look_and_a_write_are_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, then: bytes
) -> None:
    writer = await open_log(tmp_path)
    path = tmp_path / "predictions.csv"
    before, after, last = rows(2), rows(number), rows(2)
    await writer.append(SCHEMA, before)
    real = os.write

    def write_behind_others(fd: int, data: bytes) -> int:
        if os.fstat(fd).st_ino != path.stat().st_ino:
            return real(fd, data)
        monkeypatch.setattr(os, "write", real)
        real(fd, b"a note of mine\n")
        written = real(fd, data)
        real(fd, then)
        return written

    monkeypatch.setattr(os, "write", write_behind_others)
    with capture_logs() as events:
        await writer.append(SCHEMA, after)
    assert [event["event"] for event in events] == ["prediction_log_changed"]
    assert writer.logged_rows == 2 + number
    await writer.append(SCHEMA, last)
    assert read(tmp_path)[0] == ids(before + after + last)
    assert writer.rows == 4 + number + 1 + bool(then)
    await writer.close()


@pytest.mark.parametrize(("whole", "torn"), [(0, 0), (0, 10), (1, 0), (2, 9), (4, 0), (10, 9)])
async def test_a_file_that_somebody_cuts_is_closed_and_nothing_new_is_lost(
    tmp_path: Path, whole: int, torn: int
) -> None:
    """`whole` lines, the header included, and some bytes of the next one are left."""
    writer = await open_log(tmp_path)
    path = tmp_path / "predictions.csv"
    before, after = rows(10), rows(40)
    await writer.append(SCHEMA, before)
    _, cursor = read(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    os.truncate(path, len(b"".join(lines[:whole])) + torn)
    with capture_logs() as events:
        await writer.append(SCHEMA, after)
    assert "prediction_log_changed" in [event["event"] for event in events]
    assert read(tmp_path, cursor)[0] == ids(after)
    left = before[: max(0, whole - 1)]
    assert read(tmp_path)[0] == ids(left + after)
    assert sorted(logged(tmp_path)) == sorted(ids(left + after))
    assert writer.rows == len(left) + 40
    await writer.close()


async def test_lines_that_somebody_adds_are_counted_or_set_aside(tmp_path: Path) -> None:
    writer = await open_log(tmp_path)
    path = tmp_path / "predictions.csv"
    before, after = rows(2), rows(2)
    await writer.append(SCHEMA, before)
    with path.open("ab") as file:
        file.write(b"a note of mine\nand half a line")
    await writer.append(SCHEMA, after)
    assert writer.rows == 5
    reader = Reader(tmp_path)
    found = [id_ for block in reader.read({}) for id_ in block.chunk.ids.tolist()]
    assert found == ids(before + after)
    assert reader.skipped == 1
    assert (tmp_path / "predictions.csv.torn").read_bytes() == b"and half a line\n"
    await writer.close()


async def test_a_folder_without_permission_fails_and_recovers(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    writer = await open_log(tmp_path)
    (tmp_path / "predictions.csv").unlink()
    os.chmod(tmp_path, 0o500)  # noqa: PTH101 - as good, and allowed in async code
    with pytest.raises(LogWriteFailed, match="Permission denied"):
        await writer.append(SCHEMA, rows(1))
    os.chmod(tmp_path, 0o700)  # noqa: PTH101
    after = rows(1)
    await writer.append(SCHEMA, after)
    assert logged(tmp_path) == ids(after)
    await writer.close()


async def test_what_cannot_be_taken_back_is_hidden_from_readers_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitorkit.prediction_log.local_folder._SETTLE_SECONDS", 0.01)
    writer = await open_log(tmp_path)
    before, failing, after = rows(2), rows(3), rows(3)
    await writer.append(SCHEMA, before)
    real = os.write

    def half(fd: int, data: bytes) -> int:
        if data.startswith(failing[0].prediction_id.encode()):
            return real(fd, data[: len(data) * 2 // 3])  # two whole lines of three
        raise OSError(28, "No space left on device")

    def broken(_fd: int, _size: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(LogWriteFailed):
            await writer.append(SCHEMA, failing)
        assert read(tmp_path)[0] == []
    cursor: dict[str, int] = {}
    await writer.append(SCHEMA, after)
    assert read(tmp_path, cursor)[0] == ids(before + after) == logged(tmp_path)
    await writer.close()


def test_killed_at_any_moment_every_answered_row_is_there_once(tmp_path: Path) -> None:
    answered: list[str] = []
    seen: list[str] = []
    cursor: dict[str, int] = {}
    for kill in range(10):
        process = subprocess.Popen(
            [sys.executable, WRITE, str(tmp_path), "--prefix", f"k{kill}-", "--rotate", "40000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # it writes
        time.sleep(0.02 + 0.03 * kill / 10)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        for line in lines:
            if line.endswith("\n"):
                answered += line.split()
        new, after = read(tmp_path, cursor)
        cursor = dict(after)
        seen += new
    assert len(answered) > 100
    assert len(closed(tmp_path)) > 2
    done = subprocess.run(
        [sys.executable, WRITE, str(tmp_path), "--rows", "0"],
        capture_output=True,
        text=True,
        check=True,
    )
    counts = Counter(logged(tmp_path))
    assert set(counts.values()) == {1}
    assert set(answered) <= set(counts)
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == len(counts)
    seen += read(tmp_path, cursor)[0]
    assert Counter(seen) == counts


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows what is synced")
def test_fsync_means_synced_before_the_answer_and_the_folder_after_create_and_rename(
    tmp_path: Path,
) -> None:
    folder, trace = tmp_path / "log", tmp_path / "trace"
    calls = "trace=write,fdatasync,fsync,rename,renameat,renameat2,openat"
    command = [sys.executable, WRITE, str(folder), "--durability", "fsync", "--rows", "3"]
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", str(trace), *command, "--rotate", "1"],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("strace may not trace here")
    events = []
    for line in trace.read_text(errors="replace").splitlines():
        call = line.split(None, 1)[1]
        name = call.split("(")[0]
        if name == "write" and "<pipe:" in call and ', "x-' in call:
            events.append("answer")
        elif f"{folder}>" in call and name == "fsync":
            events.append("sync folder")
        elif "predictions.chain" in call and name in ("write", "fsync"):
            events.append("seal" if name == "write" else "sync seal")
        elif "predictions.csv" in call:
            known = {"write": "write", "fdatasync": "sync", "rename": "rename"}
            if name in known:
                events.append(known[name])
            elif name == "openat" and "O_CREAT" in call:
                events.append("create")
    begin = ["create", "write", "sync", "sync folder"]
    row = ["write", "sync", "answer"]
    close = ["rename", "sync folder", *begin, *row]
    assert events == [
        *(*begin, *row),
        *("seal", "sync seal", "sync folder", *close),  # that of the chain, which is new
        *("seal", "sync seal", *close),
    ]
