"""What runs beside a service, and what it costs it: `python -m benchmarks.beside`, 20 minutes.

Drives the bare route and the service in turn, each alone, beside a process that only counts (as
nice as our workers), and beside monitoring cycles, one after the other over a million rows: those
of another service, which gets no requests, and of the service its own. So what the cycles of
another one cost is what two processors cannot give to three programs, and what its own cost beyond
that is the service's. At last the same service with its monitors in a thread (`in_thread.py`)
instead of a worker process.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from benchmarks import servers
from benchmarks.load import Load, Measured, find_wrk, run
from benchmarks.machine import facts, say
from benchmarks.report import BARE, OPEN, SOME, Results
from benchmarks.servers import MODELS, Running, Server
from benchmarks.serving import HISTORY_ROWS, Place, cycle, cycles, write_history
from monitorkit.worker import NICENESS

RESULT = Path(__file__).with_name("results") / "beside.md"
OURS = "monitorkit"
THREAD = "monitorkit, monitors in a thread"
ALONE, COUNTING, CYCLES = "nothing", "a process that counts", "its own cycles"
OTHERS = "another service's cycles"
ORDER = (ALONE, COUNTING, OTHERS, CYCLES)
HEAD = """# What runs beside it

Made by `python -m benchmarks.beside`, in which stands how. Medians of the turns; p50 and p99 in
milliseconds, p99 also as a multiple of that with nothing beside it, which was measured in the same
turn (median, lowest-highest). The last two columns are of the server's main thread, in seconds of a
processor for each second under load: for which it ran, and for which it could have run and stood in
the kernel's run queue (`/proc/<pid>/schedstat`).
"""
TABLE = """
| server | load | beside it | requests/s | p50 | p99 | p99 / alone | ran | queued |
|---|---|---|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Turn:
    """One load, and what the server's main thread did meanwhile: parts of a second a second."""

    measured: Measured
    ran: float
    queued: float


Turns = dict[tuple[str, Load, str], list[Turn]]
Beside = Mapping[str, Callable[[], AbstractContextManager[None]]]


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default=MODELS[1])
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    find_wrk()
    results = Results()
    with tempfile.TemporaryDirectory(prefix="monitorkit-beside-") as name:
        place = Place(Path(name), given.seconds, results)
        folder = place.folder / given.model
        servers.prepare(folder, given.model)
        write_history(place, given.model)
        shutil.copytree(folder, place.folder / "other")
        turns = measure(place, given.model, given.turns)
    lines = [HEAD, *(f"- {fact}" for fact in facts())]
    lines.append(f"- {given.model}, {given.turns} turns of {given.seconds:g} s")
    lines.append(f"- {sum(results.cycles):,} cycles over {HISTORY_ROWS:,} rows and more")
    text = "\n".join([*lines, TABLE, *table(turns)]) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def measure(place: Place, model: str, turns: int) -> Turns:
    """Every server with every load beside everything, again and again."""
    found: Turns = defaultdict(list)
    bare, ours, other = (
        servers.bare("validated"),
        servers.monitorkit(place.folder / model),
        servers.monitorkit(place.folder / "other"),
    )
    bodies = place.bodies(ours, model)

    def take_turns(running: Mapping[str, tuple[Running, str, Beside]]) -> None:
        for number in range(-1, turns):
            for (server, (there, path, beside)), load in product(running.items(), (SOME, OPEN)):
                order = list(beside.items())
                for what, begun in order if number % 2 else reversed(order):
                    with begun():
                        turn = driven(there, there.address + path, bodies, load, place.seconds)
                    if number >= 0:  # the first turn warms up
                        found[server, load, what].append(turn)
                        say(f"{number}, {server}, {load}, {what}: p99 {turn.measured.p99:.2f} ms")

    def of(service: Running) -> Callable[[], AbstractContextManager[None]]:
        cycle(service.address)  # the first one reads the million rows
        return lambda: cycles(service.address, place.results)

    with (
        servers.started(bare, place.folder / "bare.log") as its,
        servers.started(ours, place.folder / "ours.log") as service,
        servers.started(other, place.folder / "other.log") as another,
    ):
        time.sleep(ours.settle)
        beside: Beside = {ALONE: nullcontext, COUNTING: counting, OTHERS: of(another)}
        own: Beside = {**beside, CYCLES: of(service)}
        take_turns({BARE: (its, bare.path, beside), OURS: (service, ours.path, own)})
    with servers.started(in_thread(ours), place.folder / "thread.log") as service:
        time.sleep(ours.settle)
        own = {ALONE: nullcontext, CYCLES: of(service)}
        take_turns({THREAD: (service, ours.path, own)})
    return found


def in_thread(ours: Server) -> Server:
    """The service, started so that its monitors are in a thread."""
    command = ["benchmarks.in_thread" if part == "monitorkit" else part for part in ours.command]
    environment = {**ours.environment, "PYTHONPATH": str(Path(__file__).parents[1])}
    return replace(ours, name=THREAD, command=tuple(command), environment=environment)


def driven(running: Running, url: str, bodies: Path, load: Load, seconds: float) -> Turn:
    """Send one load."""
    before, started = schedule(running.pid), time.perf_counter()
    measured = run(url, bodies, load, running.pid, seconds=seconds, drain=1)
    took = time.perf_counter() - started
    ran, queued = (after - then for after, then in zip(schedule(running.pid), before, strict=True))
    return Turn(measured, ran / took, queued / took)


def schedule(pid: int) -> tuple[float, float]:
    """Seconds for which a process's main thread ran, and for which it waited for a processor."""
    ran, queued, _ = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
    return int(ran) / 1e9, int(queued) / 1e9


@contextmanager
def counting() -> Iterator[None]:
    """A process that touches no memory and no file, at the niceness of our workers."""
    script = f"import os\nos.nice({NICENESS})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def table(turns: Turns) -> list[str]:
    """Rows of the table: medians."""
    rows: list[str] = []
    names = list(dict.fromkeys(server for server, _, _ in turns))
    for server, load, what in product(names, (SOME, OPEN), ORDER):
        if not (found := turns.get((server, load, what))):
            continue
        middle = {
            name: statistics.median(getattr(turn.measured, name) for turn in found)
            for name in ("per_second", "p50", "p99")
        }
        pairs = zip(found, turns[server, load, ALONE], strict=True)
        ratios = [turn.measured.p99 / alone.measured.p99 for turn, alone in pairs]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        ran = statistics.median(turn.ran for turn in found)
        queued = statistics.median(turn.queued for turn in found)
        rows.append(
            f"| {server} | {load} | {what} | {middle['per_second']:,.0f} | {middle['p50']:.2f} | "
            f"{middle['p99']:.2f} | {'' if what == ALONE else spread} | {ran:.2f} | {queued:.3f} |"
        )
    return rows


if __name__ == "__main__":
    main()
