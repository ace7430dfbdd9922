"""Load from wrk, a generator that is not Python, and what a server's processes used meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """So many connections, with `rate` requests a second (0: as many as the server answers)."""

    connections: int
    rate: int = 0

    def __str__(self) -> str:
        word = "connection" if self.connections == 1 else "connections"
        open_loop = f", {self.rate:,}/s" if self.rate else ""
        return f"{self.connections} {word}{open_loop}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run found.

    Attributes:
        answers: with status 200, every one.
        per_second: requests answered a second.
        p50, p99, p999: milliseconds.
        cpu: microseconds of processor time for each request, over all processes of the server.
        memory: bytes (proportional set size) of all of them, at the end.
        wrong: answers that were no 200, and requests that got none.
    """

    answers: int
    per_second: float
    p50: float
    p99: float
    p999: float
    cpu: float
    memory: int
    wrong: int


def find_wrk() -> str:
    """Where wrk is.

    Raises:
        SystemExit: nowhere; says what to do.
    """
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit(
            "wrk, the load generator, is not installed: `apt-get install wrk` (Debian, Ubuntu) or "
            "`brew install wrk`."
        )
    return path


def run(
    url: str,
    bodies: Path,
    load: Load,
    server: int,
    *,
    seconds: float,
    drain: float,
    headers: Sequence[str] = (),
) -> Measured:
    """Drive a server.

    Args:
        url: of the endpoint.
        bodies: a file with one request body a line, sent in turn.
        load: connections and rate.
        server: its process id.
        seconds: for which requests are sent.
        drain: seconds in which what is under way at the end is answered.
        headers: of each request, `Name: value`.
    """
    command = [find_wrk(), "-t1", f"-c{load.connections}", f"-d{int(seconds + drain + 0.999)}s"]
    for header in headers:
        command += ["-H", header]
    command += ["--timeout", "120s", "-s", str(SCRIPT), url, "--", str(bodies), str(seconds)]
    before = _cpu_seconds(server)
    done = subprocess.run(
        [*command, str(load.rate)], check=True, capture_output=True, text=True, timeout=600
    )
    used = _cpu_seconds(server) - before
    found = json.loads(done.stdout.splitlines()[-1])
    answers = found["answers"] - found["wrong_status"]
    return Measured(
        answers=answers,
        per_second=answers / found["seconds"] if found["seconds"] else 0.0,
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        p999=found["p999"] / 1000,
        cpu=used / answers * 1e6 if answers else 0.0,
        memory=_memory(server),
        wrong=found["wrong_status"] + found["failed"],
    )


def _family(server: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(server)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(server: int) -> float:
    total = 0.0
    for process in _family(server):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _memory(server: int) -> int:
    total = 0
    for process in _family(server):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
