"""Strings of clients, models and configurations: where they go, and that they do nothing there.

Taken out, each protection makes a test here fail: `_with_names_as_text` of the Evidently plugin,
`_RUN_ID` in `results.find`, `redacted` in `logs` and `errors`, `_one_line`, `ASSETS` in `docs.py`.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from monitorkit_plugins.evidently_drift import REPORT, EvidentlyDrift, EvidentlyOptions
from structlog.testing import capture_logs
from wire import connected, listening

from monitorkit import config
from monitorkit.config import Config
from monitorkit.errors import LogWriteFailed, RegistryUnavailable, told
from monitorkit.monitoring.reports import Reports
from monitorkit.redaction import redacted
from monitorkit.results import Results
from monitorkit.retention import Limits
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.serving.services import Services
from monitorkit.testing import judge_summaries, make_chunk

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]

FORMULA = '=cmd|"/c calc"!A1'
SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
LINES = 'a\r\n{"event": "forged"}\n\x1b[2J\u2028\u0085'
HIDDEN = "hunter2"


# -- into the log


@pytest.mark.parametrize("text", [FORMULA, "+1", "-1", "@SUM(1)", "\t=1", "1", SCRIPT, LINES])
async def test_no_string_of_a_client_gets_into_the_log(
    services: Services, client: httpx.AsyncClient, row: dict[str, Any], text: str
) -> None:
    for name in row:
        for body in (row | {name: text}, row | {name: [text]}, row | {name: {text: text}}):
            assert (await client.post("/predict", json=body)).status_code == 422
    assert (await client.post("/predict", json=row | {text: 1})).status_code == 422
    headers = {"X-Request-ID": FORMULA, "User-Agent": FORMULA}
    assert (await client.post("/predict", json=row, headers=headers)).status_code == 200
    (file,) = services.config.storage.predictions.glob("predictions*.csv")
    with file.open(newline="") as lines:
        (logged,) = csv.DictReader(lines)
    identity, moment = logged.pop("prediction_id"), logged.pop("timestamp")
    assert re.fullmatch(r"[0-9a-f-]{36}", identity)
    assert re.fullmatch(r"[0-9T:.-]{26}Z", moment)
    assert [float(value) for value in logged.values()]


# -- into pages


async def test_a_wrong_value_is_told_as_json_and_never_as_a_page(
    client: httpx.AsyncClient, row: dict[str, Any]
) -> None:
    for answer in (
        await client.post("/predict", json=row | {"age": SCRIPT}),
        await client.post("/predict", json=row | {SCRIPT: 1}),
        await client.get("/monitoring/results/" + SCRIPT.replace("/", "")),
        await client.get("/" + SCRIPT),
    ):
        assert answer.headers["content-type"] == "application/problem+json"
        answer.json()


async def test_the_documentation_page_holds_nothing_of_the_model(
    services: Services, client: httpx.AsyncClient
) -> None:
    before = (await client.get("/docs")).text
    served = services.slot.current
    assert served is not None
    schema = FeatureSchema((Feature(SCRIPT),))
    services.slot.current = replace(served, schema=schema)
    assert (await client.get("/docs")).text == before
    script = await client.get("/docs/start.js")
    assert SCRIPT not in script.text
    assert "script-src 'self';" in script.headers["content-security-policy"]


def test_a_column_with_html_for_a_name_is_text_in_a_report() -> None:
    columns = (SCRIPT, "a</SCRIPT><b>\u00e9", *make_chunk().columns[2:])
    reference = replace(make_chunk(300), columns=columns)
    monitor = EvidentlyDrift(EvidentlyOptions(), reference)
    summary = monitor.summarise(replace(make_chunk(300, seed=1), columns=columns))
    judgement = judge_summaries(monitor, [summary])
    assert SCRIPT in {finding.column for finding in judgement.findings}
    page = judgement.attachments[REPORT].decode()
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "a</SCRIPT>" not in page


@pytest.mark.parametrize("name", [SCRIPT, LINES, "../up", "a/b", "", "x" * 65])
@pytest.mark.parametrize("kind", ["monitors", "sinks"])
def test_a_monitor_or_sink_cannot_have_such_a_name(kind: str, name: str) -> None:
    with pytest.raises(ValueError, match="match pattern"):
        Config.model_validate({kind: [{"name": name, "use": "ks"}]})


def test_a_column_cannot_have_a_name_of_several_lines() -> None:
    with pytest.raises(Exception, match="not printable"):
        Feature(LINES)


# -- out of folders

PATHS = ["../../../etc/passwd", "..%2f..%2fpredictions%2fpredictions", "%2e%2e/%2e%2e/x", "....//x",
         "/etc/passwd", "%00", "a%00.json", "..\\..\\x", "%c0%ae%c0%ae/x", "%ff", "x" * 5000,
         "20250101T120000000000Z-00000001/../x", "20250101T120000000000Z-00000001%0a"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("below", ["/monitoring/results/", "/docs/"])
async def test_no_path_leads_out_of_its_folder(serve: Serve, below: str, path: str) -> None:
    """Over a socket, for a client of ours would tidy the path up."""
    async with serve() as (services, _), listening(services) as (port, _):
        outside = services.config.storage.root / "x"
        outside.parent.mkdir(parents=True, exist_ok=True)
        outside.write_text(HIDDEN)
        async with connected(port) as connection:
            head = f"GET {below}{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await connection.send(head.encode())
            answer = await connection.answer()
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert HIDDEN.encode() not in answer.body


async def test_a_link_among_the_results_shows_nothing_that_is_no_result(
    services: Services, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.json"
    run_id = "20250101T120000000000Z-00000001"
    folder = services.config.storage.results
    folder.mkdir(parents=True)
    (folder / f"{run_id}.json").symlink_to(outside)
    for content in (HIDDEN, json.dumps({"schema_version": HIDDEN}), json.dumps({HIDDEN: 1})):
        outside.write_text(content)
        os.utime(outside, ns=(1, len(content)))
        with capture_logs():
            for path in (f"/monitoring/results/{run_id}", "/monitoring/results"):
                answer = await client.get(path)
                assert HIDDEN not in answer.text
    assert Results(folder).prune(Limits(keep=1)) == 0
    assert outside.exists()


def test_a_link_among_the_reports_is_removed_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside.html"
    outside.write_text(HIDDEN)
    reports = Reports(tmp_path / "reports")
    reports.write("20250102", "a", "b.html", b"x")
    (reports.folder / "20250101-a-b.html").symlink_to(outside)
    assert reports.prune(Limits(keep=1)) == 1
    assert outside.read_text() == HIDDEN
    (reports.folder / "20250103-a-b.html").symlink_to(outside)
    reports.write("20250103", "a", "b.html", b"new")
    assert outside.read_text() == HIDDEN, "a report takes the link's place"


# -- into events


def events_of(code: str, form: str = "json") -> str:
    """What a process of its own prints."""
    preamble = f"from monitorkit import logs; logs.configure(form={form!r}); log = logs.get('a');"
    done = subprocess.run(
        [sys.executable, "-c", preamble + code], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    return done.stdout


def test_line_ends_in_a_value_stay_inside_one_event() -> None:
    code = f"log.info('request', path={LINES!r}, **{{{LINES!r}: 1}}); log.error({LINES!r})"
    first, second = events_of(code).splitlines()
    assert json.loads(first)["path"] == LINES
    assert json.loads(first)["event"] == "request"
    assert json.loads(second)["event"] == LINES
    assert "\x1b" not in first + second


def test_on_a_terminal_a_value_begins_no_line_and_moves_no_cursor() -> None:
    printed = events_of(f"log.info('request', path={LINES!r}); log.info({LINES!r})", "console")
    assert len(printed.splitlines()) == 2
    assert "\x1b[2J" not in printed
    assert printed.count(r"a\r\n{") == 2
    for value in ("\x1b[2J", "/\x1b]0;owned\x07", "a\x85b\u2028c"):
        printed = events_of(f"log.info('request', path={value!r})", "console")
        assert f"path={ascii(value)[1:-1]}" in re.sub(r"\x1b\[\d*m", "", printed)
        assert len(printed.splitlines()) == 1
        assert "\x1b[2J" not in printed
        assert "\x1b]" not in printed


async def test_a_client_cannot_forge_an_event_of_the_access_log(serve: Serve) -> None:
    async with serve({"access_log": True}) as (services, _), listening(services) as (port, _):
        with capture_logs() as events:
            async with connected(port) as connection:
                await connection.send(
                    b'GET /a%0d%0a{"event":"forged"} HTTP/1.1\r\nHost: localhost\r\n'
                    b"X-Request-ID: b\tc\r\n\r\n"
                )
                assert (await connection.answer()).status == 404
    (event,) = events
    assert event["path"] == '/a\r\n{"event":"forged"}'
    assert re.fullmatch(r"[0-9a-f-]{36}", event["request_id"])


# -- secrets

ADDRESS = f"http://somebody:{HIDDEN}@registry.example:5000/x?y=a@b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ADDRESS, "http://***@registry.example:5000/x?y=a@b"),
        (f"s3://{HIDDEN}:{HIDDEN}@bucket and {ADDRESS}", "s3://***@bucket and http://***@registry"),
        (f"https://a:{HIDDEN}@{HIDDEN}@host", "https://***@host"),
        (f"postgresql+psycopg://a:{HIDDEN}!$&@host/db", "postgresql+psycopg://***@host/db"),
        ("sqlite:///a/b@c.db and me@example.com", "sqlite:///a/b@c.db and me@example.com"),
        ("http://host/path@x", "http://host/path@x"),
    ],
)
def test_an_address_is_told_without_who_is_in_it(text: str, shown: str) -> None:
    assert redacted(text).startswith(shown)
    assert HIDDEN not in redacted(text)


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_event_holds_a_password(form: str) -> None:
    code = f"""
