"""The worker: whatever happens in it is an error here, and the next call works."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worker_tasks as tasks
from pebble.pool.process import WorkerManager

from monitorkit.errors import DataError, WorkerDied, WorkerTimeout
from monitorkit.worker import AnswerStays, Worker

MEBIBYTE = 2**20
BESIDE = {**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), *sys.path))}
"""In which a process finds `worker_tasks`, and the monitorkit that is tested."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker("test", memory_bytes=1024 * MEBIBYTE)
    yield worker
    worker.close()


@pytest.fixture(autouse=True)
def still_works(worker: Worker) -> Iterator[None]:
    """After each test the worker goes on working."""
    yield
    assert worker.call("adding", 30, tasks.add, 2, right=3) == 5


def test_it_calls_functions_in_one_other_process(worker: Worker) -> None:
    assert worker.call("adding", 30, tasks.add, 1, right=2) == 3
    first, second = (worker.call("asking", 30, tasks.pid) for _ in range(2))
    assert first == second != os.getpid()
    assert worker.call("starting", 30, tasks.alive) is True


def test_what_takes_too_long_is_stopped_and_the_process_replaced(worker: Worker) -> None:
    before = worker.call("asking", 30, tasks.pid)
    started = time.monotonic()
    with pytest.raises(WorkerTimeout, match=r"sleeping took longer than 0\.2 s"):
        worker.call("sleeping", 0.2, tasks.sleep, 60)
    assert time.monotonic() - started < 5
    assert worker.call("asking", 30, tasks.pid) != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_what_does_not_listen_is_stopped_all_the_same(worker: Worker) -> None:
    started = time.monotonic()
    with pytest.raises(WorkerTimeout):
        worker.call("sleeping", 0.2, tasks.sleep_deaf, 60)
    assert time.monotonic() - started < 10


def test_an_end_of_the_process_is_told(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match=r"^ending ended its worker process \(exit code 7\)$"):
        worker.call("ending", 30, tasks.end, 7)
    with pytest.raises(WorkerDied, match="killed by SIGKILL"):
        worker.call("dying", 30, tasks.kill)


def test_memory_is_limited(worker: Worker) -> None:
    assert worker.call("taking", 30, tasks.take, 16 * MEBIBYTE) == 16 * MEBIBYTE
    with pytest.raises(MemoryError):
        worker.call("taking", 30, tasks.take, 4096 * MEBIBYTE)


def test_a_large_answer_comes_over_whole(worker: Worker) -> None:
    count = (
        3 * MEBIBYTE // 8 + 4
    )  # a little more than three pieces; the text is one that is not full
    sent, answer = tasks.large(count), worker.call("sending", 30, tasks.large, count)
    assert answer["text"] == sent["text"]
    for name in ("rows", "columns", "few"):
        np.testing.assert_array_equal(answer[name], sent[name])
        assert answer[name].flags.writeable
        assert answer[name].flags.f_contiguous == sent[name].flags.f_contiguous


def test_an_answer_whose_process_ends_while_it_comes_over_is_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring, process = worker._bring, worker.call("asking", 30, tasks.pid)

    def after_its_end(*given: Any) -> Any:
        os.kill(process, signal.SIGKILL)
        return bring(*given)

    monkeypatch.setattr(worker, "_bring", after_its_end)
    with pytest.raises(WorkerDied, match=r"^sending ended its worker process"):
        worker.call("sending", 30, tasks.large, MEBIBYTE)
    monkeypatch.undo()
    assert worker.call("asking", 30, tasks.pid) != process


@pytest.mark.parametrize(
    "error", [ValueError("wrong"), DataError("a.csv", "no rows", "Add some.", line=3)]
)
def test_exceptions_come_back_as_they_are(worker: Worker, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        worker.call("failing", 30, tasks.fail, error)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (tasks.fail_oddly, "TwoArguments: reason"),
        (tasks.fail_mutely, "Mute"),
        (tasks.leave, "SystemExit: 3"),
        (tasks.interrupt, "KeyboardInterrupt"),
        (tasks.unreadable, "its answer cannot be read here: ValueError"),
    ],
)
def test_what_cannot_come_back_is_told(
    worker: Worker, task: Callable[[], object], told: str
) -> None:
    with pytest.raises(RuntimeError, match=f"^{told}"):
        worker.call("failing", 30, task)


def test_what_does_not_pickle_is_an_error_on_both_sides(worker: Worker) -> None:
    with pytest.raises(AnswerStays, match="its answer does not pickle: TypeError: cannot pickle"):
        worker.call("returning", 30, tasks.a_lock)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        worker.call("calling", 30, lambda: None)


