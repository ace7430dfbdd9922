"""Stalls and memory over time: `python -m benchmarks.tail`, three minutes.

Drives the service at a fixed rate, slice after slice, and reads after each what /metrics says of
the event loop's lag and of garbage collections, and how much memory the service takes. In some
slices another model version is promoted, so it is loaded under load; in the last ones batches of
10,000 rows come beside the single ones. Beside all of them another process runs an event loop with
nothing to do: it waits for the same processors, and shares nothing else with the service.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import bare_loop, servers
from benchmarks.beside import schedule
from benchmarks.load import Load, Measured, run
from benchmarks.machine import facts, say
from benchmarks.report import BATCH_ROWS, RATE, Results
from benchmarks.servers import Running
from benchmarks.serving import Place

RESULT = Path(__file__).with_name("results") / "tail.md"
LAG, PAUSE = "monitorkit_event_loop_lag_seconds", "monitorkit_gc_pause_seconds"
SLOW_WRITES = "monitorkit_log_slow_writes_total"
SLICES = (*("alone",) * 3, "reload", "alone", "reload", "reload", "alone", "batches", "batches")
HEAD = """# The tail

Made by `python -m benchmarks.tail`, in which stands how. Lag is how late the event loop woke a task
that sleeps 10 ms (up to 1 ms is the timer's step), in milliseconds; pauses are those of Python's
garbage collector, full ones included. Each number counts what came in that slice alone. A slice
with a reload begins right after a promotion, which the service sees within ten seconds. The line
below each slice is of an event loop in another process that has nothing to do but to sleep 10 ms
(`benchmarks/bare_loop.py`): it is late when there is no processor for it. Slow writes are those to
the log that took more than 5 ms on the event loop; queued is for how long the service's main
thread could have run and stood in the kernel's run queue (`/proc/<pid>/schedstat`), and stolen for
how long the hypervisor gave a processor that was asked for to somebody else (`/proc/stat`, both
processors).
"""
TABLE = """
| slice | requests/s | p50 | p99 | p99.9 | lag <= 1 | <= 2 | <= 5 | <= 10 | <= 20 | more | pauses | longest | MiB | slow writes | queued ms | stolen ms |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""  # noqa: E501 - a table's head


@dataclass(frozen=True, slots=True)
class Seen:
    """Counts of /metrics.

    Attributes:
        counts: by name and upper bound (in all labels together).
        slow_writes: to the log.
    """

    counts: dict[tuple[str, str], float]
    slow_writes: int

    def between(self, earlier: Seen, name: str, low: float, high: float) -> int:
        """How many came since, above `low` and at most `high` seconds."""

        def until(bound: float) -> float:
            key = (name, "+Inf" if bound == float("inf") else str(bound))
            return self.counts.get(key, 0) - earlier.counts.get(key, 0)

        return round(until(high) - (until(low) if low else 0))


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tail", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each slice")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    model = "random_forest"
    lines = [HEAD, *(f"- {fact}" for fact in facts())]
    lines.append(f"- {model}, {RATE:,} requests/s over 64 connections, {given.seconds:g} s a slice")
    lines.append(TABLE)
    with tempfile.TemporaryDirectory(prefix="monitorkit-tail-") as name:
        place = Place(Path(name), given.seconds, Results())
        folder = place.folder / model
        servers.prepare(folder, model)
        monitorkit(folder, "train")
        service = servers.monitorkit(folder)
        many = place.bodies(service, model, BATCH_ROWS).rename(folder / "many.txt")
        bodies = place.bodies(service, model)
        with (
            servers.started(service, place.folder / "server.log") as running,
            bare_loop.started() as beside_it,
        ):
            time.sleep(service.settle)
            version = 1
            for number, what in enumerate(SLICES, 1):
                before, stolen = seen(running), stolen_seconds()
                _, queued = schedule(running.pid)
                beside_it.counts()
                beside: list[threading.Thread] = []
                if what == "reload":
                    version = 3 - version
                    monitorkit(folder, "promote", str(version))
                elif what == "batches":
                    beside.append(
                        threading.Thread(target=batches, args=(running, many, given.seconds))
                    )
                for thread in beside:
                    thread.start()
                url = running.address + service.path
                load = Load(64, RATE)
                measured = run(url, bodies, load, running.pid, seconds=given.seconds, drain=1)
                for thread in beside:
                    thread.join()
                counts = " | ".join(map(str, beside_it.counts()))
                waited = schedule(running.pid)[1] - queued, stolen_seconds() - stolen
                lines.append(row(what, measured, before, seen(running), memory(running), waited))
                lines.append(f"| a loop beside it | | | | | {counts} | | | | | | |")
                say(f"slice {number} of {len(SLICES)}:\n{lines[-2]}\n{lines[-1]}")
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def row(  # noqa: PLR0917 - as many columns
    what: str,
    measured: Measured,
    before: Seen,
    after: Seen,
    mebibytes: float,
    waited: tuple[float, float],
) -> str:
    """A row of the table."""
    bounds = (0, *bare_loop.BOUNDS, float("inf"))
    lags = [after.between(before, LAG, low, high) for low, high in pairwise(bounds)]
    steps = (0, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, float("inf"))
    pauses = after.between(before, PAUSE, 0, float("inf"))
    longest = [high for low, high in pairwise(steps) if after.between(before, PAUSE, low, high)]
    most = f"<= {longest[-1] * 1000:g}" if longest else "-"
    speed = f"{measured.per_second:,.0f} | {measured.p50:.2f} | {measured.p99:.2f}"
    counts = " | ".join(map(str, lags))
    tail = f"{measured.p999:.2f} | {counts} | {pauses} | {most} | {mebibytes:.0f}"
    waits = " | ".join(f"{seconds * 1000:.0f}" for seconds in waited)
    tail += f" | {after.slow_writes - before.slow_writes} | {waits}"
    return f"| {what} | {speed} | {tail} |"


def seen(running: Running) -> Seen:
    """What /metrics says now."""
    with urllib.request.urlopen(f"{running.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    counts: dict[tuple[str, str], float] = {}
    slow_writes = 0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (f"{LAG}_bucket", f"{PAUSE}_bucket"):
                key = (family.name, sample.labels["le"])
                counts[key] = counts.get(key, 0) + sample.value
            elif sample.name == SLOW_WRITES:
                slow_writes += int(sample.value)
    return Seen(counts, slow_writes)


def stolen_seconds() -> float:
    """For which processors were somebody else's since this machine started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def memory(running: Running) -> float:
    """MiB that the service's own process has resident."""
    return float(psutil.Process(running.pid).memory_info().rss) / 2**20


def monitorkit(folder: Path, *command: str) -> None:
    """Run a command of ours in a folder."""
    subprocess.run(
        [sys.executable, "-m", "monitorkit", *command], cwd=folder, check=True, capture_output=True
    )


def batches(running: Running, bodies: Path, seconds: float) -> None:
    """One client that sends batches one after the other."""
    url = f"{running.address}/predict/batch"
    run(url, bodies, Load(1), running.pid, seconds=seconds, drain=1)


if __name__ == "__main__":
    main()
