"""One measured run of ours: `python -m benchmarks.cycles TASK ... ANSWER`, started by `trials.run`.

Tasks: `running`, a cycle of an engine that runs and finds a whole log that is new; `cycle`, the
first one of a new engine over it; `restart` of a process that knows it, `again` with some new rows,
`arrays` in memory, `parsing` by pyarrow alone, `sharing` of the machine by two that parse,
`exactness`.
"""

from __future__ import annotations

import builtins
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.meter import Meter

TIMES = 21
"""Cycles of `again`; the median counts."""


class ImportClock:
    """Adds up the seconds that import statements take, those inside of functions included."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._import = builtins.__import__
        self._running = False
        builtins.__import__ = self._timed

    def _timed(self, *args: Any, **named: Any) -> Any:
        if self._running:
            return self._import(*args, **named)
        self._running = True
        started = time.perf_counter()
        try:
            return self._import(*args, **named)
        finally:
            self.seconds += time.perf_counter() - started
            self._running = False


def running(meter: Meter, engine: str, file: str, few: str) -> None:
    """A cycle that finds the whole log to be new, after one with a few rows: as in a service.

    Args:
        meter: measures.
        engine: which one.
        file: the configuration.
        few: another one, whose log has the few rows.
    """
    from benchmarks.engines import ENGINES  # noqa: PLC0415 - as in the others
    from monitorkit import config  # noqa: PLC0415

    log = config.load(Path(file)).storage.predictions
    aside = log.with_name("aside")
    with ENGINES[engine](Path(file)) as opened:
        run = opened(Path(file))
        log.rename(aside)
        shutil.copytree(config.load(Path(few)).storage.predictions, log)
        with meter.part("warm-up"):
            before = run().window.rows
        # They stay, in a segment of another instance: rows that are gone make a cycle begin anew.
        (log / "predictions.csv").replace(aside / "predictions-few.csv")
        shutil.rmtree(log)
        aside.rename(log)
        with meter.part("cycle"):
            result = run()
        meter.write({"rows": result.window.rows - before})
        (log / "predictions-few.csv").unlink()


def cycle(meter: Meter, engine: str, file: str, warm: str) -> None:
    """A cycle over the whole log; all that is imported once was imported for another log."""
    with meter.part("imports"):
        from benchmarks.engines import ENGINES  # noqa: PLC0415 - measured

    with ENGINES[engine](Path(file)) as opened:
        with meter.part("warm-up"):
            opened(Path(warm))()
        with meter.part("cycle"):
            result = opened(Path(file))()
        meter.write({"rows": result.window.rows})


def restart(meter: Meter, engine: str, file: str) -> None:
    """The first cycle of a process that finds what an earlier one kept."""
    clock = ImportClock()
    with meter.part("imports"):
        from benchmarks.engines import ENGINES  # noqa: PLC0415 - measured

    with ENGINES[engine](Path(file)) as opened:
        with meter.part("cycle"):
            result = opened(Path(file))()
        meter.write({"rows": result.window.rows, "importing": clock.seconds})


def again(meter: Meter, engine: str, file: str, material: str) -> None:
    """Cycles of a long-lived engine, each with some new rows."""
    from benchmarks.engines import ENGINES  # noqa: PLC0415 - imported when a task needs it
    from benchmarks.histories import Material  # noqa: PLC0415
    from benchmarks.workspaces import History  # noqa: PLC0415
    from monitorkit import config  # noqa: PLC0415

    root = config.load(Path(file)).storage.root
    history = History(Path(file), root, Material.load(Path(material)))
    with ENGINES[engine](Path(file)) as opened:
        run = opened(Path(file))
        with meter.part("warm-up"):
            run()
        seconds: list[float] = []
        for _ in range(TIMES):
            history.add_new()
            with meter.part("cycle"):
                started = time.perf_counter()
                result = run()
                seconds.append(time.perf_counter() - started)
        meter.write({"rows": result.window.rows, "every": seconds})


def arrays(meter: Meter, file: str, which: str) -> None:
    """Summing up and judging rows that are in memory already.

    Args:
        meter: measures.
        file: the configuration, whose log is read first.
        which: `all` the monitors, or `features`: KS and Jensen-Shannon without the score, as
            NannyML does it.
    """
    from benchmarks.in_memory import monitors_of, read, work  # noqa: PLC0415 - as above

    monitors = monitors_of(Path(file), which)
    chunk = read(Path(file))
    with meter.part("warm-up"):
        work(monitors, chunk.take(slice(0, 1_000)))
    with meter.part("work"):
        work(monitors, chunk)
    meter.write({"rows": len(chunk)})


def parsing(meter: Meter, file: str) -> None:
    """Parsing alone, by pyarrow over the segments: one thread, our block size, our types."""
    from benchmarks.in_memory import parse  # noqa: PLC0415 - as above

    with meter.part("parsing"):
        rows = parse(Path(file))
    meter.write({"rows": rows})


def sharing(meter: Meter, file: str) -> None:
    """How much more two processes do than one, which share nothing but the machine."""
    from benchmarks.in_memory import parse_blocks  # noqa: PLC0415 - as above

    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        with meter.part("warm-up"):
            list(pool.map(parse_blocks, [Path(file)] * 4))  # the second starts beside the first
        with meter.part("alone"):
            rows = pool.submit(parse_blocks, Path(file)).result()
        with meter.part("together"):
            list(pool.map(parse_blocks, [Path(file)] * 2))
    meter.write({"rows": rows})


def exactness(meter: Meter, file: str) -> None:
    """How far the newest result is from scipy on the rows."""
    from benchmarks.exactness import differences  # noqa: PLC0415 - as above

    with meter.part("comparing"):
        found = differences(Path(file))
    meter.write(found)


TASKS: dict[str, Callable[..., None]] = {
    "running": running,
    "cycle": cycle,
    "restart": restart,
    "again": again,
    "arrays": arrays,
    "parsing": parsing,
    "sharing": sharing,
    "exactness": exactness,
}


def main() -> None:
    """Run the task that the arguments name."""
    task, *arguments, answer = sys.argv[1:]
    TASKS[task](Meter(Path(answer)), *arguments)


if __name__ == "__main__":
    main()
