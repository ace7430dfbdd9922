"""Results of many cycles, made by the real monitors of rows that are drawn from a reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from monitorkit_plugins.anytime_drift import AnytimeDrift, AnytimeDriftOptions
from monitorkit_plugins.proxy_metrics import ProxyMetrics, ProxyOptions

from monitorkit.contracts import (
    Bucket,
    Chunk,
    Finding,
    Monitor,
    Outcome,
    RunResult,
    Status,
    Timeline,
    Window,
)
from monitorkit.monitoring.cycle import summarise_drift
from monitorkit.results import Results, encode, new_run_id

LOOKBACK = timedelta(hours=24)
Change = Callable[[int, Chunk], Chunk]


def unchanged(_: int, chunk: Chunk) -> Chunk:
    return chunk


def drawn(reference: Chunk, rows: int, seed: int) -> Chunk:
    """Rows of a reference, as quiet traffic would bring them."""
    chosen = np.random.default_rng(seed).integers(0, len(reference), rows)
    return reference.take(chosen)


def make_history(
    reference: Chunk,
    cycles: int,
    *,
    last: datetime,
    rows: int | Sequence[int] = 200,
    step: timedelta = timedelta(minutes=5),
    change: Change = unchanged,
    version: Callable[[int], str] = lambda _: "1",
    seed: int = 0,
    before: int = 0,
    looks: Sequence[int] | None = None,
) -> list[RunResult]:
    """One result for each cycle, oldest first, with `proxy-metrics` and `feature-drift`.

    Args:
        reference: the frozen rows.
        cycles: how many.
        last: when the last one is.
        rows: of each.
        step: from one to the next.
        change: what happens to the rows of a cycle.
        version: of the model in a cycle.
        seed: of chance.
        before: buckets of rows before the first cycle.
        looks: the cycles that there are; all when not given.
    """
    judges: dict[str, tuple[str, Monitor[Any, Any]]] = {
        "proxy-metrics": ("proxy_metrics", ProxyMetrics(ProxyOptions(), reference)),
        "feature-drift": ("anytime_drift", AnytimeDrift(AnytimeDriftOptions(), reference)),
    }
    found: list[RunResult] = []
    previous: dict[str, Sequence[Finding]] = dict.fromkeys(judges, ())
    buckets: dict[str, list[Bucket[Any]]] = {name: [] for name in judges}
    last -= timedelta(seconds=last.timestamp() % step.total_seconds())  # starts lie on a grid
    for number in range(-before, cycles):
        now = last - step * (cycles - 1 - number)
        size = rows if isinstance(rows, int) else rows[number % len(rows)]
        chunk = change(number, drawn(reference, size, seed * 1_000_003 + number + before))
        for name, (_, monitor) in judges.items():
            bucket = Bucket(now - step, len(chunk), monitor.summarise(chunk), step)
            kept = [b for b in buckets[name] if b.start >= now - LOOKBACK]
            buckets[name] = [*kept, bucket]
        if number < 0 or (looks is not None and number not in looks):
            continue
        outcomes = []
        for name, (kind, monitor) in judges.items():
            timeline = Timeline(
                buckets[name], now, monitor.merge, bucket=step, since=now - LOOKBACK
            )
            previous[name] = monitor.judge(timeline, previous[name]).findings
            status: Status = "drift" if any(f.drift for f in previous[name]) else "ok"
            outcomes.append(Outcome(name, kind, status, tuple(previous[name]), 0.04))
        seen = buckets["feature-drift"]
        found.append(
            RunResult(
                run_id=new_run_id(now, found[-1].run_id if found else None),
                trigger="periodic",
                started_at=now,
                finished_at=now + timedelta(seconds=1.2),
                model_name="credit-risk-model",
                window=Window(
                    rows=sum(b.rows for b in seen),
                    first=seen[0].start,
                    last=now,
                    model_version=version(number),
                    lookback_seconds=LOOKBACK.total_seconds(),
                ),
                min_rows=200,
                reference_hash="ab" * 32,
                cursor={},
                drift=summarise_drift(outcomes, "feature-drift", 0.5),
                outcomes=outcomes,
            )
        )
    return found


def copies(results: Results, result: RunResult, count: int, *, before: datetime) -> None:
    """The same result many times as files, one every five minutes, the last one before a time."""
    results.folder.mkdir(parents=True, exist_ok=True)
    document = encode(result)
    stamp = re.compile(rb'"(started_at|finished_at)": "[^"]+"')
    for number in range(count):
        at = (before - timedelta(minutes=5) * (number + 1)).astimezone(UTC)
        run_id = new_run_id(at)
        text = f"{at.isoformat(timespec='microseconds').replace('+00:00', 'Z')}".encode()
        copy = stamp.sub(rb'"\1": "%b"' % text, document)
        copy = copy.replace(result.run_id.encode(), run_id.encode(), 1)
        (results.folder / f"{run_id}.json").write_bytes(copy)
