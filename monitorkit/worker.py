"""One long-lived process for work that may hang, crash or hold the GIL, within limits."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

import monitorkit.lean  # noqa: F401 - before all that logs
from monitorkit import logs
from monitorkit.errors import WorkerDied, WorkerTimeout, told
from monitorkit.logs import LogFormat, LogLevel

CLOSED_POLL = 0.2  # seconds between looks at whether the worker was closed meanwhile

BACKSTOP_SECONDS = 120.0
"""To start a process and to stop it; a pool that is silent for longer is not waited for."""

NICENESS = 10
"""What has time leaves the processors to the service that answers requests."""

STACK_BYTES = 2**18
"""Of the thread that watches the parent."""

PIECE_BYTES = 2**20
"""Of an answer that comes over at once, 1 ms in which nothing else gets the interpreter here."""

P = ParamSpec("P")
R = TypeVar("R")


class AnswerStays(RuntimeError):  # noqa: N818 - named as our other errors are
    """The work was done, and what came of it cannot be brought to another process."""


class Worker:
    """Runs one function after the other in a spawned process, which is replaced when it ends.

    Args:
        name: for events and errors.
        memory_bytes: address space the process may use; None: no limit.
        log_level: as in the parent.
        log_format: as in the parent.
    """

    def __init__(
        self,
        name: str,
        *,
        memory_bytes: int | None = None,
        log_level: LogLevel = "INFO",
        log_format: LogFormat = "auto",
    ) -> None:
        self.name = name
        self._arguments = [memory_bytes, log_level, log_format]
        self._pool = self._start()
        self._closed = False
        self._lock = threading.Lock()
        self._gate = threading.Lock()  # a pool that is stopped while it starts would never end

    def call(
        self, task: str, timeout: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a module-level function there and wait for its answer; blocks the calling thread.

        Args:
            task: what it does, for errors.
            timeout: seconds, counted from when it starts to run.
            function: module-level, with arguments that pickle.
            *args: its arguments.
            **kwargs: its named arguments.

        Raises:
            WorkerTimeout: it took longer and was stopped.
            WorkerDied: its process ended, or the worker was closed.
            AnswerStays: its answer cannot be brought over here.
            Exception: whatever the function raised; a RuntimeError that tells it when it cannot
                be brought over here.
        """
        # Pickled here and there, not by the pool, for which one failure is the end of all work.
        request = pickle.dumps((function, args, kwargs))
        with self._lock:  # one at a time, so that waiting for another caller is not counted
            try:
                raised, sizes, first = self._do(_run, (request,), task, timeout)
                stream, *buffers = self._bring(sizes, first, task, timeout)
            except FutureTimeoutError as error:
                raise WorkerTimeout(task, timeout) from error
            except ProcessExpired as error:
                raise WorkerDied(task, _ending(error.exitcode)) from error
            except (CancelledError, RuntimeError) as error:
                raise WorkerDied(task, "it was closed" if self._closed else str(error)) from error
        try:
            value = pickle.loads(stream.data, buffers=buffers)  # noqa: S301 - our own process
        except Exception as error:
            text = f"its answer cannot be read here: {type(error).__name__}: {error}"
            raise AnswerStays(text) from error
        while buffers:  # freed all at once they would hold up everybody: 8 ms for 140 MB
            buffers.pop()
        if raised:
            raise value
        result: R = value
        return result

    def close(self) -> None:
        """Stop the process, whatever it does."""
        with self._gate:
            self._closed = True
            self._pool.stop()
            # pebble takes its locks away before it ends a process: one that is about to open them,
            # as it starts, would print a traceback among the events. It has no public way to them.
            manager = self._pool._pool_manager.worker_manager  # noqa: SLF001
            for process in list(manager.workers.values()):
                process.terminate()
            self._pool.join()

    def _do(self, what: Callable[..., R], given: tuple[Any, ...], task: str, seconds: float) -> R:
        with self._gate:
            if self._closed:
                raise WorkerDied(task, "it was closed")
            if not self._pool.active:
                self._pool = self._start()
            with _without_interrupts():
                future = self._pool.schedule(what, args=given, timeout=seconds)
        result: R = self._wait(future, task, seconds + BACKSTOP_SECONDS)
        return result

    def _bring(
        self, sizes: list[int], first: bytes, task: str, seconds: float
    ) -> list[NDArray[np.uint8]]:
        """A pickled answer and its large arrays, piece by piece."""
        brought, number = [], 0
        for size in sizes:
            whole = np.empty(size, np.uint8)
            for start in range(0, size, PIECE_BYTES):
                piece = self._do(_piece, (number,), task, seconds) if number else first
                whole[start : start + PIECE_BYTES] = np.frombuffer(piece, np.uint8)
                number += 1
            brought.append(whole)
        return brought

    def _wait(self, future: Any, task: str, seconds: float) -> Any:
        """Its result; a pool that is stopped while it starts would never give one."""
        deadline = time.monotonic() + seconds
        while not wait([future], timeout=CLOSED_POLL).done:
            if self._closed:
                raise WorkerDied(task, "it was closed")
            if time.monotonic() > deadline:
                self._pool.stop()  # it keeps no time; the next call starts another
                raise FutureTimeoutError
        return future.result()

    def _start(self) -> Any:
        # spawn: the parent has threads and an event loop, which do not survive a fork.
        return ProcessPool(
            max_workers=1,
            context=multiprocessing.get_context("spawn"),
            initializer=_initialise,
            initargs=self._arguments,
        )


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Threads and processes that start in here never see Ctrl-C: their parent ends them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_pieces: list[memoryview] = []
"""In the worker: the last answer, until the next one."""


