"""What /metrics shows of readiness, cycles and the newest result is what /health and files say."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitorkit.contracts import (
    CycleNote,
    DriftSummary,
    Finding,
    MonitoringStatus,
    Outcome,
    RunResult,
    Window,
)
from monitorkit.results import Results
from monitorkit.serving.services import Services
from monitorkit.serving.state_metrics import PARTIAL, Known, Newest

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]
START = datetime(2025, 1, 1, 12, tzinfo=UTC)


def result(number: int, drifted: tuple[str, ...] = ("age",)) -> RunResult:
    started = START + timedelta(minutes=5 * number)
    return RunResult(
        run_id=f"{started:%Y%m%dT%H%M%S}000000Z-{number:08x}",
        trigger="once",
        started_at=started,
        finished_at=started + timedelta(seconds=1),
        model_name="credit-risk-model",
        window=Window(250 + number, started - timedelta(hours=1), started, "1", 86400.0),
        min_rows=200,
        reference_hash="ab" * 32,
        cursor={},
        drift=DriftSummary(
            "feature-drift",
            dataset_drift_detected=len(drifted) > 1,
            drift_share=len(drifted) / 3,
            share_threshold=0.5,
            drifted_features=drifted,
            num_features_evaluated=3,
            excluded_features={"MonthlyIncome": "constant in the reference"},
        ),
        outcomes=[
            Outcome("feature-drift", "anytime_drift", "drift", judged(drifted), 0.25),
            Outcome("ks", "ks", "timed_out", [], 60.0, "no answer within 60s"),
        ],
    )


def judged(drifted: tuple[str, ...]) -> list[Finding]:
    """Of three features and the score; a fourth was left out, and others nobody judged."""
    late = "NumberOfTime30-59DaysPastDueNotWorse"
    found = [Finding("ks", 0.1, name, drift=name in drifted) for name in ("age", late, "DebtRatio")]
    found += [
        Finding("ks", 0.9, "probability", drift=True),
        Finding("rows", 3.0, "NumberOfDependents"),
    ]
    return [*found, Finding("excluded", None, "MonthlyIncome", detail={"reason": "constant"})]


async def scraped(client: httpx.AsyncClient) -> dict[str, Any]:
    """Samples by name; those with labels as a mapping from the labels' values."""
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            if sample.labels:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
            else:
                found[sample.name] = sample.value
    return found


async def test_before_the_first_cycle_there_is_no_verdict(client: httpx.AsyncClient) -> None:
    samples = await scraped(client)
    assert samples["monitorkit_ready"] == 1
    assert samples["monitorkit_model_info"] == {("credit-risk-model", "1"): 1}
    assert samples["monitorkit_reference_ok"] == 1
    assert samples["monitorkit_cycle_interval_seconds"] == 300
    assert set(samples["monitorkit_cycles_total"].values()) == {0}
    absent = {"last_cycle_timestamp_seconds", "last_result_rows", "drift_detected"}
    assert not {f"monitorkit_{name}" for name in absent} & set(samples)


async def test_what_the_service_knows_of_its_monitoring(
    serve: Serve, status: MonitoringStatus
) -> None:
    known = replace(
        status,
        enabled=False,
        reference="changed",
        cycles={"completed": 3, "skipped": 2, "failed": 1},
        last_cycle=CycleNote("failed", START, "periodic", reason="x"),
        undelivered={"mlflow": 4},
    )
    async with serve(status=known) as (_, client):
        samples = await scraped(client)
    assert samples["monitorkit_reference_ok"] == 0
    assert samples["monitorkit_cycle_interval_seconds"] == 0
    assert samples["monitorkit_cycles_total"] == {
        ("completed",): 3,
        ("skipped",): 2,
        ("failed",): 1,
    }
    assert samples["monitorkit_last_cycle_timestamp_seconds"] == START.timestamp()
    assert samples["monitorkit_last_cycle_failed"] == 1
    assert samples["monitorkit_undelivered_results"] == {("mlflow",): 4}


