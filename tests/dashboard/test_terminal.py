"""`status` says what the dashboard says, also when no service runs."""

from __future__ import annotations

import io
import json
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import trustme
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_history import make_history
from rich.console import Console

from monitorkit.cli import main
from monitorkit.cli.commands import NOT_RUNNING
from monitorkit.config import Config
from monitorkit.contracts import Chunk, RunResult
from monitorkit.dashboard import terminal
from monitorkit.dashboard.terminal import sparkline
from monitorkit.errors import ResultsUnreadable
from monitorkit.results import Results
from monitorkit.testing import make_chunk

NOBODY = "http://127.0.0.1:1"
LAST = datetime(2026, 1, 2, 12, tzinfo=UTC)


@contextmanager
def answering(
    document: Any, results: Sequence[str] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server that answers everything with one document; yields its address.

    Args:
        document: the answer.
        results: the run_ids of its results, newest first; None: they are for those with a key.
        tls: with a certificate, for https.
    """
    listed = [{"run_id": run_id} for run_id in results or ()]
    page = {"results": listed[:1], "total": len(listed)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_for_results = self.path == "/monitoring/results?limit=1"
            refused = asked_for_results and results is None
            answer = {"status": 401} if refused else page if asked_for_results else document
            body = json.dumps(answer, default=str).encode()
            self.send_response(401 if refused else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
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


def cycle(run_id: str | None, outcome: str = "completed") -> dict[str, Any]:
    """The last one of a service, as /health has it."""
    at = "2026-01-02T12:00:00Z"
    note = {"outcome": outcome, "finished_at": at, "trigger": "periodic", "rows": 400}
    return {**note, "run_id": run_id, "reason": None if run_id else "too few rows"}


def shown(status: terminal.Status, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    terminal.show(status, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_says_what_is_served_and_what_drifted(
    config: Config, history: list[RunResult], health: dict[str, Any]
) -> None:
    keep(config, history)
    note = cycle(history[-1].run_id)
    with answering({**health, "last_cycle": note}, [history[-1].run_id]) as url:
        status = terminal.look(config, url)
    text = shown(status)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "● Serving Serving credit-risk-model, version 1"
    assert "1 of 3 features drifted since 2 Jan 11:45 UTC" in lines[1]
    assert "12,345 predictions logged" in lines[2]
    assert "Last cycle completed at 2 Jan 12:00 UTC; 400 rows judged" in lines[3]
    (income,) = [line for line in lines if line.startswith("income")]
    assert income.split()[1] == "drifted"
    assert "6 results; the last 6: 3 without drift, 3 with." in text
    assert "2,400 rows of credit-risk-model, version 1, judged 2 Jan 2026 12:00 UTC, " in text
    document = json.loads(json.dumps(terminal.document(status), default=str))
    assert document["service"]["answers"]
    assert document["results"]["of_this_service"]
    assert document["drift"]["drifted_features"] == ["income"]
    assert document["columns"][0]["name"] == "income"
    assert document["summary"]["drift"]["text"] == "1 of 3 features drifted"
    assert [each["state"] for each in document["results"]["recent"]] == ["drift"] * 3 + ["ok"] * 3


NEWER, OLDER = "20270101T000000000000Z-0000000f", "20200101T000000000000Z-0000000f"
"""Than any other."""


@pytest.mark.parametrize(
    ("told", "results"),
    [
        ({"last_cycle": None}, [NEWER]),
        ({"last_cycle": None}, []),
        ({"last_cycle": cycle(OLDER)}, [OLDER]),
        ({"last_cycle": cycle(NEWER)}, None),
        ({"last_cycle": None, "model_name": "fraud-model"}, None),
    ],
    ids=["just started", "without any", "with older ones", "with a key", "of another model"],
)
def test_the_results_of_another_service_are_not_told_beside_its_health(
    config: Config,
    history: list[RunResult],
    health: dict[str, Any],
    told: dict[str, Any],
    results: Sequence[str] | None,
) -> None:
    keep(config, history)
    with answering({**health, **told}, results) as url:
        status = terminal.look(config, url)
    text = shown(status)
    assert f"the results of this service are not in {config.storage.results}" in " ".join(
        text.split()
    )
    for word in ("income", "drifted", "in the hour", "results;", "No result yet", "no cycle has"):
        assert word not in text
    document = json.loads(json.dumps(terminal.document(status), default=str))
    assert document["service"]["answers"]
    assert document["results"] == {
        "folder": str(config.storage.results),
        "of_this_service": False,
        "total": 0,
        "recent": [],
    }
    assert (document["drift"], document["columns"]) == (None, [])


@pytest.mark.parametrize("results", [None, [NEWER]])
def test_from_an_empty_folder_it_does_not_say_that_there_is_no_result(
    config: Config, health: dict[str, Any], results: Sequence[str] | None
) -> None:
    with answering({**health, "last_cycle": cycle(NEWER)}, results) as url:
        text = shown(terminal.look(config, url))
    assert "Last cycle completed" in text
    assert "the results of this service are not in" in text
    assert "no cycle has judged" not in text
    assert "No result yet" not in text


@pytest.mark.parametrize("last", [None, cycle(None, "skipped"), cycle(OLDER)])
@pytest.mark.parametrize("listed", [True, False])
def test_results_from_before_the_start_and_after_a_pruning_are_the_services(
    config: Config,
    history: list[RunResult],
    health: dict[str, Any],
    last: dict[str, Any] | None,
    *,
    listed: bool,
) -> None:
    """`monitor --once` ran beside it, say; with a key that is not given all that speaks for it."""
    keep(config, history)
    newest = [history[-1].run_id] if listed else None
    with answering({**health, "last_cycle": last}, newest) as url:
        status = terminal.look(config, url)
    assert status.elsewhere is None
    assert "1 of 3 features drifted" in shown(status)


def test_a_service_is_told_of_where_results_cannot_be_read(
    config: Config, health: dict[str, Any]
) -> None:
    config.storage.results.parent.mkdir(parents=True)
    config.storage.results.write_text("no folder")
    with answering({**health, "last_cycle": None}, []) as url:
        status = terminal.look(config, url)
    assert status.answers
    text = "".join(shown(status).split())  # a long path is broken anywhere
    assert "●ServingServing" in text
    assert "✕DriftNotknowntheresultsin" in text
    assert "cannotberead" in text
    assert "Noresultyet" not in text
    assert terminal.document(status)["results"]["of_this_service"] is None
    with pytest.raises(ResultsUnreadable):
        terminal.look(config, NOBODY)


def test_without_a_service_it_says_so_and_shows_the_results(
    config: Config, history: list[RunResult]
) -> None:
    keep(config, history)
    text = shown(terminal.look(config, NOBODY))
    assert "Not running" in text
    assert NOBODY in text
    assert "1 of 3 features drifted" in text
    (told,) = re.findall(r"judged 2 Jan 2026 12:00 UTC, (\d+) days ago", " ".join(text.split()))
    assert int(told) == pytest.approx((datetime.now(UTC) - LAST) / timedelta(days=1), abs=1)


@pytest.mark.parametrize(
    ("minutes", "ago"), [(0.2, "0 minutes"), (1, "1 minute"), (150, "2 hours"), (2900, "2 days")]
)
def test_how_long_ago_is_in_words(minutes: float, ago: str) -> None:
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    assert terminal._ago(at).endswith(f" UTC, {ago} ago")


def test_a_service_whose_certificate_nobody_vouches_for_is_not_called_stopped(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    with answering({}, tls=serving) as url:
        status = terminal.look(config, url)
        assert not status.answers
        assert "Not trusted" in shown(status)
        assert "SSL_CERT_FILE" in shown(status)
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert "what answers there is not monitorkit" in shown(terminal.look(config, url))


def test_a_service_that_does_not_answer_in_time_is_not_called_stopped(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        status = terminal.look(config, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert not status.answers
    assert "No answer" in shown(status)
    assert "within 0.2 s" in shown(status)


def test_a_password_in_the_address_is_not_shown(config: Config) -> None:
    text = shown(terminal.look(config, NOBODY.replace("//", "//user:topsecret@")))
    assert "Not running" in text
    assert "topsecret" not in text


def test_without_anything_it_says_what_to_do(config: Config) -> None:
    text = shown(terminal.look(config, NOBODY))
    assert "no cycle has judged anything so far" in text
    assert "python -m monitorkit monitor --once" in text


def test_the_command_that_it_tells_acts_on_the_same_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of another.toml").write_text('[storage]\nroot = "elsewhere"\n')
    for options, told in (
        ([], ""),
        (["--config", "of another.toml"], " --config 'of another.toml'"),
    ):
        printed = CliRunner().invoke(main, ["status", "--url", NOBODY, *options]).output
        assert f"`python -m monitorkit monitor --once{told}` makes one" in printed


LONG = "RevolvingUtilizationOfUnsecuredLines"


def cut(_: int, chunk: Chunk) -> Chunk:
    """The long column loses its lowest twentieth, which is near enough for its distance."""
    values = chunk.features[:, 0]
    return chunk.take(np.flatnonzero(values > np.quantile(values, 0.05)))


@pytest.fixture(scope="module")
def long_names() -> list[RunResult]:
    reference = make_chunk(3000, (LONG, "NumberOfTimes90DaysLate", "age"), missing=0.0)
    made: list[RunResult] = make_history(reference, 24, last=LAST, rows=400, change=cut)
    return made


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (80, "column verdict distance since (UTC)"),
        (95, "column verdict distance interval since (UTC)"),
        (120, "column verdict distance interval limit missing since (UTC)"),
        (160, "column verdict distance interval limit last 24 cycles missing since (UTC)"),
    ],
)
def test_on_a_narrow_terminal_it_leaves_columns_out_and_breaks_no_name(
    config: Config, long_names: list[RunResult], width: int, headings: str
) -> None:
    keep(config, long_names)
    lines = shown(terminal.look(config, NOBODY), width).splitlines()
    (above,) = (line for line in lines if "verdict" in line)
    assert " ".join(above.split()) == headings
    (row,) = (line for line in lines if LONG in line)
    assert " drifted: share " in row
    assert len(lines[lines.index(above) : lines.index(row)]) == 2
    assert not any("…" in line for line in lines)
    assert max(len(line) for line in lines[lines.index(above) : lines.index(row) + 4]) <= width


def test_a_name_comes_before_the_words_that_explain_a_verdict(
    config: Config, long_names: list[RunResult]
) -> None:
    keep(config, long_names)
    for width, told in ((80, " drifted: share "), (76, " drifted ")):
        lines = shown(terminal.look(config, NOBODY), width).splitlines()
        (row,) = (line for line in lines if LONG in line)
        assert told in row
        assert "2 Jan " in row


def test_a_name_that_no_terminal_holds_is_folded_and_nothing_else_is(config: Config) -> None:
    name = "a" * 100
    (result,) = make_history(make_chunk(1500, (name,)), 1, last=LAST, rows=400)
    keep(config, [result])
    lines = shown(terminal.look(config, NOBODY), 80).splitlines()
    assert sum(line.count("a" * 30) for line in lines) >= 2
    (row,) = (line for line in lines if "undecided" in line and "aaa" in line)
    assert len(row) <= 80


def test_a_verdict_that_the_distance_does_not_explain_names_what_does(
    config: Config, long_names: list[RunResult]
) -> None:
    keep(config, long_names)
    status = terminal.look(config, NOBODY)
    found = terminal.document(status)["columns"][0]
    assert (found["name"], found["verdict"], found["drifted_by"]) == (LONG, "drifted", "share")
    assert found["distance"]["drift"] is False


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
