"""Cycles without a service: once, or every interval until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monitorkit import logs, plugin_manager, progress, reference, telemetry
from monitorkit.config import Config
from monitorkit.contracts import RunResult, Skipped
from monitorkit.errors import ConfigError, MonitorkitError, ResultsUnreadable, told
from monitorkit.monitoring import dask_engine, summary
from monitorkit.monitoring.compressing import Compressing
from monitorkit.monitoring.cycle import Selection, run_cycle
from monitorkit.monitoring.delivery import Delivery
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.process_engine import ProcessEngine, worker
from monitorkit.monitoring.protocol import Engine
from monitorkit.monitoring.retention import LogRetention
from monitorkit.results import Results

log = logs.get(__name__)

FULL = {errno.ENOSPC, errno.EROFS}  # of which the error may name no file

PATIENCE = 600.0  # seconds to wait for a cycle of a running service


@dataclass(frozen=True, slots=True)
class Where:
    """Where the log is summed up and monitors judge.

    Attributes:
        engine: `process`: in a worker process, within limits; `local`: in this one, without;
            `dask`: summed up on a Dask cluster, judged in a worker process.
        scheduler: of the cluster; None: one on this machine.
    """

    engine: Literal["process", "local", "dask"] = "process"
    scheduler: str | None = None


def run_once(
    config: Config, selection: Selection, *, reports: bool, where: Where
) -> RunResult | Skipped:
    """Run one cycle, deliver its result, and show it on a terminal.

    Raises:
        ClusterError: there is no cluster.
        ReferenceProblem: the reference is missing or is not what was frozen; nothing is written.
        ConfigError: the file system refuses to read or write something below the storage.
        MonitorkitError: see `run_cycle`.
    """
    try:
        return _run_once(config, selection, reports=reports, where=where)
    except OSError as error:
        root, file = config.storage.root, error.filename
        ours = Path(str(file)).absolute().is_relative_to(root.absolute())
        if error.errno not in FULL and not ours:
            raise
        problem = (
            f"{file or root}: {error.strerror or error}. Free space, let this user read and write "
            "there, or choose another folder"
        )
        raise ConfigError("[storage] root", (problem,)) from error


def _run_once(
    config: Config, selection: Selection, *, reports: bool, where: Where
) -> RunResult | Skipped:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its workers end with it
    with (
        progress.on_terminal("monitor", measured=False),
        _parts(config, selection, where) as (engine, results, delivery, compressing),
    ):
        reference.verify(config.storage.reference)  # in a wrong folder not even the lock is made
        outcome = run_cycle(
            config,
            engine,
            results,
            trigger="once",
            selection=selection,
            reports=reports,
            patience=PATIENCE,
        )
        delivery.deliver(patience=PATIENCE)
        compressing.run(outcome.cursor, to_the_end=True)
        LogRetention(config).run(outcome.cursor)
    if sys.stdout.isatty():
        summary.show(config, outcome)
    return outcome


def run_forever(config: Config, selection: Selection, *, reports: bool, where: Where) -> None:
    """Run a cycle every interval until Ctrl-C; a cycle that fails is an event."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it does what Ctrl-C does
    interval = config.monitoring.interval.total_seconds()
    with (
        _parts(config, selection, where) as (engine, results, delivery, compressing),
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            started = time.monotonic()
            outcome = None
            try:
                outcome = run_cycle(
                    config,
                    engine,
                    results,
                    trigger="periodic",
                    selection=selection,
                    reports=reports,
                    patience=interval,
                )
            except Exception as error:  # the next one may go better
                expected = isinstance(error, MonitorkitError | OSError)
                log.error(  # noqa: TRY400 - what is expected says it all
                    "cycle_failed",
                    trigger="periodic",
                    reason=told(error),
                    exc_info=None if expected else error,
                )
            try:
                delivery.deliver()
            except (OSError, ResultsUnreadable) as error:
                log.error("delivery_failed", reason=str(error))  # noqa: TRY400 - says it all
            if outcome is not None:
                compressing.run(outcome.cursor)
                LogRetention(config).run(outcome.cursor)
            time.sleep(max(0.0, interval - (time.monotonic() - started)))
    log.info("stopped")


@contextlib.contextmanager
def _parts(
    config: Config, selection: Selection, where: Where
) -> Iterator[tuple[Engine, Results, Delivery, Compressing]]:
    plugin_manager.checked(config)
    selection.check(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(telemetry.traces(config.telemetry))
        monitors = stack.enter_context(worker(config, "monitors"))
        sinks = stack.enter_context(worker(config, "sinks"))
        results = Results(config.storage.results)
        engine: Engine
        engine = judges = ProcessEngine(config, monitors)
        if where.engine == "local":
            engine = LocalEngine(config)
        elif where.engine == "dask":
            client = stack.enter_context(dask_engine.cluster(where.scheduler))
            engine = dask_engine.DaskEngine(config, judges, client)
        delivery, compressing = Delivery(config, sinks, results), Compressing(config, monitors)
        yield engine, results, delivery, compressing
