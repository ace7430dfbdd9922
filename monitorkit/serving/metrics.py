"""What /metrics shows: names, units, buckets; counts are read where they are kept, when asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from monitorkit.serving.state_metrics import State
from monitorkit.serving.traffic import Traffic

if TYPE_CHECKING:
    from monitorkit.serving.services import Services

_LAG = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_COLLECTION = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_BATCH_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Metrics:
    """The metrics of one service, in a registry of its own.

    Attributes:
        lag: seconds by which the event loop was late.
        collections: seconds of each garbage collection, by generation.
        batch_rows: rows predicted and logged at once.
        batch_seconds: from the first row of a batch to its place in the log.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._state: State | None = None
        self.lag = Histogram(
            "monitorkit_event_loop_lag_seconds",
            "How late the event loop woke a sleeping task (up to 0.001 is the timer's own step).",
            buckets=_LAG,
            registry=self._registry,
        )
        self.collections = Histogram(
            "monitorkit_gc_pause_seconds",
            "How long each garbage collection stopped everything.",
            ("generation",),
            buckets=_COLLECTION,
            registry=self._registry,
        )
        self.batch_rows = Histogram(
            "monitorkit_batch_rows",
            "Rows that were predicted and logged at once.",
            buckets=_BATCH_ROWS,
            registry=self._registry,
        )
        self.batch_seconds = Histogram(
            "monitorkit_batch_duration_seconds",
            "Predicting a batch and writing it to the log.",
            buckets=_BATCH_SECONDS,
            registry=self._registry,
        )

    def watch(self, services: Services, traffic: Traffic) -> None:
        """Read the counts of a service, too, each time that somebody asks."""
        self._state = State(services)
        for collector in (traffic, _Counts(services), self._state):
            self._registry.register(collector)

    async def look(self) -> None:
        """See to it that what is shown of the disk is what is there now; before `render`."""
        if self._state is not None:
            await self._state.look()

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text of all metrics, in the newest format that a scraper accepts.

        Args:
            accept: the Accept header.

        Returns:
            The body, and its media type.
        """
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # it compares the version that is asked for with numbers
            encode, media_type = choose_encoder("")
        body: bytes = encode(self._registry)
        return body, media_type


class _Counts(Collector):
    """Counts that the pipeline and the log keep anyway."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        batcher, writer = self._services.pipeline.batcher, self._services.writer
        rows = CounterMetricFamily(
            "monitorkit_rows",
            "Rows by what became of them: answered; answered, but the client had left (late); "
            "left before they were begun (dropped); refused because too many waited (refused); not "
            "answered because the model or the log failed (failed).",
            labels=["outcome"],
        )
        rows.add_metric(["answered"], batcher.answered_rows)
        rows.add_metric(["late"], batcher.late_rows)
        rows.add_metric(["dropped"], batcher.dropped_rows)
        rows.add_metric(["refused"], batcher.refused_rows)
        rows.add_metric(["failed"], batcher.failed_rows)
        yield rows
        yield CounterMetricFamily(
            "monitorkit_predictions_served",
            "Rows that were predicted and given back for their answers, since the start.",
            batcher.served_rows,
        )
        yield CounterMetricFamily(
            "monitorkit_predictions_logged",
            "Rows that were appended to the prediction log, since the start.",
            writer.logged_rows,
        )
        yield GaugeMetricFamily(
            "monitorkit_waiting_rows", "Rows that wait for their batch.", batcher.waiting_rows
        )
        yield GaugeMetricFamily(
            "monitorkit_logged_rows",
            "Rows in all segments of the prediction log that this instance wrote.",
            writer.rows,
        )
        yield CounterMetricFamily(
            "monitorkit_log_slow_writes",
            "Writes that held up the event loop for more than 5 ms; others then go to a thread.",
            writer.slow_writes,
        )
        yield GaugeMetricFamily(
            "monitorkit_log_failing",
            "1 while the prediction log cannot be written, else 0.",
            float(writer.failure is not None),
        )
        yield from self._disk()
        yield GaugeMetricFamily(
            "monitorkit_start_time_seconds",
            "When the service started, in Unix time.",
            self._services.started_at.timestamp(),
        )

    def _disk(self) -> Iterator[Metric]:
        disk = self._services.disk
        sizes = GaugeMetricFamily(
            "monitorkit_disk_bytes",
            "Bytes of the files that are kept, by what they are; at most half a minute old.",
            labels=["what"],
        )
        for what, size in disk.sizes.items():
            sizes.add_metric([what], size)
        yield sizes
        if disk.free is not None:
            yield GaugeMetricFamily(
                "monitorkit_disk_free_bytes",
                "Bytes that may still be written to the disk of [storage] root.",
                disk.free,
            )
        yield GaugeMetricFamily(
            "monitorkit_disk_almost_full",
            "1 while less than [storage] disk_warning is free, else 0.",
            float(disk.almost_full),
        )
