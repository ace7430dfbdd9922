"""`monitor --once --engine`: wherever the log is summed up, the findings are the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service_process import NO_SINKS

from monitorkit.monitoring.dask_engine import local_cluster

pytestmark = pytest.mark.slow


def found(folder: Path, command: Callable[..., Any], *arguments: str) -> Any:
    """The findings of a cycle over the whole log, by an engine that knows nothing of it."""
    (folder / "monitoring/metrics/state/timeline.sqlite").unlink(missing_ok=True)
    events = command(folder, "monitor", "--once", "--skip", "evidently", *arguments, env=NO_SINKS)
    assert {event["level"] for event in events} == {"info"}
    newest = max((folder / "monitoring/metrics/monitoring_results").glob("*.json"))
    result = json.loads(newest.read_text(encoding="utf-8"))
    assert result["window"]["rows"] == 2000
    return [
        (monitor["name"], finding)
        for monitor in result["monitors"]
        for finding in monitor["findings"]
        if "at" not in finding["detail"] and not finding["measure"].endswith("_per_hour")
    ]


@pytest.mark.exhaustive
def test_every_engine_finds_the_same(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    service = start(folder)
    command(folder, "simulate", "--rows", "2000", "--batch", "500", "--url", service.url)
    expected = found(folder, command)
    assert len(expected) > 50
    assert found(folder, command, "--engine", "local") == expected
    assert found(folder, command, "--engine", "dask") == expected
    with local_cluster(workers=1) as cluster:
        scheduler = ("--scheduler", cluster.scheduler_address)
        assert found(folder, command, "--engine", "dask", *scheduler) == expected


def test_a_scheduler_is_for_dask(folder: Path, command: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="--scheduler is for --engine dask"):
        command(folder, "monitor", "--once", "--scheduler", "tcp://127.0.0.1:9")
