"""What can stop the event loop for a while, and what is done about it: seen, it is a metric.

A full garbage collection over the heap of scikit-learn, pandas and their like takes 65 ms, in which
nobody is answered. What start-up and a reload leave behind stays until the end, so it is frozen: no
collection looks at it. What requests make dies by itself; only cycles wait for a collection.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from monitorkit.serving.metrics import Metrics

SWITCH_SECONDS = 0.0001
"""How long another thread may keep the interpreter when the event loop wants it: Python's own 5 ms
would be a stall each time that a thread reads a batch."""

THRESHOLDS = (2_000, 5, 1_000)
"""A young collection each 2,000 net allocations (0.3 ms), a middle one each 10,000 (1.5 ms); a full
one is for cycles that have lived long, which requests do not make."""

EVERY_SECONDS = 0.01


def settle() -> None:
    """Free what is garbage, and let no later collection look at what is there now."""
    gc.collect()
    gc.freeze()


class Pauses:
    """How long garbage collections took.

    A collection may begin anywhere, in the middle of a metric that is being read, too. So what it
    leaves is only kept here, and given to the metrics by `measure`.
    """

    def __init__(self) -> None:
        self._started = 0.0
        self._kept: deque[tuple[int, float]] = deque(maxlen=1000)

    def watch(self, phase: str, info: dict[str, int]) -> None:
        """For `gc.callbacks`."""
        if phase == "start":
            self._started = time.perf_counter()
        else:
            self._kept.append((info["generation"], time.perf_counter() - self._started))

    def tell(self, metrics: Metrics) -> None:
        """Give away what was kept."""
        while self._kept:
            generation, seconds = self._kept.popleft()
            metrics.collections.labels(str(generation)).observe(seconds)


@contextmanager
def tuned() -> Iterator[Pauses]:
    """Set the collector and the switch interval for a service, and watch collections."""
    pauses = Pauses()
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(pauses.watch)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(pauses.watch)
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)


async def measure(metrics: Metrics, pauses: Pauses) -> None:
    """Note how late the event loop wakes a task that sleeps, and collections, until cancelled.

    A stall of twice `EVERY_SECONDS` is always seen, a shorter one as often as it is long. uvloop
    counts whole milliseconds, so up to 1 ms is no lag.
    """
    while True:
        due = time.perf_counter() + EVERY_SECONDS
        await anyio.sleep(EVERY_SECONDS)
        metrics.lag.observe(max(0.0, time.perf_counter() - due))
        pauses.tell(metrics)
