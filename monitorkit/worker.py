"""One long-lived process for work that may hang, crash or hold the GIL, with time and memory limits."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from io import TextIOBase
from typing import Any, ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from monitorkit import logs
from monitorkit.errors import WorkerDied, WorkerTimeout
from monitorkit.logs import LogFormat, LogLevel

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """Runs one function after the other in a spawned process; a process that misbehaves is replaced.

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
        # spawn: the parent has threads and an event loop, which do not survive a fork.
        self._pool = ProcessPool(
            max_workers=1,
            context=multiprocessing.get_context("spawn"),
            initializer=_initialise,
            initargs=[memory_bytes, log_level, log_format],
        )
        self._lock = threading.Lock()

    def call(
        self, task: str, timeout: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a module-level function there and wait for its answer; blocks the calling thread.

        Args:
            task: what it does, for errors.
            timeout: seconds, counted from when it starts to run.
            function: module-level, with arguments that pickle.

        Raises:
            WorkerTimeout: it took longer and was stopped.
            WorkerDied: its process ended, or the worker was closed.
            Exception: whatever the function raised.
        """
        with self._lock:  # one at a time, so that waiting for another caller is not counted
            try:
                future = self._pool.schedule(function, args=args, kwargs=kwargs, timeout=timeout)
                answer: R = future.result()
            except FutureTimeoutError as error:
                raise WorkerTimeout(task, timeout) from error
            except ProcessExpired as error:
                raise WorkerDied(task, f"exit code {error.exitcode}") from error
            except (CancelledError, RuntimeError) as error:
                if not self._pool.active:
                    raise WorkerDied(task, "it was closed") from error
                raise
        return answer

    def close(self) -> None:
        """Stop the process, whatever it does."""
        self._pool.stop()
        self._pool.join()


class _Events(TextIOBase):
    """Turns what plugins print into events, so that stdout holds one JSON object a line."""

    def __init__(self, stream: str) -> None:
        self._log = logging.getLogger(f"monitorkit.worker.{stream}")
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._log.info(line)
        return len(text)


def _initialise(memory_bytes: int | None, level: LogLevel, form: LogFormat) -> None:
    """Runs first in the new process."""
    # Ctrl-C goes to the whole process group; the parent decides when its workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure(level, form)
    sys.stdout = _Events("stdout")
    sys.stderr = _Events("stderr")
    if memory_bytes is not None:
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def alive(_: Any = None) -> bool:
    """A task that does nothing, to start a worker's process ahead of need."""
    return True
