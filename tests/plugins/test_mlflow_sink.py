"""The MLflow sink against a real store: one run a day, each result once, no number lost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from monitorkit_plugins.mlflow_sink import MlflowOptions, MlflowSink, measured, run_page
from structlog.testing import capture_logs

from monitorkit import Finding, Outcome, RunResult, SinkContext
from monitorkit.contracts import DriftSummary, Window
from monitorkit.errors import RegistryUnavailable
from monitorkit.registry import Address, connect, experiment_id
from monitorkit.testing import check_sink

NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)
STEP = 12 * 3600 * 1000 + 250
HASH = "5" * 64


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> SinkContext:
    root = tmp_path_factory.mktemp("monitoring") / "mlflow"
    return SinkContext(f"sqlite:///{root / 'mlflow.db'}", str(root / "artifacts"), "-", "reports")


@pytest.fixture
def context(store: SinkContext, request: pytest.FixtureRequest) -> SinkContext:
    return replace(store, model_name=request.node.name)


def make_result(
    findings: Sequence[Finding] = (), *, at: datetime = NOON, version: str = "1"
) -> RunResult:
    drift = DriftSummary(
        monitor="feature-drift",
        dataset_drift_detected=False,
        drift_share=0.1,
        share_threshold=0.5,
        drifted_features=("age",),
        num_features_evaluated=10,
        excluded_features={},
    )
    outcomes = (
        Outcome("feature-drift", "ks", "ok", tuple(findings), 0.25),
        Outcome("broken", "psi", "failed", (), 0.5, error="no"),
    )
    return RunResult(
        run_id=f"20260102T120000Z-{at.timestamp():.0f}",
        trigger="periodic",
        started_at=at - timedelta(seconds=2),
        finished_at=at,
        model_name="m",
        window=Window(250, at - timedelta(hours=1), at, version, 86400.0),
        min_rows=200,
        reference_hash=HASH,
        cursor={},
        drift=drift,
        outcomes=outcomes,
    )


def document(result: RunResult) -> bytes:
    return json.dumps({"run_id": result.run_id}).encode()


def deliver(context: SinkContext, *results: RunResult) -> None:
    sink = MlflowSink(MlflowOptions(), context)
    for result in results:
        sink.deliver(result, document(result))


def runs(context: SinkContext) -> tuple[Any, list[Any]]:
    """The client, and the runs in the order of their names."""
    address = Address(context.tracking_uri, context.artifact_root, context.model_name, "")
    client = connect(address)
    found = client.search_runs([experiment_id(address, "-monitoring")])
    return client, sorted(found, key=lambda run: str(run.info.run_name))


FINDINGS = (
    Finding("ks", 0.25, column="age", p_value=0.001, drift=True),
    Finding("ks", 0.5, column="NumberOfTime30-59Days", p_value=0.5),
    Finding("positive_rate", 0.07),
    Finding("excluded", None, column="income", detail={"reason": "constant"}),
    Finding("odd", math.inf),
    Finding("odder", math.nan),
)


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/experiments/3/runs/abc"),
        ("https://me:secret@ml.example/x/", "https://ml.example/x/#/experiments/3/runs/abc"),
        ("sqlite:///mlflow.db", None),
    ],
)
def test_a_run_of_a_server_has_a_page_and_its_link_no_password(uri: str, page: str | None) -> None:
    assert run_page(uri, "3", "abc") == page


@pytest.mark.slow
def test_it_keeps_the_laws_of_sinks(context: SinkContext) -> None:
    result = make_result(FINDINGS)
    check_sink(MlflowSink(MlflowOptions(), context), result, document(result))
    client, (run,) = runs(context)
    history = client.get_metric_history(run.info.run_id, "feature-drift/ks.age")
    assert [(point.step, point.value) for point in history] == [(STEP, 0.25)]


@pytest.mark.slow
def test_every_number_becomes_a_metric_and_the_document_an_artifact(context: SinkContext) -> None:
    result = make_result(FINDINGS)
    deliver(context, result)
    client, (run,) = runs(context)
    assert run.info.run_name == "monitoring v1 2026-01-02"
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {
        "window/rows": 250.0,
        "cycle/seconds": 2.0,
        "drift/num_drifted_features": 1.0,
        "drift/num_features_evaluated": 10.0,
        "drift/drift_share": 0.1,
        "drift/dataset_drift_detected": 0.0,
        "feature-drift/seconds": 0.25,
        "feature-drift/ks.age": 0.25,
        "feature-drift/ks.age.p_value": 0.001,
        "feature-drift/ks.NumberOfTime30-59Days": 0.5,
        "feature-drift/ks.NumberOfTime30-59Days.p_value": 0.5,
        "feature-drift/positive_rate": 0.07,
        "broken/seconds": 0.5,
    }
    tags = {key: value for key, value in run.data.tags.items() if key.startswith("monitorkit.")}
    assert tags == {
        "monitorkit.kind": "monitoring",
        "monitorkit.model_name": "m",
        "monitorkit.model_version": "1",
        "monitorkit.day": "2026-01-02",
        "monitorkit.reference_hash": HASH,
    }
    assert context.artifact_root is not None
    (path,) = Path(context.artifact_root).glob(f"monitoring/{run.info.run_id}/artifacts/results/*")
    assert path.name == f"{result.run_id}.json"
    assert path.read_bytes() == document(result)
    (artifact,) = client.list_artifacts(run.info.run_id, "results")
    assert artifact.path == f"results/{result.run_id}.json"


@pytest.mark.slow
def test_one_run_for_each_model_version_and_utc_day(context: SinkContext) -> None:
    results = [
        make_result(FINDINGS),
        make_result(FINDINGS, at=NOON + timedelta(minutes=5)),
        make_result(FINDINGS, at=NOON + timedelta(days=1)),
        make_result(FINDINGS, at=NOON + timedelta(minutes=10), version="2"),
    ]
    deliver(context, *results)
    deliver(context, *reversed(results))
    client, found = runs(context)
    assert [run.info.run_name for run in found] == [
        "monitoring v1 2026-01-02",
        "monitoring v1 2026-01-03",
        "monitoring v2 2026-01-02",
    ]
    history = client.get_metric_history(found[0].info.run_id, "window/rows")
    assert [point.step for point in history] == [STEP, STEP + 300_000]
    assert len(client.list_artifacts(found[0].info.run_id, "results")) == 2


@pytest.mark.slow
def test_old_runs_and_their_artifacts_go_when_that_is_wanted(context: SinkContext) -> None:
    days = [make_result(at=NOON + timedelta(days=day)) for day in range(5)]
    deliver(context, *days[:4])
    _, before = runs(context)
    folders = [Path(run.info.artifact_uri.removeprefix("file://")) for run in before]
    assert len(before) == 4
    assert all(any(folder.rglob("*.json")) for folder in folders)
    sink = MlflowSink(MlflowOptions.model_validate({"max_age": "2d"}), context)
    with capture_logs() as logged:
        sink.deliver(days[4], document(days[4]))
    _, after = runs(context)
    assert [run.data.tags["monitorkit.day"] for run in after] == [
        "2026-01-04",
        "2026-01-05",
        "2026-01-06",
    ]
    assert [any(folder.rglob("*.json")) for folder in folders] == [False, False, True, True]
    told = [event for event in logged if event["event"] == "file_pruned"]
    assert [(event["what"], event["log_level"]) for event in told] == [("mlflow_run", "info")] * 2


def test_a_delivery_that_was_cut_short_is_made_whole_without_doubles(
    context: SinkContext,
) -> None:
    result = make_result(FINDINGS)
    deliver(context, result)
    client, (run,) = runs(context)
    assert context.artifact_root is not None
    artifacts = Path(context.artifact_root) / "monitoring" / run.info.run_id / "artifacts"
    path = artifacts / "results" / f"{result.run_id}.json"
    path.unlink()  # as if it had stopped between the metrics and the document
    deliver(context, result)
    assert path.read_bytes() == document(result)
    history = client.get_metric_history(run.info.run_id, "feature-drift/ks.age")
    assert len(history) == 1


@pytest.mark.slow
def test_more_metrics_than_mlflow_takes_in_one_call(context: SinkContext) -> None:
    findings = [Finding("ks", float(number), column=f"c{number}") for number in range(1200)]
    deliver(context, make_result(findings))
    _, (run,) = runs(context)
    assert run.data.metrics["feature-drift/ks.c1199"] == 1199.0


@pytest.mark.slow
def test_columns_with_any_name_are_told_apart(context: SinkContext) -> None:
    columns = ["größe", "grüße", "a:b", "a;b", "../up", "x" * 400, "x" * 401, "50 %", "a//b", " "]
    findings = [Finding("ks", float(n), column=name) for n, name in enumerate(columns)]
    deliver(context, make_result(findings))
    _, (run,) = runs(context)
    kept = [value for key, value in run.data.metrics.items() if key.startswith("feature-drift/ks")]
    assert sorted(kept) == [float(number) for number in range(len(columns))]


def test_a_result_without_a_verdict_has_its_numbers_too() -> None:
    result = replace(make_result(FINDINGS), drift=None)
    names = [name for name, _ in measured(result)]
    assert "feature-drift/ks.age" in names
    assert not any(name.startswith("drift/") for name in names)


@pytest.mark.slow
def test_a_store_that_cannot_be_used_is_an_error_so_that_it_is_tried_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    broken = SinkContext(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "a"), "m", "reports")
    with pytest.raises(RegistryUnavailable, match="not a database"):
        deliver(broken, make_result(FINDINGS))
