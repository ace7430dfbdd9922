"""The engines that are compared: how each runs a cycle, again and again.

Each is a context manager that gives a function from a configuration file to a cycle: a long-lived
engine over the log of that configuration, as the service has it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import monitorkit.lean  # noqa: F401 - as the commands and the workers do
from monitorkit import config
from monitorkit.config import Config
from monitorkit.contracts import RunResult
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.process_engine import ProcessEngine, worker
from monitorkit.monitoring.protocol import Engine
from monitorkit.results import Results

Cycle = Callable[[], RunResult]
Open = Callable[[Path], Cycle]


@contextmanager
def local(_file: Path) -> Iterator[Open]:
    """In this process."""
    from monitorkit.monitoring.engine import LocalEngine  # noqa: PLC0415 - else in parents

    def opened(file: Path) -> Cycle:
        settings = config.load(file)
        return partial(_cycle, settings, LocalEngine(settings))

    yield opened


@contextmanager
def process(file: Path) -> Iterator[Open]:
    """In a worker process, as the service does it."""
    with worker(config.load(file), "monitors") as monitors:

        def opened(file: Path) -> Cycle:
            settings = config.load(file)
            return partial(_cycle, settings, ProcessEngine(settings, monitors))

        yield opened


@contextmanager
def dask(file: Path, *, workers: int) -> Iterator[Open]:
    """On a Dask cluster of this machine, each worker a process with one thread."""
    from monitorkit.monitoring import dask_engine  # noqa: PLC0415 - an extra

    with (
        dask_engine.local_cluster(workers) as there,
        dask_engine.cluster(there.scheduler_address) as client,
        worker(config.load(file), "monitors") as judges,
    ):
        for name in ("monitorkit.monitoring.engine", "pyarrow.csv", "scipy.stats"):
            client.run(importlib.import_module, name)  # the warm-up may not reach every worker

        def opened(file: Path) -> Cycle:
            settings = config.load(file)
            judging = ProcessEngine(settings, judges)
            engine = dask_engine.DaskEngine(settings, judging, client)
            return partial(_cycle, settings, engine)

        yield opened


ENGINES: dict[str, Callable[[Path], AbstractContextManager[Open]]] = {
    "local": local,
    "process": process,
    "dask, 1 worker": partial(dask, workers=1),
    "dask, 2 workers": partial(dask, workers=2),
}


def why_not(name: str) -> str | None:
    """Why an engine cannot be measured here; None when it can."""
    if name.startswith("dask") and find_spec("distributed") is None:
        return "Dask is not installed here (`pip install 'monitorkit[dask]'`)"
    return None


def _cycle(settings: Config, engine: Engine) -> RunResult:
    outcome = run_cycle(settings, engine, Results(settings.storage.results), trigger="once")
    if not isinstance(outcome, RunResult):
        raise TypeError(f"a cycle judged nothing: {outcome.reason}")
    return outcome
