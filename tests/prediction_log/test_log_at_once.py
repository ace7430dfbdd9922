"""A small append is one write on the event loop; whatever may take longer goes to the thread."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest
from prediction_rows import LARGE, OTHER, SCHEMA, ids, logged, read, rows
from structlog.testing import capture_logs

from monitorkit.errors import LogWriteFailed
from monitorkit.prediction_log import Prediction, Writer, writer
from monitorkit.prediction_log.log_file import LogFile


@pytest.fixture
def threads_used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The thread of each attempt to write, in order."""
    used: list[str] = []
    at_once, patiently = LogFile.write_at_once, LogFile.write

    def in_loop(self: LogFile, data: bytes, latest: bytes) -> bool:
        done = at_once(self, data, latest)
        used.append(f"loop {done}")
        return done

    def in_thread(self: LogFile, data: bytes, latest: bytes) -> int:
        assert threading.current_thread() is not threading.main_thread()
        used.append("thread")
        return patiently(self, data, latest)

    monkeypatch.setattr(LogFile, "write_at_once", in_loop)
    monkeypatch.setattr(LogFile, "write", in_thread)
    return used


async def open_log(folder: Path, *, sync: bool = False, rotate_bytes: int = LARGE) -> Writer:
    durability = "fsync" if sync else "os"
    return await Writer.open(folder, SCHEMA, durability=durability, rotate_bytes=rotate_bytes)  # type: ignore[arg-type] # one of the two


async def test_after_the_first_rows_small_appends_stay_on_the_event_loop(
    tmp_path: Path, threads_used: list[str]
) -> None:
    log = await open_log(tmp_path)
    made: list[Prediction] = []
    for _ in range(3):
        some = rows(2)
        await log.append(SCHEMA, some)
        made += some
        assert logged(tmp_path) == ids(made)  # on disk when `append` returns
        assert log.rows == len(made)
    assert threads_used == ["loop False", "thread", "loop True", "loop True"]
    await log.close()


async def test_synced_and_large_appends_go_to_the_thread(
    tmp_path: Path, threads_used: list[str]
) -> None:
    log = await open_log(tmp_path / "synced", sync=True)
    await log.append(SCHEMA, rows(1))
    await log.append(SCHEMA, rows(1))
    await log.close()
    assert threads_used == ["loop False", "thread"] * 2
    threads_used.clear()
    log = await open_log(tmp_path / "large")
    await log.append(SCHEMA, rows(1))
    await log.append(SCHEMA, rows(writer.INLINE_ROWS + 1))
    await log.close()
    assert threads_used == ["loop False", "thread", "thread"]


async def test_a_new_segment_is_begun_in_the_thread(
    tmp_path: Path, threads_used: list[str]
) -> None:
    log = await open_log(tmp_path, rotate_bytes=400)
    first, second = rows(3), rows(3)
    await log.append(SCHEMA, first)
    with capture_logs():
        await log.append(SCHEMA, second)
    other = rows(1, schema=OTHER)
    with capture_logs():
        await log.append(OTHER, other)
    assert [used for used in threads_used if used != "loop False"] == ["thread"] * 3
    assert sorted(logged(tmp_path)) == ids([*first, *second, *other])
    await log.close()


async def test_a_reader_that_looks_is_waited_for_in_the_thread(
    tmp_path: Path, threads_used: list[str]
) -> None:
    log = await open_log(tmp_path)
    await log.append(SCHEMA, rows(1))
    threads_used.clear()
    with (tmp_path / "predictions.csv").open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (reader.fileno(), fcntl.LOCK_UN)).start()
        await log.append(SCHEMA, rows(1))
        assert threads_used == ["loop False", "thread"]
        await log.append(SCHEMA, rows(1))
        assert threads_used[2:] == ["loop True"]
    await log.close()


async def test_a_file_that_was_moved_away_is_left_to_the_thread(
    tmp_path: Path, threads_used: list[str]
) -> None:
    log = await open_log(tmp_path)
    await log.append(SCHEMA, rows(1))
    threads_used.clear()
    (tmp_path / "predictions.csv").rename(tmp_path / "moved")
    with capture_logs():
        after = rows(1)
        await log.append(SCHEMA, after)
    assert threads_used == ["loop False", "thread"]
    assert logged(tmp_path) == ids(after)
    await log.close()


async def test_after_a_slow_write_the_thread_writes(
    tmp_path: Path, threads_used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await open_log(tmp_path)
    await log.append(SCHEMA, rows(1))
    monkeypatch.setattr(writer, "SLOW_SECONDS", 0.0)  # every write is slow
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", (0.2, 10.0))
    threads_used.clear()
    await log.append(SCHEMA, rows(1))
    assert (threads_used, log.slow_writes) == (["loop True"], 1)
    await log.append(SCHEMA, rows(1))
    assert (threads_used, log.slow_writes) == (["loop True", "thread"], 1)
    await asyncio.sleep(0.25)
    await log.append(SCHEMA, rows(1))
    assert (threads_used[2:], log.slow_writes) == (["loop True"], 2)
    found, _ = read(tmp_path)
    assert len(found) == log.rows == 4
    await log.close()


async def test_a_disk_that_stays_slow_is_given_ever_more_time(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    now, waits = 1000.0, []
    for _ in range(9):
        log._be_patient(now)
        waits.append(round(log._patient_until - now, 3))
        now = log._patient_until
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    log._be_patient(now + 11)  # it was fast for a while
    assert round(log._patient_until - now - 11, 3) == 0.1
    await log.close()


async def test_an_append_that_was_cancelled_in_the_queue_hides_none_that_runs(
    tmp_path: Path, threads_used: list[str]
) -> None:
    log = await open_log(tmp_path)
    await log.append(SCHEMA, rows(1))
    threads_used.clear()
    with (tmp_path / "predictions.csv").open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)  # the first one waits for it in the thread
        running, queued = (asyncio.create_task(log.append(SCHEMA, rows(1))) for _ in range(2))
        await asyncio.sleep(0.05)
        queued.cancel()
        await asyncio.sleep(0)
        last = asyncio.create_task(log.append(SCHEMA, rows(1)))
        await asyncio.sleep(0.05)
        assert threads_used == ["loop False", "thread"]  # the last one waits for its turn
        fcntl.flock(reader, fcntl.LOCK_UN)
    await asyncio.gather(running, last)
    assert threads_used == ["loop False", "thread", "thread"]
    found, _ = read(tmp_path)
    assert len(found) == len(set(found)) == log.rows == 3
    await log.close()


async def test_what_could_not_be_taken_back_is_taken_back_by_the_next_append(
    tmp_path: Path, threads_used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await open_log(tmp_path)
    await log.append(SCHEMA, rows(1))

    def fails(*_: object) -> None:
        raise OSError(errno.EROFS, "read-only for a moment")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fails)
        patched.setattr(os, "ftruncate", fails)
        with pytest.raises(LogWriteFailed):
            await log.append(SCHEMA, rows(1))
    await log.append(SCHEMA, rows(1))
    threads_used.clear()
    await log.append(SCHEMA, rows(1))
    assert threads_used == ["loop True"]
    assert log.rows == len(read(tmp_path)[0]) == 3
    await log.close()
