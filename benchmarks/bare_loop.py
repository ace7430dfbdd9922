"""An event loop with nothing to do, beside a service: how late it is, is the machine's.

`python -m benchmarks.bare_loop` sleeps as the service's own measure does
(`monitorkit.serving.pauses.measure`), and answers each line that it reads with how often it woke so
late since the last one: a JSON array of counts, one for each of `BOUNDS` and one for more.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from monitorkit.serving.pauses import EVERY_SECONDS

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Seconds."""


class BareLoop:
    """A running one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def counts(self) -> list[int]:
        """How often it woke so late since it was asked before."""
        asked, answers = self._process.stdin, self._process.stdout
        if asked is None or answers is None:
            raise RuntimeError("it was started without pipes")
        asked.write("\n")
        asked.flush()
        counts: list[int] = json.loads(answers.readline())
        return counts


@contextmanager
def started() -> Iterator[BareLoop]:
    """A loop in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bare_loop"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        loop = BareLoop(process)
        loop.counts()  # it runs
        yield loop  # it ends with its stdin


async def measure() -> None:
    """Sleep, count, and answer until stdin ends."""
    counts = [0] * (len(BOUNDS) + 1)
    ended = asyncio.Event()

    def answer() -> None:
        if not sys.stdin.readline():
            ended.set()
            return
        sys.stdout.write(f"{json.dumps(counts)}\n")
        sys.stdout.flush()
        counts[:] = [0] * len(counts)

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), answer)
    while not ended.is_set():
        due = time.perf_counter() + EVERY_SECONDS
        await asyncio.sleep(EVERY_SECONDS)
        counts[bisect_left(BOUNDS, time.perf_counter() - due)] += 1


if __name__ == "__main__":
    uvloop.run(measure())
