"""What /metrics shows of readiness, the model, cycles, and what the newest result says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from monitorkit.contracts import MonitoringStatus, RunResult, Status, feature_verdicts
from monitorkit.errors import ResultsUnreadable
from monitorkit.results import Changes, Results
from monitorkit.serving import status
from monitorkit.serving.patient import Patient

if TYPE_CHECKING:
    from monitorkit.serving.services import Services

PATIENCE = 1.0
"""Seconds that a scrape waits for the disk; then it shows what was there before."""

STATUSES: tuple[Status, ...] = get_args(Status)


PARTIAL = 50
"""So many results without the verdict's monitor, of `--only` and `--skip`, are passed over."""


@dataclass(frozen=True, slots=True)
class Known:
    """What results say now.

    Attributes:
        newest: result; None: there is none.
        judged: the newest in which the verdict's monitor took part; None: there is none of late.
    """

    newest: RunResult | None = None
    judged: RunResult | None = None


class Newest:
    """The newest results in a folder, read once; for one thread at a time.

    Args:
        results: the folder, into which other processes write, too.
        monitor: that of `[monitoring.verdict]`.
    """

    def __init__(self, results: Results, monitor: str) -> None:
        self._results = results
        self._monitor = monitor
        self._changes = Changes(results.folder)
        self._known = Known()

    def read(self) -> Known:
        """What they say; looks at the folder's time and at nothing else as a rule.

        Raises:
            ResultsUnreadable: the folder cannot be read.
        """
        with self._changes.maybe() as changed:
            if changed:
                run_ids = self._results.run_ids()[: -PARTIAL - 1 : -1]
                newest = self._known.newest
                if newest is None or newest.run_id != next(iter(run_ids), None):
                    self._known = self._look(run_ids)
        return self._known

    def _look(self, run_ids: Sequence[str]) -> Known:
        """Read from the newest one on, until the verdict's monitor took part."""
        newest = None
        before = self._known.judged
        for run_id in run_ids:
            known = before is not None and before.run_id == run_id
            result = before if known else self._results.result(run_id)
            if result is None:  # damaged, or pruned in this moment
                continue
            newest = newest or result
            if result.outcome(self._monitor) is not None:
                return Known(newest, result)
        return Known(newest)


class State(Collector):
    """Whether it is ready, and what monitoring found.

    Args:
        services: what is asked.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        verdict = services.config.monitoring.verdict
        self._newest = Newest(services.results, verdict.monitor)
        self._known = Known()
        self._ready = False
        self._reading = Patient(self._read, PATIENCE)

    async def look(self) -> None:
        """Look at what is on the disk, if that can be done soon.

        When it is not told in time whether the log can be written, it is not ready.
        """
        if not await self._reading.call():
            self._ready = False

    def _read(self) -> None:
        self._ready = status.not_ready(self._services) is None
        try:
            self._known = self._newest.read()
        except ResultsUnreadable:  # then nothing is known of it, which an alert on its age tells
            self._known = Known()

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        yield GaugeMetricFamily(
            "monitorkit_ready", "1 when /ready answers 200, else 0.", float(self._ready)
        )
        served = self._services.slot.current
        if served is not None:
            card = served.model.card
            yield InfoMetricFamily(
                "monitorkit_model",
                "The model that is served; always 1.",
                {"name": card.name, "version": card.version},
            )
        monitoring = self._services.monitoring_status()
        interval = self._services.config.monitoring.interval.total_seconds()
        yield from _cycles(monitoring, interval)
        if self._known.newest is not None:
            yield from _result(self._known.newest)
        if self._known.judged is not None:
            yield from _verdict(self._known.judged)


def _cycles(monitoring: MonitoringStatus, interval: float) -> Iterator[Metric]:
    """What the service knows of its monitoring."""
    yield GaugeMetricFamily(
        "monitorkit_reference_ok",
        "1 when the reference is the one that was frozen, as far as it was checked; else 0.",
        float(monitoring.reference == "ok"),
    )
    yield _by_label(
        CounterMetricFamily(
            "monitorkit_cycles",
            "Monitoring cycles of this service since its start, by how they ended.",
            labels=["outcome"],
        ),
        monitoring.cycles,
    )
    yield GaugeMetricFamily(
        "monitorkit_cycle_interval_seconds",
        "[monitoring] interval; 0 when no cycles run periodically.",
        interval if monitoring.enabled else 0.0,
    )
    if monitoring.last_cycle is not None:
        yield GaugeMetricFamily(
            "monitorkit_last_cycle_failed",
            "1 when the last cycle of this service failed, else 0.",
            float(monitoring.last_cycle.outcome == "failed"),
        )
        yield GaugeMetricFamily(
            "monitorkit_last_cycle_timestamp_seconds",
            "When the last cycle of this service ended, however it did, in Unix time.",
            monitoring.last_cycle.finished_at.timestamp(),
        )
    yield _by_label(
        GaugeMetricFamily(
            "monitorkit_undelivered_results",
            "Results that a sink has still to take.",
            labels=["sink"],
        ),
        monitoring.undelivered,
    )


def _result(result: RunResult) -> Iterator[Metric]:
    """The newest result, whoever made it: `monitor --once` beside the service, too."""
    yield GaugeMetricFamily(
        "monitorkit_last_result_timestamp_seconds",
        "When the newest result was made, in Unix time.",
        result.finished_at.timestamp(),
    )
    yield GaugeMetricFamily(
        "monitorkit_last_result_rows", "Rows that the newest result judged.", result.window.rows
    )
    seconds = GaugeMetricFamily(
        "monitorkit_monitor_duration_seconds",
        "How long each monitor took in the newest result.",
        labels=["monitor"],
    )
    statuses = GaugeMetricFamily(
        "monitorkit_monitor_status",
        "1 for the status of each monitor in the newest result, 0 for the others.",
        labels=["monitor", "status"],
    )
    for outcome in result.outcomes:
        seconds.add_metric([outcome.name], outcome.seconds)
        for each in STATUSES:
            statuses.add_metric([outcome.name, each], float(outcome.status == each))
    yield seconds
    yield statuses


def _verdict(result: RunResult) -> Iterator[Metric]:
    """What the newest result says in which the verdict's monitor took part; nothing if it failed.

    A result of other monitors alone would end an alert on a drift, and the next one begin it again.
    """
    drift = result.drift
    if drift is None:
        return
    if drift.dataset_drift_detected is not None:
        yield GaugeMetricFamily(
            "monitorkit_drift_detected",
            "The newest verdict: 1 for drift, else 0.",
            float(drift.dataset_drift_detected),
        )
    yield GaugeMetricFamily(
        "monitorkit_features_evaluated",
        "Features that the verdict is over.",
        drift.num_features_evaluated,
    )
    yield GaugeMetricFamily(
        "monitorkit_features_drifted", "Of these, the drifted ones.", drift.num_drifted_features
    )
    judged = result.outcome(drift.monitor)
    verdicts = feature_verdicts(judged.findings if judged is not None else ())
    yield _by_label(
        GaugeMetricFamily(
            "monitorkit_feature_drifted",
            "1 for each feature that drifted in the newest verdict, 0 for others that were judged.",
            labels=["feature"],
        ),
        {feature: float(drifted) for feature, drifted in sorted(verdicts.items())},
    )


def _by_label(
    family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]
) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family