import logging, warnings
log.info("a", uri={ADDRESS!r}, more=[{ADDRESS!r}])
logging.getLogger("lib").warning("failed: %s", {ADDRESS!r})
warnings.warn({ADDRESS!r})
try:
    raise ValueError({ADDRESS!r})
except ValueError:
    log.exception("b")
"""
    printed = events_of(code, form)
    assert HIDDEN not in printed
    assert printed.count("***@registry.example") >= 5


def test_no_error_holds_a_password() -> None:
    for error in (RegistryUnavailable(ADDRESS, f"no answer from {ADDRESS}"),
                  LogWriteFailed("a", ADDRESS)):  # fmt: skip
        assert HIDDEN not in str(error)
        assert "***@registry.example" in str(error)
        assert HIDDEN not in told(error)
    assert HIDDEN not in told(ValueError(ADDRESS))


def test_the_configuration_is_printed_without_passwords() -> None:
    settings = Config.model_validate(
        {"registry": {"tracking_uri": ADDRESS}, "log": {"archives": [f"s3://a:{HIDDEN}@b"]}}
    )
    printed = config.to_toml(settings)
    assert HIDDEN not in printed
    assert "***@registry.example" in printed


async def test_no_answer_holds_the_password_of_the_registry(serve: Serve, served: Any) -> None:
    assert "secret" in served.model.card.tracking_uri

    async def failing(_: bool) -> Any:
        raise OSError(f"no answer from {ADDRESS}")

    async with serve(force_cycle=failing) as (_, client):
        for path in ("/", "/health", "/ready", "/model/info", "/metrics", "/monitoring/stats",
                     "/openapi.json", "/docs"):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "secret" not in answer.text, path
        with capture_logs():
            failed = await client.post("/monitoring/run")
        assert failed.status_code == 500
        assert HIDDEN not in failed.text
