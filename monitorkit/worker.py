"""One long-lived process for work that may hang, crash or hold the GIL, within limits."""

from __future__ import annotations

import multiprocessing
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

from pebble import ProcessExpired, ProcessPool

from monitorkit import logs
from monitorkit.errors import WorkerDied, WorkerTimeout, told
from monitorkit.logs import LogFormat, LogLevel

CLOSED_POLL = 0.2  # seconds between looks at whether the worker was closed meanwhile

BACKSTOP_SECONDS = 120.0
"""To start a process and to stop it; a pool that is silent for longer is not waited for."""

NICENESS = 10
"""What has time leaves the processors to the service that answers requests."""

P = ParamSpec("P")
R = TypeVar("R")


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
            Exception: whatever the function raised; a RuntimeError that tells it when it cannot
                be brought over here.
        """
        # Pickled here and there, not by the pool, for which one failure is the end of all work.
        request = pickle.dumps((function, args, kwargs))
        with self._lock:  # one at a time, so that waiting for another caller is not counted
            try:
                future = self._schedule(request, task, timeout)
                raised, answer = self._wait(future, task, timeout + BACKSTOP_SECONDS)
            except FutureTimeoutError as error:
                raise WorkerTimeout(task, timeout) from error
            except ProcessExpired as error:
                raise WorkerDied(task, _ending(error.exitcode)) from error
            except (CancelledError, RuntimeError) as error:
                raise WorkerDied(task, "it was closed" if self._closed else str(error)) from error
        try:
            value = pickle.loads(answer)  # noqa: S301 - from our own process
        except Exception as error:
            text = f"its answer cannot be read here: {type(error).__name__}: {error}"
            raise RuntimeError(text) from error
        if raised:
            raise value
        result: R = value
        return result

    def close(self) -> None:
        """Stop the process, whatever it does."""
        with self._gate:
            self._closed = True
            self._pool.stop()
            self._pool.join()

    def _schedule(self, request: bytes, task: str, timeout: float) -> Any:
        with self._gate:
            if self._closed:
                raise WorkerDied(task, "it was closed")
            if not self._pool.active:
                self._pool = self._start()
            with _without_interrupts():
                return self._pool.schedule(_run, args=(request,), timeout=timeout)

    def _wait(self, future: Any, task: str, seconds: float) -> tuple[bool, bytes]:
        """The answer; a pool that is stopped while it starts would never give one."""
        deadline = time.monotonic() + seconds
        while not wait([future], timeout=CLOSED_POLL).done:
            if self._closed:
                raise WorkerDied(task, "it was closed")
            if time.monotonic() > deadline:
                self._pool.stop()  # it keeps no time; the next call starts another
                raise FutureTimeoutError
        answer: tuple[bool, bytes] = future.result()
        return answer

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


def _run(request: bytes) -> tuple[bool, bytes]:
    """In the worker: call, and pickle the answer, or what was raised."""
    try:
        function, args, kwargs = pickle.loads(request)  # noqa: S301 - from our own process
        return False, pickle.dumps(function(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - it is raised again where the work was asked for
        return True, _portable(error)
    except BaseException as error:  # noqa: BLE001 - SystemExit and the like
        # There it would end the thread that asked, or the service.
        return True, pickle.dumps(RuntimeError(told(error)))
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


def _initialise(memory_bytes: int | None, level: LogLevel, form: LogFormat) -> None:
    """Runs first in the new process."""
    if sys.platform != "win32":
        os.nice(NICENESS)
    # Ctrl-C goes to the whole process group; the parent decides when its workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is written past Python, to descriptor 1, must not get between the events either.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    sys.stdout = events
    logs.configure(level, form)
    sys.stdout = logs.Printed("monitorkit.worker.stdout")
    sys.stderr = logs.Printed("monitorkit.worker.stderr")
    if memory_bytes is not None:
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
