"""Requests a second, latency and cost of monitorkit and its peers, side by side on one machine.

`python -m benchmarks.serving` (about an hour; `--quick` takes some minutes) starts one server
after the other, drives each with wrk, and writes `benchmarks/results/serving.md`. Absolute numbers
depend on the machine and its neighbours; ratios are taken within a round, in which the servers that
are compared run right after each other, and the median round counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import servers
from benchmarks.histories import Material, append
from benchmarks.load import Load, find_wrk, run
from benchmarks.machine import say
from benchmarks.report import (
    BATCH,
    BATCH_ROWS,
    BETWEEN,
    CYCLES,
    FSYNC,
    MANY,
    ONE,
    OPEN,
    SOME,
    Results,
    report,
)
from benchmarks.servers import MODELS, Server
from monitorkit.schema import Feature, FeatureSchema

RESULT = Path(__file__).with_name("results") / "serving.md"
HISTORY_ROWS = 1_000_000
MIN_CYCLES = 2
"""Fewer beside a load are told of: it was hardly any."""

TURNS = 6
"""How often a round measures with cycles and without them on one service: every other time those
without come first."""


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is repeated")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each single run")
    parser.add_argument("--quick", action="store_true", help="one short round without peers")
    parser.add_argument("--output", type=Path, default=RESULT, help="the Markdown file to write")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(__file__).with_name(".environments"),
        help="where BentoML and LitServe are installed, each in its own virtual environment",
    )
    given = parser.parse_args()
    find_wrk()
    rounds, seconds = (1, 1.0) if given.quick else (given.rounds, given.seconds)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="monitorkit-benchmark-") as name:
        place = Place(Path(name), seconds, results)
        for model in MODELS:
            say(f"training {model}")
            servers.prepare(place.folder / model, model)
        for number in range(rounds):
            place.measure_all("-", servers.bare("nothing"), number)
            for model in MODELS:
                measure_ours(place, model, number)
                if not given.quick:
                    measure_peers(place, model, given.environments, number)
    text = report(results, rounds, seconds)
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(f"\n{text}")


class Place:
    """A folder with the trained models, and the bodies to send."""

    def __init__(self, folder: Path, seconds: float, results: Results) -> None:
        self.folder = folder
        self.seconds = seconds
        self.results = results

    def bodies(self, server: Server, model: str, batch: int = 0) -> Path:
        """A file with one request body a line: rows of the frozen reference."""
        target = self.folder / "bodies.txt"
        rows = list(self.rows(model if model in MODELS else MODELS[0]))
        if batch:
            many = (rows * (batch // len(rows) + 1))[:batch]
            target.write_text(f"[{','.join(many)}]\n", encoding="utf-8")
        else:
            target.write_text("".join(f"{server.body(row)}\n" for row in rows), encoding="utf-8")
        return target

    def rows(self, model: str) -> Iterator[str]:
        """2,000 rows of the reference as JSON objects."""
        for row in self.reference(model).head(2_000).itertuples(index=False):
            yield json.dumps(dict(zip(self.columns(model), map(_plain, row), strict=True)))

    def reference(self, model: str) -> pd.DataFrame:
        """The features of the frozen reference."""
        path = self.folder / model / "monitoring" / "reference" / "reference_data.csv"
        return pd.read_csv(path)[self.columns(model)]

    def columns(self, model: str) -> list[str]:
        """The model's features."""
        path = self.folder / model / "monitoring" / "reference" / "reference_metadata.json"
        names: list[str] = json.loads(path.read_text(encoding="utf-8"))["features"]
        return names

    def measure_all(
        self,
        model: str,
        server: Server,
        number: int,
        *,
        loads: tuple[Load, ...] = (ONE, SOME, MANY, OPEN),
        batch: int = 0,
    ) -> None:
        """Start a server, drive it with each load, and count the rows that it logged."""
        with self.driven(model, server, loads[0], batch) as driver:
            for load in loads:
                driver.drive(load, server.name, number)

    @contextmanager
    def driven(self, model: str, server: Server, first: Load, batch: int = 0) -> Iterator[Driver]:
        """A server that is warm from one load; at the end the rows that it logged are counted."""
        bodies = self.bodies(server, model, batch)
        before = server.rows() if server.rows is not None else 0
        with servers.started(server, self.folder / "server.log") as running:
            time.sleep(server.settle)
            driver = Driver(self, model, running, running.address + server.path, bodies)
            driver.warm_up(first)
            yield driver
        if server.rows is not None:
            missing = server.rows() - before - driver.answers * max(batch, 1)
            self.results.rows[server.name, model].append(missing)


