"""The README's promise: two commands, and every answer is kept and judged."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service_process import NO_SINKS

from monitorkit.config import default_text

pytestmark = pytest.mark.slow

APPLICANT = {
    "RevolvingUtilizationOfUnsecuredLines": 0.35,
    "age": 47,
    "NumberOfTime30-59DaysPastDueNotWorse": 0,
    "DebtRatio": 0.4,
    "MonthlyIncome": 5400,
    "NumberOfOpenCreditLinesAndLoans": 8,
    "NumberOfTimes90DaysLate": 0,
    "NumberRealEstateLoansOrLines": 1,
    "NumberOfTime60-89DaysPastDueNotWorse": 0,
    "NumberOfDependents": 0,
}


JSON = "Content-Type: application/json"


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "monitoring/predictions/predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> list[dict[str, Any]]:
    paths = sorted((folder / "monitoring/metrics/monitoring_results").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]


def findings(result: dict[str, Any], monitor: str) -> list[dict[str, Any]]:
    (entry,) = [entry for entry in result["monitors"] if entry["name"] == monitor]
    found: list[dict[str, Any]] = entry["findings"]
    return found


def check_the_whole_job(folder: Path, service: Any, command: Any) -> None:
    """250 requests by curl and `monitor --once` give what the issue asks for."""
    url = service.url
    body = json.dumps(APPLICANT)
    for _ in range(250):
        answer = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", f"{url}/predict", "-H", JSON, "-d", body],
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert 0 <= json.loads(answer.stdout)["probability"] <= 1
    events = command(folder, "monitor", "--once")
    (result,) = results(folder)
    with service.client() as client:
        health = client.get("/health").json()
        recorded = client.get(f"/monitoring/results/{result['run_id']}")
    assert len(log_rows(folder)) == 250
    assert health["predictions_logged"] == 250
    assert recorded.json() == result
    assert {entry["status"] for entry in result["monitors"]} <= {"ok", "drift"}
    proxy = {finding["measure"]: finding for finding in findings(result, "proxy-metrics")}
    assert proxy["predictions"]["value"] == 250
    for monitor in ("feature-drift", "evidently"):
        judged = {f["column"] for f in findings(result, monitor) if f["column"] in APPLICANT}
        assert judged == set(APPLICANT)
    (report,) = (folder / "monitoring/reports/drift_reports").glob("*.html")
    assert report.stat().st_size > 1_000_000
    delivered = [event for event in events if event["event"] == "result_delivered"]
    assert [event["run_id"] for event in delivered] == [result["run_id"]]
    assert {event["level"] for event in events} == {"info"}
    assert service.stop() == 0
    assert {event["level"] for event in service.events} == {"info"}


def test_two_commands_from_an_empty_folder(
    tmp_path: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    service = start(tmp_path)
    written = service.wait_for("default_config_written")
    assert (tmp_path / written["file"]).read_text() == default_text()
    check_the_whole_job(tmp_path, service, command)


def test_the_same_on_real_rows(
    tmp_path: Path, real_rows: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(real_rows, tmp_path / "data" / "cs-training.csv")
    service = start(tmp_path)
    service.wait_for("listening", seconds=120)
    metadata = json.loads((tmp_path / "monitoring/reference/reference_metadata.json").read_text())
    assert metadata["num_samples"] == 2400
    assert "cs-training.csv" in metadata["source"]
    check_the_whole_job(tmp_path, service, command)


def test_a_shift_is_named_and_nothing_else(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    service = start(folder)
    shift = ("--shift", "income=0.8", "--shift", "utilisation:=1.0")
    url = ("--url", service.url)
    command(folder, "simulate", "--rows", "2000", *url, *shift)
    command(folder, "monitor", "--once", "--only", "feature-drift", env=NO_SINKS)
    (result,) = results(folder)
    drifted = {f["column"] for f in findings(result, "feature-drift") if f["drift"]}
    assert drifted - {"probability"} == {"MonthlyIncome", "RevolvingUtilizationOfUnsecuredLines"}
    assert set(result["drifted_features"]) == drifted - {"probability"}


def test_no_shift_is_quiet(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    service = start(folder)
    command(folder, "simulate", "--rows", "2000", "--url", service.url)
    command(folder, "monitor", "--once", env=NO_SINKS)
    (result,) = results(folder)
    # Evidently's own thresholds are quick to alarm; the verdict is not theirs.
    loud = {e["name"] for e in result["monitors"] if e["status"] != "ok"}
    assert loud <= {"evidently"}
    assert result["dataset_drift_detected"] is False
    assert result["window"]["rows"] == 2000


def test_below_the_gate_the_cycle_is_skipped_with_count_and_reason(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    env = {**NO_SINKS, "MONITORKIT_MONITORS": '[{"name": "feature-drift", "use": "ks"}]'}
    service = start(folder, env=env)
    command(folder, "simulate", "--rows", "199", "--url", service.url)
    events = command(folder, "monitor", "--once", env=env)
    (skipped,) = [event for event in events if event["event"] == "cycle_skipped"]
    assert (skipped["rows"], skipped["min_rows"]) == (199, 200)
    assert results(folder) == []
    command(folder, "simulate", "--rows", "1", "--url", service.url)
    with service.client() as client:
        forced = client.post("/monitoring/run")
    assert forced.status_code == 200
    assert forced.json()["result"]["window"]["rows"] == 200
