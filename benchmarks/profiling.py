"""Where the microseconds of a request go: `python -m benchmarks.profiling`, five minutes.

Samples with py-spy the thread that holds the interpreter, while wrk drives the service with 32
connections that send single rows, and then with one that sends batches of 10,000. What a request
takes of a processor beyond that is without the interpreter: trees, sorting, system calls.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import servers
from benchmarks.load import Load, Measured, run
from benchmarks.machine import facts, say
from benchmarks.report import BATCH_ROWS, ONE, SOME, Results
from benchmarks.servers import MODELS
from benchmarks.serving import Place

RESULT = Path(__file__).with_name("results") / "profile.md"
SPY = Path(sys.executable).with_name("py-spy")
RATE = 200  # samples a second

# The innermost frame that holds one of these says what a sample was in. py-spy's frames read
# `function (file:line)`.
WORK = {
    "uvicorn: the answer to the socket": ("send (uvicorn", "serving/protocol.py"),
    "validation: bytes to rows": ("read_row", "_read_in_pieces (", "schema.py", "read_json_body ("),
    "model: rows to scores": ("compiled.py", "forest.py", "engines.py", "matrix ("),
    "answers: id, time, label, JSON": (
        "predict (",
        "<listcomp> (monitorkit/serving/pipeline.py",
        "encode",
        "labels (",
    ),
    "log: rows to lines": ("prediction_log/rows.py",),
    "log: lines to the file": ("prediction_log/", "aiofiles", "concurrent/futures"),
    "batches: futures and tasks": (
        *("batcher.py", "pipeline.py", "asyncio/futures", "asyncio/tasks"),
        *("metrics.py", "prometheus_client", "anyio"),
    ),
    "our edge": (
        *(
            "serving/predict.py",
            "serving/scoring.py",
            "serving/answering.py",
            "serving/requests.py",
        ),
        *("edge.py", "application.py", "request_ids.py", "traffic.py"),
    ),
    "Starlette": ("starlette/",),
    "uvicorn: bytes to a request": ("uvicorn/",),
    "event loop": ("runners.py", "uvloop"),
}
ELSE = "anything else"
WITHOUT = "without the interpreter: trees, arrays, system calls"
HEAD = f"""# Processor time of a request

Made by `python -m benchmarks.profiling`: for how long the interpreter was held for what, by
py-spy's samples ({RATE} a second), and what a request takes of a processor beyond that.
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """Of a model and a kind of request.

    Attributes:
        measured: without py-spy.
        held: seconds of the interpreter for each request, by kind of work.
        cpu: seconds of a processor for each request, in the same run.
    """

    measured: Measured
    held: dict[str, float]
    cpu: float


def main() -> None:
    """Profile, and write a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("--model", choices=MODELS, help="this one only")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--source", type=Path, help="a checkout of monitorkit to profile instead")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    if not SPY.exists():
        raise SystemExit("py-spy, the profiler, is not installed here: `tox -e profile` has it.")
    models = (given.model,) if given.model else MODELS
    if given.source:
        os.environ["PYTHONPATH"] = str(given.source)
    single: dict[str, Profile] = {}
    batch: dict[str, Profile] = {}
    with tempfile.TemporaryDirectory(prefix="monitorkit-profile-") as name:
        place = Place(Path(name), given.seconds, Results())
        for model in models:
            servers.prepare(place.folder / model, model)
            single[model] = profiled(place, model, SOME)
            batch[model] = profiled(place, model, ONE, BATCH_ROWS)
    lines = [HEAD, *(f"- {fact}" for fact in facts()), f"- {given.seconds} s of load, twice each"]
    lines += ["", f"## Single rows, {SOME}: us a request", *table(single, 1e6)]
    lines += ["", f"## Batches of {BATCH_ROWS:,} rows, {ONE}: ms a request", *table(batch, 1e3)]
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def profiled(place: Place, model: str, load: Load, batch: int = 0) -> Profile:
    """One service under one load: without py-spy, then with it."""
    service = servers.monitorkit(place.folder / model)
    if batch:
        service = replace(service, path="/predict/batch")
    bodies = place.bodies(service, model, batch)
    with servers.started(service, place.folder / "server.log") as running:
        time.sleep(service.settle)
        url = running.address + service.path
        run(url, bodies, load, running.pid, seconds=1, drain=1)
        plain = run(url, bodies, load, running.pid, seconds=place.seconds, drain=1)
        samples = place.folder / "samples"
        command = [str(SPY), "record", "--gil", "-f", "raw"]
        command += ["-r", str(RATE), "-d", str(int(place.seconds)), "-o", str(samples)]
        with subprocess.Popen(
            [*command, "-p", str(running.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ):
            spied = run(url, bodies, load, running.pid, seconds=place.seconds + 1, drain=1)
    say(f"{model}, {batch or 1} row(s) a request: {plain.cpu:,.0f} us")
    found = shares(samples.read_text(encoding="utf-8").splitlines())
    requests = place.seconds * spied.per_second
    held = {kind: count / RATE / requests for kind, count in found.items()}
    return Profile(plain, held, spied.cpu / 1e6)


def table(profiles: dict[str, Profile], unit: float) -> list[str]:
    """Kinds of work by model.

    Args:
        profiles: by model.
        unit: so many are a second.
    """

    def line(what: str, seconds: Iterable[float]) -> str:
        return f"| {what} | {' | '.join(f'{each * unit:.1f}' for each in seconds)} |"

    every = profiles.values()
    speeds = " | ".join(f"{each.measured.per_second:,.1f}" for each in every)
    kinds = [kind for kind in (*WORK, ELSE) if any(each.held.get(kind) for each in every)]
    return [
        "",
        f"| what | {' | '.join(profiles)} |",
        f"|---|{'---:|' * len(profiles)}",
        *(line(kind, (each.held.get(kind, 0.0) for each in every)) for kind in kinds),
        line(WITHOUT, (each.cpu - sum(each.held.values()) for each in every)),
        line("all together", (each.cpu for each in every)),
        f"| requests/s, without py-spy | {speeds} |",
    ]


def shares(stacks: list[str]) -> Counter[str]:
    """How many samples were in which kind of work."""
    found: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        found[work_of(stack.split(";"))] += int(count)
    return found


def work_of(frames: list[str]) -> str:
    """What a stack, outermost frame first, was in."""
    for frame in reversed(frames):
        for what, parts in WORK.items():
            if any(part in frame for part in parts):
                return what
    return ELSE


if __name__ == "__main__":
    main()
