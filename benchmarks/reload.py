"""How late the event loop is at each step of a reload: `python -m benchmarks.reload`, two minutes.

The steps of `monitorkit.serving.reloader`, one after the other as the service takes them, beside a
loop that wakes each millisecond; no requests, no MLflow. Run as root it takes real-time priority
while it measures: then what is seen is the interpreter's lock, and no queue for a processor.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from anyio import to_thread

from benchmarks import servers
from benchmarks.machine import facts, say
from benchmarks.servers import MODELS
from monitorkit import model, reference
from monitorkit.config import Config
from monitorkit.serving import candidate, pauses
from monitorkit.serving.served import Served
from monitorkit.worker import Worker

RESULT = Path(__file__).with_name("results") / "reload.md"
TRUSTED = Config().registry.trust
LARGE = "random_forest, 60 full trees"
STALL = 5.0  # milliseconds
HEAD = """# A reload, step by step

Made by `python -m benchmarks.reload`, in which stands how. For each step of a reload, milliseconds:
how long it took (median), how late a task was that sleeps 1 ms beside it, at worst (the median of
all reloads, and the largest), and how many of its wakes in all reloads were more than 5 ms late.
"""
TABLE = """
| model | step | took | worst lateness | of all reloads | > 5 ms |
|---|---|---:|---:|---:|---:|"""


@dataclass
class Ticks:
    """When a task woke that sleeps 1 ms, how late, and when each step began and ended."""

    wakes: list[tuple[float, float]] = field(default_factory=list)
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    worst: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    stalls: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            due = time.perf_counter() + 0.001
            await anyio.sleep(0.001)
            now = time.perf_counter()
            self.wakes.append((now, (now - due) * 1000))

    @contextmanager
    def step(self, name: str) -> Iterator[list[float]]:
        """Note a step; its lateness once `seen` is called, for the loop may be late after it."""
        span = [time.perf_counter()]
        yield span
        span.append(time.perf_counter())
        self.took[name].append((span[1] - span[0]) * 1000)

    async def seen(self, name: str, span: list[float]) -> None:
        """Note how late the loop was from a step's beginning until now."""
        await anyio.sleep(0.01)
        late = [milliseconds for now, milliseconds in self.wakes if now >= span[0]]
        self.worst[name].append(max(late))
        self.stalls[name] += sum(milliseconds > STALL for milliseconds in late)
        self.wakes.clear()


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reload", description=__doc__)
    parser.add_argument("--reloads", type=int, default=15, help="of each model")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    lines = [
        HEAD,
        *(f"- {fact}" for fact in facts()),
        f"- {given.reloads} reloads",
        priority(),
        TABLE,
    ]
    with tempfile.TemporaryDirectory(prefix="monitorkit-reload-") as name:
        for kind in (*MODELS, LARGE):
            place = Path(name) / kind.split(",")[0]
            if kind == LARGE:
                grow(place)
            else:
                servers.prepare(place, kind)
            ticks = anyio.run(measure, place, given.reloads, backend_options={"use_uvloop": True})
            lines += rows(kind, ticks)
            say(f"{kind}: {lines[-4:]}")
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


async def measure(place: Path, reloads: int) -> Ticks:
    """Reload the model of a folder again and again."""
    ticks = Ticks()
    before = os.sched_getscheduler(0)
    if os.geteuid() == 0:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))  # threads inherit it
    read = partial(candidate.try_out, stored(place), TRUSTED, place / "monitoring" / "reference")

    async def step(name: str, call: Callable[[], Any]) -> Any:
        with ticks.step(name) as span:
            result = await to_thread.run_sync(call)
        await ticks.seen(name, span)
        return result

    slot = [Served.of(model.ready(await to_thread.run_sync(read)), {})]
    worker = Worker("benchmark")
    await to_thread.run_sync(worker.call, "starting", 60, gc.isenabled)
    with pauses.tuned():
        pauses.settle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ticks.run)
            for number in range(reloads + 1):
                await step("idle", partial(time.sleep, 1.0))
                tried = await step("tried out", partial(worker.call, "reading", 300, read))
                made = await step("engines", partial(model.ready, tried))
                slot.append(await step("validators", partial(Served.of, made, {})))
                del tried, made
                with ticks.step("swap") as span:
                    del slot[0]
                    pauses.settle()
                await ticks.seen("swap", span)
                if not number:  # the first one imports
                    ticks = forget(ticks)
            tasks.cancel_scope.cancel()
    await to_thread.run_sync(worker.close)
    os.sched_setscheduler(0, before, os.sched_param(0))
    return ticks


def priority() -> str:
    """What it is measured with."""
    return f"- {'real-time' if os.geteuid() == 0 else 'usual'} priority while it measures"


def forget(ticks: Ticks) -> Ticks:
    """The same ticks, of which nothing was seen."""
    for each in (ticks.took, ticks.worst, ticks.stalls):
        each.clear()
    return ticks


def rows(kind: str, ticks: Ticks) -> list[str]:
    """A model's rows of the table."""
    return [
        f"| {kind} | {name} | {statistics.median(ticks.took[name]):.1f} "
        f"| {statistics.median(late):.1f} | {max(late):.1f} | {ticks.stalls[name]} |"
        for name, late in ticks.worst.items()
    ]


def stored(place: Path) -> Path:
    """The folder of the model version that a folder's service would load."""
    return next((place / "monitoring" / "models").glob("*/1"))


def grow(place: Path) -> None:
    """Put a forest of 1.8 million nodes into the place of a folder's model."""
    import skops.io  # noqa: PLC0415 - with scikit-learn
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
    from sklearn.impute import SimpleImputer  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415

    random = np.random.default_rng(0)
    features = reference.load(place / "monitoring" / "reference").features
    many = np.tile(features, (12, 1))
    many *= random.normal(1, 0.05, many.shape)
    grown = make_pipeline(SimpleImputer(), RandomForestClassifier(60, random_state=0))
    grown.fit(many, (random.random(len(many)) < 0.3).astype(int))  # noise grows the largest trees
    folder = stored(place)
    skops.io.dump(grown, folder / model.MODEL_FILE)
    model.admit(folder, replace(model.read_card(folder), sha256=""), TRUSTED)


if __name__ == "__main__":
    main()