@dataclass
class Driver:
    """Sends loads to a running server, and notes what came back.

    Attributes:
        place: its results take what is measured.
        model: that the server answers with.
        running: the server.
        url: to send to.
        bodies: to send.
        answers: so far, those to the warm-up among them.
        per_second: the most so far.
    """

    place: Place
    model: str
    running: servers.Running
    url: str
    bodies: Path
    answers: int = 0
    per_second: float = 0.0

    def warm_up(self, load: Load) -> None:
        """One second that is not measured."""
        found = run(self.url, self.bodies, load, self.running.pid, seconds=1.0, drain=2.0)
        self.answers += found.answers

    def drive(self, load: Load, name: str, number: int) -> None:
        """Send one load, and note what was measured under a server's name and a number."""
        if load.rate and self.per_second < load.rate:
            return  # it cannot keep up; an open loop would only grow its queue
        drain = 1.0 + load.connections / max(self.per_second, 20.0)
        seconds = self.place.seconds
        measured = run(self.url, self.bodies, load, self.running.pid, seconds=seconds, drain=drain)
        self.answers += measured.answers
        self.per_second = max(self.per_second, measured.per_second)
        results = self.place.results
        results.runs[name, self.model, load][number] = measured
        say(
            f"{number}, {self.model}, {name}, {load}: "
            f"{measured.per_second:,.0f}/s, p99 {measured.p99:.2f} ms"
        )
        if measured.wrong:
            results.notes.append(f"{name}, {self.model}, {load}: {measured.wrong} requests failed.")


def measure_ours(place: Place, model: str, number: int) -> None:
    """Our service in each of its settings, with the bare route right before it."""
    folder = place.folder / model
    place.measure_all(model, servers.bare("validated"), number)
    servers.forget(folder)
    place.measure_all(model, servers.monitorkit(folder), number)
    servers.forget(folder)
    batches = replace(servers.monitorkit(folder, name=BATCH), path="/predict/batch")
    place.measure_all(model, batches, number, loads=(ONE,), batch=BATCH_ROWS)
    servers.forget(folder)
    place.measure_all(
        model,
        servers.monitorkit(folder, durability="fsync", name=FSYNC),
        number,
        loads=(SOME, MANY),
    )
    servers.forget(folder)
    write_history(place, model)
    measure_cycles(place, model, number)
    servers.forget(folder)


def measure_cycles(place: Place, model: str, number: int) -> None:
    """One service with a million rows, in turn without cycles and with one after the other.

    The neighbours of a shared machine change within a minute: what is compared comes right after
    each other, several times, and each pair gives a ratio. A first cycle, that reads the million,
    is over by then.
    """
    server = servers.monitorkit(place.folder / model, name=BETWEEN)
    with place.driven(model, server, SOME) as driver:
        cycle(driver.running.address)
        for turn in range(TURNS):
            for load in (SOME, OPEN):
                for name in (BETWEEN, CYCLES) if turn % 2 == 0 else (CYCLES, BETWEEN):
                    beside = cycles(driver.running.address, place.results)
                    with beside if name == CYCLES else nullcontext():
                        driver.drive(load, name, number * TURNS + turn)


def measure_peers(place: Place, model: str, environments: Path, number: int) -> None:
    """The others, with every load in the first round: they are far away."""
    folder = place.folder / model
    peers = [servers.mlflow_serve(folder), servers.pandas_append(folder)]
    for package, make in (("bentoml", servers.bentoml), ("litserve", servers.litserve)):
        found = servers.environment_for(package, environments.resolve())
        if isinstance(found, Path):
            peers.append(make(folder, found))
        elif model == MODELS[0] and number == 0:
            place.results.notes.append(f"{package} did not install: {found}")
    for peer in peers:
        try:
            place.measure_all(
                model, peer, number, loads=(SOME,) if number else (ONE, SOME, MANY, OPEN)
            )
        except RuntimeError as error:
            say(str(error))
            place.results.notes.append(f"{peer.name}, {model}: it did not start.")


def write_history(place: Place, model: str) -> None:
    """A prediction log of a million rows, spread over the last hour."""
    schema = FeatureSchema(tuple(Feature(name) for name in place.columns(model)))
    known = place.reference(model).to_numpy(np.float64)
    material = Material.of(schema, known, np.arange(len(known)) % 997 / 997)
    folder = place.folder / model / "monitoring" / "predictions"
    hour = timedelta(hours=1)
    append(folder, material, HISTORY_ROWS, datetime.now(UTC) - hour, hour)


def cycle(address: str) -> str:
    """Force a monitoring cycle, after the service's own if one is under way; its status."""
    request = urllib.request.Request(f"{address}/monitoring/run", method="POST")
    while True:
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                status: str = json.load(answer)["status"]
                return status
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.CONFLICT:
                return f"status {error.code}"
            time.sleep(0.2)


@contextmanager
def cycles(address: str, results: Results) -> Iterator[None]:
    """Force one monitoring cycle after the other; the last one ends before this does."""
    done = threading.Event()
    ended: list[str] = []

    def force() -> None:
        while not done.is_set():
            try:
                ended.append(cycle(address))
            except OSError as error:
                ended.append(str(error))
                done.wait(0.2)

    thread = threading.Thread(target=force)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        results.cycles.append(ended.count("completed"))
        others = sorted({each for each in ended if each != "completed"})
        if others or len(ended) < MIN_CYCLES:
            told = (
                f"{len(ended)} cycles ran beside a load; not completed: {', '.join(others) or '-'}."
            )
            results.notes.append(told)


def _plain(value: float) -> float | int | None:
    number = float(value)
    if number != number:  # noqa: PLR0124 - missing
        return None
    return int(number) if number.is_integer() else number


if __name__ == "__main__":
    main()
