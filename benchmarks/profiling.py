"""Where the microseconds of a request go: `python -m benchmarks.profiling`.

Samples the service with py-spy (the thread that holds the interpreter) while wrk drives it with 32
connections, and shares the processor time of a request out among what the samples were in.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks import servers
from benchmarks.load import Load, run
from benchmarks.machine import facts
from benchmarks.report import Results
from benchmarks.servers import MODELS
from benchmarks.serving import Place

# The innermost frame that holds one of these says what a sample was in. py-spy's frames read
# `function (file:line)`.
WORK = {
    "uvicorn: the answer to the socket": ("send (uvicorn", "serving/protocol.py"),
    "validation: bytes to a row": ("read_row (", "schema.py", "read_json_body ("),
    "model: rows to scores": ("compiled.py", "forest.py", "engines.py", "matrix ("),
    "answers: id, time, label, JSON": (
        "predict (",
        "<listcomp> (monitorkit/serving/pipeline.py",
        "encode (",
        "labels (",
    ),
    "log: rows to lines": ("prediction_log/rows.py",),
    "log: lines to the file": ("prediction_log/", "aiofiles", "concurrent/futures"),
    "batches: futures and tasks": (
        *("batcher.py", "pipeline.py", "asyncio/futures", "asyncio/tasks"),
        *("metrics.py", "prometheus_client", "anyio"),
    ),
    "our edge": (
        *("serving/predict.py", "edge.py", "application.py"),
        *("request_ids.py", "traffic.py"),
    ),
    "Starlette": ("starlette/",),
    "uvicorn: bytes to a request": ("uvicorn/",),
    "event loop": ("runners.py", "uvloop"),
}


def main() -> None:
    """Profile, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--source", type=Path, help="a checkout of monitorkit to profile instead")
    given = parser.parse_args()
    environment = {"PYTHONPATH": str(given.source)} if given.source else {}
    with tempfile.TemporaryDirectory(prefix="monitorkit-profile-") as name:
        place = Place(Path(name), given.seconds, Results())
        folder = place.folder / given.model
        servers.prepare(folder, given.model)
        service = servers.monitorkit(folder)
        bodies = place.bodies(service, given.model)
        log = place.folder / "server.log"
        os.environ.update(environment)
        with servers.started(service, log) as running:
            time.sleep(service.settle)
            url = running.address + service.path
            load = Load(32)
            plain = run(url, bodies, load, running.pid, seconds=given.seconds, drain=1)
            samples = place.folder / "samples"
            command = [
                str(Path(sys.executable).with_name("py-spy")),
                "record",
                "--gil",
                "-f",
                "raw",
            ]
            command += ["-r", "250", "-d", str(given.seconds), "-o", str(samples)]
            with subprocess.Popen(
                [*command, "-p", str(running.pid)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ):
                run(url, bodies, load, running.pid, seconds=given.seconds + 1, drain=1)
            found = shares(samples.read_text(encoding="utf-8").splitlines())
    total = sum(found.values())
    lines = [f"- {fact}" for fact in facts()]
    speed = f"{plain.per_second:,.0f} requests/s, {plain.cpu:.0f} us of processor time for each"
    lines.append(f"- {given.model}, 32 connections: {speed}")
    lines += ["", "| what | us | share |", "|---|---:|---:|"]
    for what, count in found.most_common():
        lines.append(f"| {what} | {plain.cpu * count / total:.1f} | {count / total:.0%} |")
    sys.stdout.write("\n".join(lines) + "\n")


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
    return "anything else"


if __name__ == "__main__":
    main()
