"""What can stop the event loop for a while, and what is done about it: seen, it is a metric.

A full garbage collection over the heap of scikit-learn, pandas and their like takes 65 ms, in which
nobody is answered. What start-up and a reload leave behind stays until the end, so it is frozen: no
collection looks at it. What requests make dies by itself; only cycles wait for a collection.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import anyio

from monitorkit.serving.metrics import Metrics

SWITCH_SECONDS = 0.0005
"""How long another thread may keep the interpreter when the event loop wants it; Python's own 5 ms
would be a stall each time that a thread reads a batch."""

THRESHOLDS = (2_000, 5, 1_000)
"""A young collection each 2,000 net allocations (0.3 ms), a middle one each 10,000 (1.5 ms); a full
one is for cycles that have lived long, which requests do not make."""

EVERY_SECONDS = 0.01


def settle() -> None:
    """Free what is garbage, and let no later collection look at what is there now."""
    gc.collect()
    gc.freeze()


@contextmanager
def tuned(metrics: Metrics) -> Iterator[None]:
    """Set the collector and the switch interval for a service, and measure each collection."""
    started = 0.0

    def watch(phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        nonlocal started
        if phase == "start":
            started = time.perf_counter()
        else:
            generation = str(info["generation"])
            metrics.collections.labels(generation).observe(time.perf_counter() - started)

    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(watch)
    try:
        yield
    finally:
        gc.callbacks.remove(watch)
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)


async def measure_lag(metrics: Metrics) -> None:
    """Note how late the event loop wakes a task that sleeps, until cancelled.

    A stall of twice `EVERY_SECONDS` is always seen, a shorter one as often as it is long. uvloop
    counts whole milliseconds, so up to 1 ms is no lag.
    """
    while True:
        due = time.perf_counter() + EVERY_SECONDS
        await anyio.sleep(EVERY_SECONDS)
        metrics.lag.observe(max(0.0, time.perf_counter() - due))
