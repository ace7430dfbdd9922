"""`python -m monitorkit replay` over what a service wrote and `monitor --once` recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service_process import NO_SINKS

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

MILD = """
[[monitors]]
name = "feature-drift"
use = "ks"
options = { false_alarm_rate = 1e-300 }
"""


def test_what_was_flagged_and_what_another_threshold_would_have_flagged(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    service = start(folder)
    command(folder, "simulate", "--rows", "250", "--url", service.url)
    command(folder, "monitor", "--once", env=NO_SINKS)
    command(folder, "simulate", "--rows", "300", "--shift", "income=0.3", "--url", service.url)
    command(folder, "monitor", "--once", env=NO_SINKS)
    assert service.stop() == 0

    same = command(folder, "replay", "--from", "-1h", "--to", "now", "--output", "again")
    cycles = [event for event in same if event["event"] == "cycle_replayed"]
    assert [cycle["agreement"] for cycle in cycles] == ["same", "same"]
    assert [cycle["replayed"]["rows"] for cycle in cycles] == [250, 550]
    assert "MonthlyIncome" in cycles[1]["recorded"]["flagged"]["feature-drift"]
    assert cycles[1]["recorded"] == cycles[1]["replayed"]
    assert (same[-1]["event"], same[-1]["flagged_in_replay_only"]) == ("replay_summary", 0)
    assert {event["level"] for event in same} == {"info"}
    assert len(list((folder / "again").glob("*.json"))) == 2

    (folder / "mild.toml").write_text(MILD)
    other = command(folder, "replay", "--config", "mild.toml", "--only", "feature-drift")
    cycles = [event for event in other if event["event"] == "cycle_replayed"]
    assert [cycle["replayed"]["flagged"] for cycle in cycles] == [{}, {}]
    assert other[-1]["flagged_in_record_only"] == 1

    (refused,) = command(folder, "replay", "--from", "2001-01-02", "--to", "2001-01-01", code=1)
    assert refused["error"] == "ConfigError"
    assert command(folder, "replay", "--to", "2001-01-01")[-1]["cycles"] == 0
