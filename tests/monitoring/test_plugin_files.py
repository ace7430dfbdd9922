"""A plugin file that changes under a running engine is told of once, and not loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from monitoring_place import Place, draw
from structlog.testing import capture_logs

from monitorkit.contracts import RunResult
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.plugin_files import PluginFiles

PLUGIN = """
from dataclasses import dataclass
from monitorkit import Finding, Judgement, Monitor, hookimpl


@dataclass(frozen=True)
class Rows:
    rows: int


class CountRows(Monitor):
    def summarise(self, chunk):
        return Rows(len(chunk))

    def merge(self, left, right):
        return Rows(left.rows + right.rows)

    def judge(self, timeline, previous):
        return Judgement([Finding("first_code", float(timeline.all().rows))])


@hookimpl
def monitorkit_monitors():
    return {"count_rows": CountRows}
"""


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


def changes(events: list[Any]) -> list[tuple[str, str, str]]:
    return [
        (event["log_level"], event["file"], event["change"])
        for event in events
        if event["event"] == "plugin_changed"
    ]


def test_each_change_is_told_once(tmp_path: Path, events: list[Any]) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a")
    two.write_text("a")
    files = PluginFiles([one, two])
    files.look()
    assert changes(events) == []
    one.write_text("b")
    files.look()
    files.look()
    assert changes(events) == [("warning", str(one), "edited")]
    one.write_text("c")
    two.unlink()
    files.look()
    files.look()
    assert changes(events)[1:] == [
        ("warning", str(one), "edited"),
        ("warning", str(two), "gone or unreadable"),
    ]
    one.write_text("a")
    two.write_text("a")
    files.look()
    assert len(changes(events)) == 3


def test_a_cycle_tells_of_it_and_goes_on_with_what_was_loaded(
    place: Callable[..., Place], events: list[Any]
) -> None:
    here = place(
        monitors=[{"name": "rows", "use": "count_rows"}],
        monitoring={"plugin_files": ["mine.py"], "verdict": {"monitor": "rows"}},
    )
    plugin = here.folder / "mine.py"
    plugin.write_text(PLUGIN)
    here.append(draw(250, seed=2))
    engine = LocalEngine(here.config)

    def measured(engine: LocalEngine) -> str:
        result = run_cycle(here.config, engine, here.results, trigger="once")
        assert isinstance(result, RunResult)
        return result.outcomes[0].findings[0].measure

    assert measured(engine) == "first_code"
    assert changes(events) == []
    plugin.write_text(PLUGIN.replace("first_code", "second_code"))
    assert measured(engine) == measured(engine) == "first_code"
    assert changes(events) == [("warning", "mine.py", "edited")]
    assert measured(LocalEngine(here.config)) == "second_code"
    assert len(changes(events)) == 1
