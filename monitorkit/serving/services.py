"""What the routes work with, in one typed value that the composition root fills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from monitorkit.config import Config
from monitorkit.contracts import MonitoringStatus, RunResult, Skipped
from monitorkit.prediction_log import Writer
from monitorkit.results import Results
from monitorkit.serving.disk import Disk
from monitorkit.serving.metrics import Metrics
from monitorkit.serving.pipeline import Pipeline
from monitorkit.serving.served import Slot
from monitorkit.worker import Worker


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the HTTP edge.

    Attributes:
        config: the whole configuration.
        slot: what is served now, if anything.
        pipeline: answers rows.
        writer: the prediction log, for its state.
        metrics: what /metrics shows.
        disk: its free space, and what takes it.
        results: committed monitoring results.
        parquet: the process that reads Parquet bodies.
        monitoring_status: what the service knows of its monitoring, without reading anything.
        force_cycle: runs a cycle now; the argument asks for HTML reports.
        started_at: UTC.
    """

    config: Config
    slot: Slot
    pipeline: Pipeline
    writer: Writer
    metrics: Metrics
    disk: Disk
    results: Results
    parquet: Worker
    monitoring_status: Callable[[], MonitoringStatus]
    force_cycle: Callable[[bool], Awaitable[RunResult | Skipped]]
    started_at: datetime