def test_calls_wait_for_each_other_and_their_time_begins_when_they_run(worker: Worker) -> None:
    threads = [
        threading.Thread(target=worker.call, args=("sleeping", 1.0, tasks.sleep, 0.4))
        for _ in range(4)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 1.6  # and no WorkerTimeout, which pytest would report


def test_a_broken_pool_is_replaced() -> None:
    worker = Worker("test")
    try:
        worker._pool.stop()
        worker._pool.join()
        assert worker.call("adding", 30, tasks.add, 1, right=1) == 2
    finally:
        worker.close()


def test_a_pool_that_keeps_no_time_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("test")
    try:
        worker.call("starting", 30, tasks.alive)
        monkeypatch.setattr("monitorkit.worker.BACKSTOP_SECONDS", -59.8)
        with pytest.raises(WorkerTimeout):
            worker.call("sleeping", 60, tasks.sleep, 60)
        monkeypatch.undo()
        assert worker.call("adding", 30, tasks.add, 1, right=1) == 2
    finally:
        worker.close()


def test_closing_while_it_starts_ends_at_once() -> None:
    worker = Worker("test")
    errors: list[Exception] = []

    def call() -> None:
        try:
            worker.call("starting", 60, tasks.alive)
        except WorkerDied as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.02)
    worker.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert all("it was closed" in str(error) for error in errors)


def test_closing_ends_what_runs_and_all_later_calls() -> None:
    worker = Worker("test")
    number = worker.call("asking", 30, tasks.pid)
    errors: list[Exception] = []

    def sleep() -> None:
        try:
            worker.call("sleeping", 60, tasks.sleep, 60)
        except WorkerDied as error:
            errors.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    time.sleep(0.3)
    worker.close()
    thread.join(timeout=10)
    (error,) = errors
    assert "it was closed" in str(error)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with pytest.raises(WorkerDied, match="it was closed"):
        worker.call("asking", 30, tasks.pid)
    worker.close()  # twice does no harm


PRINTING = """
import worker_tasks as tasks
from monitorkit.worker import AnswerStays, Worker
if __name__ == "__main__":
    worker = Worker("test", log_format="json")
    worker.call("talking", 30, tasks.talk)
    assert worker.call("asking", 30, tasks.encoding) == "utf-8"
    worker.close()
"""


def test_what_is_printed_becomes_events(tmp_path: Path) -> None:
    (tmp_path / "printing.py").write_text(PRINTING)
    done = subprocess.run(
        [sys.executable, "printing.py"],
        cwd=tmp_path,
        env=BESIDE,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert sorted((event["logger"], event["event"], event["level"]) for event in events) == [
        ("monitorkit.worker.stderr", "100 %s", "info"),
        ("monitorkit.worker.stdout", "  lines", "info"),
        ("monitorkit.worker.stdout", "no end of line", "info"),
        ("monitorkit.worker.stdout", "two", "info"),
    ]


ABANDONED = """
import os, signal, threading, time
import worker_tasks as tasks
from monitorkit.worker import AnswerStays, Worker
if __name__ == "__main__":
    worker = Worker("test")
    print(worker.call("asking", 30, tasks.pid), flush=True)
    if HANGS:
        threading.Thread(target=worker.call, args=("hanging", 60, time.sleep, 60)).start()
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_a_worker_does_not_outlive_a_killed_service(tmp_path: Path, *, hangs: bool) -> None:
    (tmp_path / "abandoned.py").write_text(ABANDONED.replace("HANGS", str(hangs)))
    done = subprocess.run(
        [sys.executable, "abandoned.py"],
        cwd=tmp_path,
        env=BESIDE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    number = int(done.stdout)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("it still runs")


def test_a_process_that_is_closed_while_it_starts_prints_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closing = WorkerManager.close_channels

    def close_channels(manager: WorkerManager) -> None:
        closing(manager)  # type: ignore[no-untyped-call]
        time.sleep(2)  # as on a busy machine: between taking the locks away and ending the process

    monkeypatch.setattr(WorkerManager, "close_channels", close_channels)
    worker = Worker("test")
    failed: list[WorkerDied] = []

    def call() -> None:
        try:
            worker.call("adding", 30, tasks.add, 1, right=2)
        except WorkerDied as error:
            failed.append(error)

    before = set(multiprocessing.active_children())
    caller = threading.Thread(target=call)
    caller.start()
    while set(multiprocessing.active_children()) <= before:
        time.sleep(0.001)
    worker.close()
    caller.join(timeout=30)
    assert [str(error) for error in failed] == ["adding ended its worker process (it was closed)"]
    assert capfd.readouterr() == ("", "")


def test_a_worker_does_without_rich_which_structlog_would_import(worker: Worker) -> None:
    assert worker.call("looking", 30, tasks.is_imported, "structlog")
    assert not worker.call("looking", 30, tasks.is_imported, "rich")
