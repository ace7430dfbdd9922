"""Every answer says the id of its request, which leads to its events and to its logged rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs
from wire import connected, listening

from monitorkit.contracts import RunResult, Skipped
from monitorkit.errors import WorkerTimeout
from monitorkit.serving.services import Services

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]
Row = dict[str, Any]

INFER = "/v2/models/credit-risk-model/infer"


def tensors(rows: list[Row]) -> Row:
    """The rows as an Open Inference request."""
    return {
        "inputs": [
            {
                "name": name,
                "shape": [len(rows)],
                "datatype": "FP64",
                "data": [row[name] for row in rows],
            }
            for name in rows[0]
        ]
    }


def logged(services: Services) -> list[str]:
    """The ids of the rows in the log, in order."""
    text = services.writer.path.read_text(encoding="utf-8")
    return [row["prediction_id"] for row in csv.DictReader(text.splitlines())]


def ids(answer: httpx.Response) -> list[str]:
    """The ids of the rows that an answer names, whatever its protocol."""
    return re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.text)


WAYS = {
    "/predict": lambda rows: rows[0],
    "/predict/batch": lambda rows: rows,
    "/invocations": lambda rows: {"dataframe_records": rows},
    INFER: tensors,
}


@pytest.mark.parametrize("path", WAYS)
async def test_an_id_that_is_made_is_that_of_the_first_row(
    serve: Serve, row: Row, path: str
) -> None:
    async with serve({"access_log": True}) as (services, client):
        with capture_logs() as events:
            answer = await client.post(path, json=WAYS[path]([row, row | {"age": 50}]))
        assert answer.status_code == 200
        assert ids(answer) == logged(services)
    first = ids(answer)[0]
    assert answer.headers.get_list("x-request-id") == [first]
    assert [(e["request_id"], e["prediction_id"]) for e in events] == [(first, first)]


@pytest.mark.parametrize("path", WAYS)
async def test_an_id_that_the_answer_holds_is_not_said_twice(
    client: httpx.AsyncClient, row: Row, path: str
) -> None:
    """It would be 1 us of each request."""
    answer = await client.post(path, json=WAYS[path]([row]))
    assert answer.status_code == 200
    assert "x-request-id" not in answer.headers
    assert len(ids(answer)) == 1


async def test_an_id_that_the_answer_leaves_out_is_in_its_header(
    services: Services, client: httpx.AsyncClient, row: Row
) -> None:
    body = tensors([row]) | {"outputs": [{"name": "probability"}]}
    answer = await client.post(INFER, json=body)
    assert answer.status_code == 200
    assert ids(answer) == []
    assert answer.headers.get_list("x-request-id") == logged(services)


@pytest.mark.parametrize("path", WAYS)
async def test_an_id_that_is_given_comes_back_and_its_event_leads_to_the_rows(
    serve: Serve, row: Row, path: str
) -> None:
    async with serve({"access_log": True}) as (services, client):
        await client.post("/predict", json=row)
        with capture_logs() as events:
            answer = await client.post(
                path, json=WAYS[path]([row, row | {"age": 50}]), headers={"X-Request-ID": "trace-7"}
            )
        await client.post("/predict", json=row)
        all_rows = logged(services)
    assert answer.headers.get_list("x-request-id") == ["trace-7"]
    (event,) = events
    assert event["request_id"] == "trace-7"
    first = all_rows.index(event["prediction_id"])
    assert all_rows[first : first + event["rows"]] == ids(answer)


@pytest.mark.parametrize("given", ["two words", "x" * 129, 'quote"', "<b>", "$(x)", "a;b", "é"])
async def test_an_id_that_is_no_plain_word_is_not_repeated(
    client: httpx.AsyncClient, row: Row, given: str
) -> None:
    headers = {b"X-Request-ID": given.encode()}
    answer = await client.post("/predict", json=row, headers=headers)
    assert answer.status_code == 200
    assert "x-request-id" not in answer.headers
    refused = await client.post("/predict", json={}, headers=headers)
    assert re.fullmatch(r"[0-9a-f-]{36}", refused.headers["x-request-id"])
    assert refused.json()["request_id"] == refused.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/dashboard", 200),
        ("GET", "/ping", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/v2/models/x", 404),
        ("PUT", "/predict", 405),
        ("POST", "/predict", 400),
        ("POST", INFER, 400),
        ("POST", "/invocations", 415),
    ],
)
async def test_every_answer_has_one_id(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    mine = await client.request(method, path, headers={"X-Request-ID": "a:b/c=1"}, content=b"")
    assert mine.status_code == status
    assert mine.headers.get_list("x-request-id") == ["a:b/c=1"]
    made = [
        (await client.request(method, path, content=b"")).headers["x-request-id"] for _ in range(2)
    ]
    assert all(re.fullmatch(r"[0-9a-f-]{36}", each) for each in made)
    assert len(set(made)) == 2


async def test_no_rows_have_an_id_of_their_own(client: httpx.AsyncClient) -> None:
    answer = await client.post("/predict/batch", json=[])
    assert answer.json() == {"predictions": []}
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


async def test_what_happens_within_a_request_is_an_event_with_its_id(serve: Serve) -> None:
    """`logs.configure` merges context into every event, in threads of the request, too."""
    seen: list[Any] = []

    async def fail(_: bool) -> RunResult | Skipped:
        seen.append(merge_contextvars(None, "info", {"event": "cycle_completed"}))
        raise WorkerTimeout("monitors", 60.0)

    async with serve(force_cycle=fail) as (_, client):
        with capture_logs(processors=[merge_contextvars]) as events:
            answer = await client.post("/monitoring/run", headers={"X-Request-ID": "forced-1"})
    assert answer.status_code == 500
    assert seen == [{"event": "cycle_completed", "request_id": "forced-1"}]
    assert [(e["event"], e["request_id"]) for e in events] == [("forced_cycle_failed", "forced-1")]
    assert get_contextvars() == {}


async def test_requests_are_counted_by_endpoint_and_status(
    client: httpx.AsyncClient, row: Row
) -> None:
    for _ in range(3):
        await client.post("/predict", json=row)
    await client.post("/predict", json={})
    await client.post(INFER, json=tensors([row]))
    await client.get("/monitoring/results/none")
    for path in ("/nowhere", "/elsewhere"):
        await client.get(path)
    text = (await client.get("/metrics")).text
    counts = dict(re.findall(r"^monitorkit_http_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE))
    assert counts == {
        'endpoint="/predict",status="200"': "3.0",
        'endpoint="/predict",status="422"': "1.0",
        'endpoint="/v2/models/{model}/infer",status="200"': "1.0",
        'endpoint="/monitoring/results/{run_id}",status="404"': "1.0",
        'endpoint="",status="404"': "2.0",
    }
    name = "monitorkit_http_request_duration_seconds"
    assert f'{name}_count{{endpoint="/predict"}} 4.0' in text
    assert f'{name}_bucket{{endpoint="/predict",le="+Inf"}} 4.0' in text
    lines = [line for line in text.splitlines() if line.startswith(f'{name}_bucket{{endpoint="/pr')]
    buckets = [float(line.rpartition(" ")[2]) for line in lines]
    assert len(buckets) == 15
    assert buckets == sorted(buckets)


async def test_what_is_refused_before_it_is_a_request_has_an_id_too(services: Services) -> None:
    """Of a request whose head came it is the one that the client gave, and not that of another."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: mine\r\n"
    async with listening(services) as (port, _):
        async with connected(port) as connection:
            await connection.send(head + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n")
            broken = await connection.answer()
        async with connected(port) as connection:
            await connection.send(head + b"Content-Length: 2\r\n\r\n{}")
            whole = await connection.answer()
            await connection.send(b"nonsense\r\n\r\n")
            nonsense = await connection.answer()
    assert (broken.status, whole.status, nonsense.status) == (400, 422, 400)
    for answer in (broken, whole, nonsense):
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert broken.headers["x-request-id"] == whole.headers["x-request-id"] == "mine"
    assert re.fullmatch(r"[0-9a-f-]{36}", nonsense.headers["x-request-id"])
