"""Delivers results to MLflow: one run for each model version and day, one step for each cycle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from monitorkit import Finding, Options, RunResult, Sink, hookimpl, logs
from monitorkit.metric_names import metric_key
from monitorkit.registry import Address, connect, experiment_id, reported
from monitorkit.units import LimitDuration

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "results"
METRICS_PER_CALL = 1000
RUNS_AT_ONCE = 20  # that are deleted after one delivery

log = logs.get(__name__)


class MlflowOptions(Options):
    """Options.

    Attributes:
        experiment_suffix: added to the model's name for the name of the experiment.
        max_age: runs that ended longer ago are deleted with their artifacts; `off`: never. Their
            metrics leave the store with `mlflow gc`.
    """

    experiment_suffix: str = "-monitoring"
    max_age: LimitDuration = timedelta(0)


class MlflowSink(Sink[MlflowOptions]):
    """Findings as metrics, stepped by the millisecond of the day; the JSON document as artifact.

    Metrics are named `MONITOR/MEASURE` and `MONITOR/MEASURE.COLUMN`, so that MLflow's pages show
    one section for each monitor; p-values end in `.p_value`. The artifact is written last: where it
    stands, the result was delivered. A delivery that was cut short writes the same metrics again,
    which MLflow stores once.
    """

    options_type = MlflowOptions

    def deliver(self, result: RunResult, document: bytes) -> str | None:
        """Log one result, unless it was; a tracking server's page of the run is where it is."""
        address = Address(
            tracking_uri=self.context.tracking_uri,
            artifact_root=self.context.artifact_root,
            model_name=self.context.model_name,
            alias="",
        )
        client = connect(address)
        experiment = experiment_id(address, self.options.experiment_suffix)
        with reported(address):
            run = _run_of(client, experiment, result)
            page = run_page(address.tracking_uri, experiment, run)
            if _was_delivered(client, run, result):
                return page
            _log_metrics(client, run, result)
            with TemporaryDirectory() as temporary:
                path = Path(temporary) / f"{result.run_id}.json"
                path.write_bytes(document)
                client.log_artifact(run, str(path), FOLDER)
            if self.options.max_age:
                _delete_old(client, experiment, result.finished_at - self.options.max_age)
        return page


def run_page(tracking_uri: str, experiment: str, run: str) -> str | None:
    """A run's page of a tracking server; None for a local store, which is no server."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https"):
        return None
    host = parts.netloc.rpartition("@")[2]  # no passwords in links
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/#/experiments/{experiment}/runs/{run}"


def _run_of(client: MlflowClient, experiment: str, result: RunResult) -> str:
    """The run of the result's model version and day, created when it is the first one."""
    version = result.window.model_version or "unknown"
    day = result.finished_at.astimezone(UTC).date().isoformat()
    identity = {
        "monitorkit.kind": "monitoring",
        "monitorkit.model_version": version,
        "monitorkit.day": day,
    }
    quoted = (f"tags.`{key}` = '{value}'" for key, value in identity.items())
    found = client.search_runs(
        [experiment], " and ".join(quoted), max_results=1, order_by=["attributes.start_time"]
    )
    if found:
        return str(found[0].info.run_id)
    tags = {
        **identity,
        "monitorkit.model_name": result.model_name,
        "monitorkit.reference_hash": result.reference_hash,
    }
    name = f"monitoring v{version} {day}"
    run = client.create_run(
        experiment, start_time=_milliseconds(result.started_at), tags=tags, run_name=name
    )
    return str(run.info.run_id)


def _delete_old(client: MlflowClient, experiment: str, before: datetime) -> None:
    """Delete some of the runs that ended before a time, oldest first; others go the next times."""
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415 - lazy
        get_artifact_repository,
    )

    query = (
        f"tags.`monitorkit.kind` = 'monitoring' and attributes.end_time < {_milliseconds(before)}"
    )
    order = ["attributes.start_time"]
    for run in client.search_runs([experiment], query, max_results=RUNS_AT_ONCE, order_by=order):
        get_artifact_repository(run.info.artifact_uri).delete_artifacts()  # type: ignore[no-untyped-call] # MLflow's
        client.delete_run(run.info.run_id)
        log.info(
            "file_pruned",
            what="mlflow_run",
            file=run.info.artifact_uri,
            reason=f"it ended before {before.isoformat(timespec='seconds')}",
        )


def _was_delivered(client: MlflowClient, run: str, result: RunResult) -> bool:
    path = f"{FOLDER}/{result.run_id}.json"
    return any(file.path == path for file in client.list_artifacts(run, FOLDER))


def _log_metrics(client: MlflowClient, run: str, result: RunResult) -> None:
    from mlflow.entities import Metric  # noqa: PLC0415 - 1.5 s, in the process that delivers

    at = result.finished_at.astimezone(UTC)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    step = _milliseconds(at) - _milliseconds(midnight)
    values = {metric_key(name): value for name, value in measured(result)}
    metrics = [Metric(key, value, _milliseconds(at), step) for key, value in values.items()]
    for start in range(0, len(metrics), METRICS_PER_CALL):
        client.log_batch(run, metrics=metrics[start : start + METRICS_PER_CALL])
    # The run goes on until the day ends; each cycle leaves it as finished as it can be.
    client.set_terminated(run, end_time=_milliseconds(at))


def measured(result: RunResult) -> Iterator[tuple[str, float]]:
    """Every finite number in a result, under its name."""
    yield "window/rows", float(result.window.rows)
    yield "cycle/seconds", (result.finished_at - result.started_at).total_seconds()
    if result.drift is not None:
        yield "drift/num_drifted_features", float(result.drift.num_drifted_features)
        yield "drift/num_features_evaluated", float(result.drift.num_features_evaluated)
        if result.drift.drift_share is not None:
            yield "drift/drift_share", result.drift.drift_share
        if result.drift.dataset_drift_detected is not None:
            yield "drift/dataset_drift_detected", float(result.drift.dataset_drift_detected)
    for outcome in result.outcomes:
        yield f"{outcome.name}/seconds", outcome.seconds
        for finding in outcome.findings:
            for name, value in _numbers(finding):
                if value is not None and math.isfinite(value):
                    yield f"{outcome.name}/{name}", float(value)


def _numbers(finding: Finding) -> Iterator[tuple[str, float | None]]:
    name = finding.measure if finding.column is None else f"{finding.measure}.{finding.column}"
    yield name, finding.value
    yield f"{name}.p_value", finding.p_value


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


@hookimpl
def monitorkit_sinks() -> Mapping[str, type[Sink[Any]]]:
    """Register the kind `mlflow`."""
    return {"mlflow": MlflowSink}