async def test_the_newest_result_is_shown_whoever_made_it(
    client: httpx.AsyncClient, services: Services
) -> None:
    elsewhere = Results(services.config.storage.results)  # `monitor --once`, in another process
    elsewhere.commit(result(1))
    samples = await scraped(client)
    assert samples["monitorkit_last_result_timestamp_seconds"] == result(1).finished_at.timestamp()
    assert samples["monitorkit_last_result_rows"] == 251
    assert samples["monitorkit_drift_detected"] == 0
    assert samples["monitorkit_features_drifted"] == 1
    assert samples["monitorkit_features_evaluated"] == 3
    assert samples["monitorkit_feature_drifted"] == {
        ("age",): 1,
        ("NumberOfTime30-59DaysPastDueNotWorse",): 0,
        ("DebtRatio",): 0,
    }
    on = {key for key, value in samples["monitorkit_monitor_status"].items() if value}
    assert on == {("feature-drift", "drift"), ("ks", "timed_out")}
    assert len(samples["monitorkit_monitor_status"]) == 8
    assert samples["monitorkit_monitor_duration_seconds"] == {("feature-drift",): 0.25, ("ks",): 60}
    elsewhere.commit(result(2, ("age", "DebtRatio")))
    samples = await scraped(client)
    assert samples["monitorkit_drift_detected"] == 1
    assert samples["monitorkit_last_result_rows"] == 252


async def test_while_the_results_cannot_be_read_nothing_is_said_of_the_newest(
    client: httpx.AsyncClient, services: Services
) -> None:
    services.results.commit(result(1))
    assert "monitorkit_last_result_rows" in await scraped(client)
    folder = services.results.folder
    aside = folder.rename(folder.with_name("aside"))
    for break_it in (lambda: folder.write_text("a file"), lambda: folder.symlink_to(folder)):
        break_it()
        samples = await scraped(client)
        assert samples["monitorkit_ready"] == 1
        assert "monitorkit_last_result_rows" not in samples
        folder.unlink()
    aside.rename(folder)
    assert "monitorkit_last_result_rows" in await scraped(client)


async def test_a_result_without_a_verdict_has_none(
    client: httpx.AsyncClient, services: Services
) -> None:
    services.results.commit(replace(result(1), drift=None))
    samples = await scraped(client)
    assert samples["monitorkit_last_result_rows"] == 251
    assert "monitorkit_drift_detected" not in samples
    assert "monitorkit_feature_drifted" not in samples


async def test_a_result_of_other_monitors_alone_ends_no_alert(
    client: httpx.AsyncClient, services: Services
) -> None:
    services.results.commit(result(1, ("age", "DebtRatio")))
    partial = replace(result(2), drift=None, outcomes=result(2).outcomes[1:])
    services.results.commit(partial)  # `monitor --once --only ks`
    samples = await scraped(client)
    assert samples["monitorkit_last_result_rows"] == 252
    assert set(samples["monitorkit_monitor_duration_seconds"]) == {("ks",)}
    assert samples["monitorkit_drift_detected"] == 1
    assert samples["monitorkit_features_drifted"] == 2
    services.results.commit(replace(result(3), drift=None))  # the verdict's monitor failed
    assert "monitorkit_drift_detected" not in await scraped(client)
    services.results.commit(result(4, ()))
    assert (await scraped(client))["monitorkit_drift_detected"] == 0


def test_not_all_results_are_read_for_one_verdict(services_results: Results) -> None:
    services_results.commit(result(0))
    for number in range(1, PARTIAL + 1):
        services_results.commit(replace(result(number), outcomes=[]))
    newest = Newest(services_results, "feature-drift")
    assert newest.read().judged is None
    services_results.commit(result(PARTIAL + 1))
    first = newest.read().judged
    services_results.commit(replace(result(PARTIAL + 2), outcomes=[]))
    assert newest.read().judged is first is not None


async def test_it_is_ready_when_ready_says_so(
    client: httpx.AsyncClient, services: Services
) -> None:
    services.slot.current = None
    assert (await client.get("/ready")).status_code == 503
    samples = await scraped(client)
    assert samples["monitorkit_ready"] == 0
    assert "monitorkit_model_info" not in samples


def test_the_newest_result_is_read_once(
    services_results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes out: a scrape that lists ten thousand results, and parses one, every time."""
    newest = Newest(services_results, "feature-drift")
    assert newest.read() == Known()
    services_results.commit(result(1))
    long_ago = START.timestamp()
    os.utime(services_results.folder, (long_ago, long_ago))
    first = newest.read()
    assert first.newest is not None
    assert first.judged is first.newest
    monkeypatch.setattr(Results, "run_ids", None)
    monkeypatch.setattr(Results, "latest", None)
    assert newest.read() is first
    monkeypatch.undo()
    services_results.commit(result(2))
    second = newest.read().newest
    assert second is not None
    assert second.run_id == result(2).run_id


@pytest.fixture
def services_results(tmp_path: Any) -> Results:
    return Results(tmp_path / "results")
