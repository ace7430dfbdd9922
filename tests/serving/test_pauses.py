"""The event loop's lag and the collector's pauses are measured; settings end with the service."""

from __future__ import annotations

import asyncio
import gc
import sys
import time

from prometheus_client.parser import text_string_to_metric_families

from monitorkit.serving import pauses
from monitorkit.serving.metrics import Metrics


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    body, _ = metrics.render("")
    return next(
        sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


async def test_a_stall_of_the_event_loop_is_seen() -> None:
    metrics = Metrics()
    task = asyncio.create_task(pauses.measure(metrics, pauses.Pauses()))
    await asyncio.sleep(0.05)
    time.sleep(0.1)  # noqa: ASYNC251 - the stall
    await asyncio.sleep(0.05)
    task.cancel()
    lag = "monitorkit_event_loop_lag_seconds"
    late = sample(metrics, f"{lag}_bucket", le="0.05")
    assert sample(metrics, f"{lag}_count") - late >= 1
    assert sample(metrics, f"{lag}_sum") >= 0.05


def test_collections_are_measured_and_settings_end_with_the_service() -> None:
    interval, thresholds, callbacks = sys.getswitchinterval(), gc.get_threshold(), [*gc.callbacks]
    metrics = Metrics()
    with pauses.tuned() as watched:
        assert gc.get_threshold() == pauses.THRESHOLDS
        assert sys.getswitchinterval() < interval
        gc.collect()
    watched.tell(metrics)
    assert sample(metrics, "monitorkit_gc_pause_seconds_count", generation="2") == 1
    assert (sys.getswitchinterval(), gc.get_threshold(), gc.callbacks) == (
        interval,
        thresholds,
        callbacks,
    )


def test_what_is_settled_is_looked_at_by_no_collection() -> None:
    try:
        before = gc.get_freeze_count()
        kept = [[] for _ in range(1000)]  # type: ignore[var-annotated] # any objects will do
        pauses.settle()
        assert gc.get_freeze_count() >= before + len(kept)
    finally:
        gc.unfreeze()
