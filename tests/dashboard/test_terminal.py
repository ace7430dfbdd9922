"""`status` says what the dashboard says, also when no service runs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_history import make_history
from rich.console import Console

from monitorkit.cli import main
from monitorkit.cli.commands import NOT_RUNNING
from monitorkit.config import Config
from monitorkit.contracts import RunResult
from monitorkit.dashboard import terminal
from monitorkit.dashboard.terminal import sparkline
from monitorkit.results import Results
from monitorkit.testing import make_chunk

NOBODY = "http://127.0.0.1:1"
LAST = datetime(2026, 1, 2, 12, tzinfo=UTC)


@contextmanager
def answering(document: Any) -> Iterator[str]:
    """A server that answers everything with one document; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document, default=str).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate({"storage": {"root": tmp_path / "monitoring"}})


def keep(config: Config, history: list[RunResult]) -> None:
    results = Results(config.storage.results)
    for result in history:
        results.commit(result)


def shown(status: terminal.Status) -> str:
    console = Console(file=io.StringIO(), width=160)
    terminal.show(status, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_says_what_is_served_and_what_drifted(
    config: Config, history: list[RunResult], health: dict[str, Any]
) -> None:
    keep(config, history)
    note = {
        "outcome": "completed",
        "finished_at": "2026-01-02T12:00:00Z",
        "trigger": "periodic",
        "rows": 400,
        "run_id": history[-1].run_id,
        "reason": None,
    }
    with answering({**health, "last_cycle": note}) as url:
        status = terminal.look(config, url)
    text = shown(status)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].split()[:3] == ["●", "Serving", "Serving"]
    assert "1 of 3 features drifted since 2 Jan 11:45 UTC" in lines[1]
    assert "12,345 predictions logged" in lines[2]
    assert "Last cycle completed since 2 Jan 12:00 UTC; 400 rows judged" in lines[3]
    (income,) = [line for line in lines if line.startswith("income")]
    assert income.split()[1] == "drifted"
    assert "6 results; the last 6: 3 without drift, 3 with." in text
    document = json.loads(json.dumps(terminal.document(status), default=str))
    assert document["service"]["answers"]
    assert document["drift"]["drifted_features"] == ["income"]
    assert document["columns"][0]["name"] == "income"
    assert document["summary"]["drift"]["text"] == "1 of 3 features drifted"
    assert [each["state"] for each in document["results"]["recent"]] == ["drift"] * 3 + ["ok"] * 3


def test_without_a_service_it_says_so_and_shows_the_results(
    config: Config, history: list[RunResult]
) -> None:
    keep(config, history)
    text = shown(terminal.look(config, NOBODY))
    assert "Not running" in text
    assert NOBODY in text
    assert "1 of 3 features drifted" in text


def test_without_anything_it_says_what_to_do(config: Config) -> None:
    text = shown(terminal.look(config, NOBODY))
    assert "no cycle has judged anything so far" in text
    assert "python -m monitorkit monitor --once" in text


def test_brackets_in_names_and_reasons_are_no_markup(config: Config) -> None:
    names, error = ("income [eur]", "speed [/m/s]"), "[log] archives [/data/x] cannot be read"
    (result,) = make_history(make_chunk(1500, names), 1, last=LAST, rows=400)
    failed = replace(result.outcomes[-1], status="failed", error=error, findings=())
    keep(config, [replace(result, outcomes=(*result.outcomes[:-1], failed))])
    text = shown(terminal.look(config, NOBODY))
    for each in (*names, error):
        assert each in text


@pytest.mark.parametrize(
    "answer", [{}, [], "x", {"reasons": []}, {"last_cycle": {"outcome": "burnt"}, "reasons": []}]
)
def test_something_else_that_answers_there_is_no_service(config: Config, answer: Any) -> None:
    with answering(answer) as url:
        status = terminal.look(config, url)
    assert not status.answers
    assert "not monitorkit" in shown(status)


def test_the_exit_code_tells_whether_a_service_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, health: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["status", "--url", NOBODY]).exit_code == NOT_RUNNING
    with answering({**health, "last_cycle": None}) as url:
        done = CliRunner().invoke(main, ["status", "--url", url, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["summary"]["monitoring"]["text"] == "No cycle since the start"


def test_a_sparkline_is_as_high_as_its_numbers() -> None:
    assert sparkline([0.0, 0.05, 0.1], limit=0.05) == "▁▅█"
    assert sparkline([0.0, 1.0]) == "▁█"
    assert sparkline([0.5, None, float("nan")]) == "█  "
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""


@given(st.lists(st.none() | st.floats()), st.none() | st.floats(0, 1))
def test_a_sparkline_has_one_sign_a_number(values: list[float | None], limit: float | None) -> None:
    assert len(sparkline(values, limit)) == len(values)
