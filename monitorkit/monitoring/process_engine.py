"""`ProcessEngine`: the engine in a worker process, where what hangs or crashes is left out."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from monitorkit.config import Config
from monitorkit.contracts import Judgement
from monitorkit.errors import WorkerError
from monitorkit.monitoring.active import active, say_nobody
from monitorkit.monitoring.protocol import Absorbed, Case
from monitorkit.prediction_log import Cursor
from monitorkit.worker import Worker

if TYPE_CHECKING:
    from monitorkit.monitoring.engine import LocalEngine

SLICE_SECONDS = 5.0
READY_SECONDS = 120.0

ENVIRONMENT = {
    # numpy, pyarrow and their like would take every processor for a moment, one of them the
    # service's: a cycle takes one.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # One heap for all threads: what one of them frees, the others use again.
    "MALLOC_ARENA_MAX": "1",
}
"""Of worker processes, where it is not set; read by the libraries when a process starts."""


@contextmanager
def worker(config: Config, name: str) -> Iterator[Worker]:
    """A worker process as the configuration wants it; those that run plugins have a memory limit.

    Args:
        config: the whole configuration.
        name: registry | monitors | sinks.
    """
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    process = Worker(
        name,
        memory_bytes=None if name == "registry" else int(config.monitoring.worker_memory),
        log_level=config.logging.level,
        log_format=config.logging.format,
    )
    try:
        yield process
    finally:
        process.close()


class ProcessEngine:
    """`LocalEngine` in a worker process: what hangs or crashes there is named and left out.

    Args:
        config: the whole configuration.
        worker: the process.
    """

    def __init__(self, config: Config, worker: Worker) -> None:
        self._config = config
        # Pickled once: whatever is done for each call waits for the service's interpreter.
        self._pickled = pickle.dumps(config)
        self._worker = worker
        self._entries = {entry.name: entry for entry in config.monitors}
        self._ready_in: int | None = None
        """The process that has read the log, and so has made all that judging needs."""

    def warm_up(self) -> None:
        """Start the process and load what every cycle needs, ahead of the first one."""
        self._worker.call("starting the monitors", READY_SECONDS, _open, self._pickled)

    def absorb(
        self, names: Sequence[str], now: datetime, *, until: Cursor | None = None
    ) -> Absorbed:
        """As `LocalEngine.absorb`; a monitor that ends the process is a failure of that monitor.

        Raises:
            WorkerError: when it ended and no monitor is to blame.
        """
        failures: dict[str, str] = {}
        rows_read = 0
        while True:
            taking_part = [name for name in names if name not in failures]
            limit = max(
                [READY_SECONDS, *(self._entries[n].timeout.total_seconds() for n in taking_part)]
            )
            say_nobody(self._config.storage.state)
            try:
                absorbed, self._ready_in = self._worker.call(
                    "reading the log", limit, _absorb, self._pickled, taking_part, now, until
                )
            except WorkerError as error:
                guilty = active(self._config.storage.state)
                if not guilty or not set(guilty) <= set(taking_part):
                    raise
                failures.update(dict.fromkeys(guilty, str(error)))
                continue
            failures.update(absorbed.failures)
            rows_read += absorbed.rows_read
            if not absorbed.more:
                return replace(absorbed, failures=failures, rows_read=rows_read)

    def judge(self, case: Case) -> Judgement:
        """As `LocalEngine.judge`, within the monitor's timeout.

        Raises:
            WorkerTimeout: it took longer.
            WorkerDied: it ended the process.
            Exception: whatever the monitor raised.
        """
        task = f"monitor {case.monitor!r}"
        limit = self._entries[case.monitor].timeout.total_seconds()
        if self._ready_in is not None:
            with suppress(_NotReadyError):
                return self._worker.call(task, limit, _judge, self._pickled, case, self._ready_in)
        alone = replace(case, previous=())  # what was found before takes a while to come over
        self._worker.call(task, READY_SECONDS, _ready, self._pickled, alone)
        return self._worker.call(task, limit, _judge, self._pickled, case)


class _NotReadyError(Exception):
    """This process is not the one that is ready."""


# The engine of a worker process: it lives as long as the process, so that nothing is loaded twice.
_engines: dict[bytes, LocalEngine] = {}


def _open(config: bytes) -> None:
    _local(config)


def _local(config: bytes) -> LocalEngine:
    from monitorkit.monitoring.engine import LocalEngine  # noqa: PLC0415 - here alone

    if config not in _engines:
        _engines.clear()
        _engines[config] = LocalEngine(pickle.loads(config))  # noqa: S301 - from our own process
    return _engines[config]


def _absorb(
    config: bytes, names: Sequence[str], now: datetime, until: Cursor | None
) -> tuple[Absorbed, int]:
    return _local(config).absorb(names, now, seconds=SLICE_SECONDS, until=until), os.getpid()


def _ready(config: bytes, case: Case) -> None:
    _local(config).ready(case)


def _judge(config: bytes, case: Case, process: int | None = None) -> Judgement:
    if process not in {None, os.getpid()}:
        raise _NotReadyError
    return _local(config).judge(case)