def _run(request: bytes) -> tuple[bool, list[int], bytes]:
    """In the worker: call, and pickle the answer, or what was raised.

    Returns:
        Whether it was raised; the sizes of the pickle and of the arrays beside it; the first piece.
    """
    raised, parts = _called(request)
    _pieces[:] = [
        part[start : start + PIECE_BYTES]
        for part in parts
        for start in range(0, part.nbytes, PIECE_BYTES)
    ]
    return raised, [part.nbytes for part in parts], bytes(_pieces[0])


def _piece(number: int) -> bytes:
    """In the worker: a piece of the last answer.

    Raises:
        RuntimeError: another process gave that answer.
    """
    if number >= len(_pieces):
        raise RuntimeError("it was replaced while its answer was brought over")
    return bytes(_pieces[number])


def _called(request: bytes) -> tuple[bool, list[memoryview]]:
    large: list[pickle.PickleBuffer] = []

    def small(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes >= PIECE_BYTES:
            large.append(buffer)
            return False
        return True

    try:
        function, args, kwargs = pickle.loads(request)  # noqa: S301 - from our own process
        answer = function(*args, **kwargs)
        try:
            pickled = pickle.dumps(answer, protocol=5, buffer_callback=small)
        except Exception as error:
            raise AnswerStays(f"its answer does not pickle: {told(error)}") from error
        return False, [memoryview(pickled), *(buffer.raw() for buffer in large)]
    except Exception as error:  # noqa: BLE001 - it is raised again where the work was asked for
        return True, [memoryview(_portable(error))]
    except BaseException as error:  # noqa: BLE001 - SystemExit and the like
        # There it would end the thread that asked, or the service.
        return True, [memoryview(pickle.dumps(RuntimeError(told(error))))]
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, logs.Printed):
                stream.finish()


def _portable(error: Exception) -> bytes:
    """An exception as bytes; one that does not survive that becomes a RuntimeError."""
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301 - our own bytes, of a moment ago
    except Exception:  # noqa: BLE001 - somebody else's exception may raise anything
        return pickle.dumps(RuntimeError(told(error)))
    return pickled


def _ending(code: int) -> str:
    try:
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    except ValueError:
        return f"exit code {code}"


def _end_with_parent() -> None:
    """Whatever runs here ends when nobody is left to keep its time."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _initialise(memory_bytes: int | None, level: LogLevel, form: LogFormat) -> None:
    """Runs first in the new process."""
    if sys.platform != "win32":
        os.nice(NICENESS)
    # Ctrl-C goes to the whole process group; the parent decides when its workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    usual = threading.stack_size(STACK_BYTES)  # it counts within the limit below
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    threading.stack_size(usual)
    # What is written past Python, to descriptor 1, must not get between the events either.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    sys.stdout = events
    logs.configure(level, form)
    sys.stdout = logs.Printed("monitorkit.worker.stdout")
    sys.stderr = logs.Printed("monitorkit.worker.stderr")
    # pyarrow shares the one heap; read when it is imported. Here alone: lines of many rows, which
    # the service writes, would take a fifth longer.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if memory_bytes is not None:
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
