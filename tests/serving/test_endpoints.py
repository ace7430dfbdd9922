"""Everything that is not a prediction: status, monitoring, documents, refusals of the router."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import anyio
import httpx
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from monitorkit.app import shown
from monitorkit.contracts import (
    CycleNote,
    DriftSummary,
    Finding,
    MonitoringStatus,
    Outcome,
    RunResult,
    Skipped,
    Window,
)
from monitorkit.dashboard import routes as dashboard
from monitorkit.dashboard.live import Live
from monitorkit.errors import CycleBusy, ReferenceChanged, ResultsUnreadable, WorkerTimeout
from monitorkit.serving.application import Application
from monitorkit.serving.components import EXAMPLES
from monitorkit.serving.problems import KINDS
from monitorkit.serving.routes import LINKS, routes
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services
from monitorkit.settings import Serving

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]
Cycle = Callable[[bool], Awaitable[RunResult | Skipped]]
START = datetime(2025, 1, 1, 12, tzinfo=UTC)


def result(number: int) -> RunResult:
    """A result as a cycle makes it."""
    started = START + timedelta(minutes=5 * number)
    return RunResult(
        run_id=f"{started:%Y%m%dT%H%M%S}000000Z-{number:08x}",
        trigger="forced",
        started_at=started,
        finished_at=started + timedelta(seconds=1),
        model_name="credit-risk-model",
        window=Window(250, started - timedelta(hours=1), started, "1", 86400.0),
        min_rows=200,
        reference_hash="ab" * 32,
        cursor={},
        drift=DriftSummary(
            "feature-drift",
            dataset_drift_detected=True,
            drift_share=0.75,
            share_threshold=0.5,
            drifted_features=["age", "DebtRatio", "x"],
            num_features_evaluated=4,
            excluded_features={},
        ),
        outcomes=[
            Outcome(
                "proxy-metrics",
                "proxy_metrics",
                "ok",
                [Finding("positive_rate", 0.125), Finding("odd", None)],
                0.01,
            ),
            Outcome("feature-drift", "ks", "drift", [Finding("ks", 0.5, column="age")], 0.02),
        ],
    )


def raising(error: Exception) -> Cycle:
    async def force(_: bool) -> RunResult | Skipped:
        raise error

    return force


# -- service


async def test_the_index_links_to_everything(client: httpx.AsyncClient) -> None:
    document = (await client.get("/")).json()
    assert document["service"] == "monitorkit"
    assert document["version"] == version("monitorkit")
    assert document["model"] == {"name": "credit-risk-model", "version": "1"}
    for link in document["links"].values():
        assert (await client.get(link)).status_code in (200, 405), link


async def test_the_index_sends_browsers_to_the_dashboard(client: httpx.AsyncClient) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    response = await client.get("/", headers=browser)
    assert (response.status_code, response.headers["location"]) == (302, "dashboard")
    page = await client.get("/", headers=browser, follow_redirects=True)
    assert (str(page.url), page.status_code) == ("http://localhost/dashboard", 200)
    for accept in ("application/json", "*/*"):
        response = await client.get("/", headers={"Accept": accept})
        assert response.json()["service"] == "monitorkit"
        assert response.headers["vary"] == "Accept"


async def test_health_says_what_is_served_and_logged(
    serve: Serve, status: MonitoringStatus, row: dict[str, Any]
) -> None:
    note = CycleNote("skipped", START, "periodic", rows=3, reason="too few")
    async with serve(status=replace(status, last_cycle=note)) as (_, client):
        await client.post("/predict/batch", json=[row] * 3)
        health = (await client.get("/health")).json()
    assert health["status"] == "ok"
    assert health["reasons"] == []
    assert health["model_loaded"] is True
    assert health["model_name"] == "credit-risk-model"
    assert health["model_version"] == "1"
    assert health["model_stage"] == "production"
    assert health["predictions_logged"] == 3
    assert health["log"] == {"failure": None}
    assert health["reference"] == {"status": "ok", "hash": "ab" * 32, "error": None}
    assert health["last_cycle"]["outcome"] == "skipped"
    assert health["last_cycle"]["finished_at"] == "2025-01-01T12:00:00Z"
    assert health["queue"] == {
        "waiting_rows": 0, "refused_rows": 0, "dropped_rows": 0, "late_rows": 0
    }  # fmt: skip
    assert 0 <= health["uptime_seconds"] < 60


async def test_a_changed_reference_degrades_health_but_not_readiness(
    serve: Serve, status: MonitoringStatus, row: dict[str, Any]
) -> None:
    changed = replace(status, reference="changed", reference_error="expected a, found b")
    async with serve(status=changed) as (_, client):
        health = (await client.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["reasons"] == ["the reference is changed: monitoring is off, serving goes on"]
        assert health["reference"]["error"] == "expected a, found b"
        assert (await client.get("/ready")).json() == {"ready": True}
        assert (await client.post("/predict", json=row)).status_code == 200


async def test_a_cycle_that_failed_degrades_health_until_one_does_not(
    serve: Serve, status: MonitoringStatus
) -> None:
    failed = replace(
        status, last_cycle=CycleNote("failed", datetime.now(UTC), "periodic", reason="x")
    )
    async with serve(status=failed) as (_, client):
        health = (await client.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["reasons"] == [
            "the last monitoring cycle failed, serving goes on: see last_cycle.reason"
        ]
        assert (await client.get("/ready")).json() == {"ready": True}


async def test_readers_of_results_never_hold_up_readiness(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(*_: object) -> list[object]:
        release.wait(30)
        return []

    monkeypatch.setattr(services.results, "list", hang)
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(client.get, "/monitoring/results")
        await anyio.sleep(0.2)
        with anyio.fail_after(2):
            assert (await client.get("/ready")).json() == {"ready": True}
        release.set()


async def test_results_that_cannot_be_read_degrade_health_but_not_readiness(
    serve: Serve, status: MonitoringStatus, row: dict[str, Any]
) -> None:
    trouble = replace(status, results_error="the results in r cannot be read: Not a directory")
    async with serve(status=trouble) as (_, client):
        health = (await client.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["reasons"] == [
            "the results cannot be read: monitoring is off, serving goes on"
        ]
        assert health["results"]["error"] == trouble.results_error
        assert (await client.get("/ready")).json() == {"ready": True}
        assert (await client.post("/predict", json=row)).status_code == 200


async def test_health_answers_without_a_model(
    services: Services, client: httpx.AsyncClient
) -> None:
    services.slot.current = None
    health = (await client.get("/health")).json()
    assert (health["status"], health["model_loaded"], health["model_version"]) == (
        "degraded", False, None
    )  # fmt: skip
    assert health["reasons"] == ["no model is loaded"]
    assert (await client.get("/")).json()["model"] is None


async def test_model_info_is_the_card_with_bounds_spellings_and_engine(
    client: httpx.AsyncClient, served: Served
) -> None:
    info = (await client.get("/model/info")).json()
    card = served.model.card
    assert (info["name"], info["version"], info["alias"]) == (card.name, "1", "production")
    assert info["run_id"] == card.run_id
    assert info["classes"] == [0, 1]
    assert info["positive_class"] == 1
    assert info["estimator"] == "LogisticRegression"
    assert info["sha256"] == card.sha256
    assert info["metadata"]["metrics"] == {"roc_auc": 0.9}
    assert info["engine"] == served.model.scorer.choice.name
    assert info["max_difference"] == served.model.scorer.choice.max_difference
    assert info["tracking_uri"] == "http://***@registry.example:5000", "without the password"
    assert info["features"][:2] == [
        {
            "name": "age",
            "type": "integer",
            "nullable": False,
            "minimum": 18.0,
            "maximum": 120.0,
            "spellings": ["age"],
        },
        {
            "name": "NumberOfTime30-59DaysPastDueNotWorse",
            "type": "integer",
            "nullable": False,
            "minimum": None,
            "maximum": None,
            "spellings": [
                "NumberOfTime30-59DaysPastDueNotWorse",
                "NumberOfTime30_59DaysPastDueNotWorse",
            ],
        },
    ]


# -- monitoring


async def test_stats_before_and_after_the_first_result(
    services: Services, client: httpx.AsyncClient
) -> None:
    before = (await client.get("/monitoring/stats")).json()
    assert before["predictions_logged"] == 0
    assert before["monitoring"]["enabled"] is True
    assert before["monitoring"]["reference"] == "ok"
    assert before["latest"] is None
    services.results.commit(result(1))
    services.results.commit(result(2))
    latest = (await client.get("/monitoring/stats")).json()["latest"]
    assert latest["run_id"] == result(2).run_id
    assert latest["window"]["rows"] == 250
    assert latest["drift"]["dataset_drift_detected"] is True
    assert latest["drift"]["num_drifted_features"] == 3
    assert latest["monitors"] == {"proxy-metrics": "ok", "feature-drift": "drift"}
    assert [(f["measure"], f["value"]) for f in latest["proxy_metrics"]] == [
        ("positive_rate", 0.125), ("odd", None)
    ]  # fmt: skip


async def test_results_are_paged_newest_first(
    services: Services, client: httpx.AsyncClient
) -> None:
    for number in range(5):
        services.results.commit(result(number))
    seen: list[str] = []
    link: str | None = "/monitoring/results?limit=2"
    pages = 0
    while link is not None:
        page = (await client.get(link)).json()
        assert page["total"] == 5
        seen += [summary["run_id"] for summary in page["results"]]
        link = page["next"]
        pages += 1
    assert seen == [result(number).run_id for number in (4, 3, 2, 1, 0)]
    assert pages == 3
    beyond = (await client.get("/monitoring/results?offset=9")).json()
    assert (beyond["results"], beyond["next"], beyond["limit"]) == ([], None, 20)


@pytest.mark.parametrize("text", ["0", "1001", "-1", "x", "1.0", "", "٣"])
async def test_a_wrong_page_is_refused(client: httpx.AsyncClient, text: str) -> None:
    response = await client.get("/monitoring/results", params={"limit": text, "more": "1"})
    assert response.status_code == 422
    assert response.json()["errors"] == [
        {"field": "limit", "message": "must be a whole number from 1 to 1000", "input": text},
        {
            "field": "more",
            "message": "is not a query parameter; known: limit, offset",
            "input": "1",
        },
    ]


async def test_one_result_is_its_file_byte_for_byte(
    services: Services, client: httpx.AsyncClient
) -> None:
    document = services.results.commit(result(1))
    response = await client.get(f"/monitoring/results/{result(1).run_id}")
    assert response.content == document
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "run_id", ["nothing", "..%2f..%2fpredictions%2fpredictions", "%00", "x" * 300]
)
async def test_an_unknown_result_is_a_404(client: httpx.AsyncClient, run_id: str) -> None:
    response = await client.get(f"/monitoring/results/{run_id}")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:monitorkit:problem:not-found"


async def test_results_that_cannot_be_read_are_a_503_that_says_why(
    services: Services, client: httpx.AsyncClient
) -> None:
    services.results.commit(result(1))
    folder = services.results.folder
    aside = folder.rename(folder.with_name("aside"))
    folder.write_text("a file in its place")
    run_id = result(1).run_id
    paths = {
        "/monitoring/stats": {},
        "/monitoring/results": {},
        "/monitoring/results/{run_id}": {"run_id": run_id},
        "/monitoring/results/{run_id}/reports/{name}": {"run_id": run_id, "name": "a.html"},
        "/dashboard": {},
        "/dashboard/events": {},
        "/dashboard/fragments/{name}": {"name": "glance"},
        "/dashboard/results/{run_id}": {"run_id": run_id},
    }
    documented = (await openapi(client))["paths"]
    with capture_logs() as events:
        for path, parts in paths.items():
            response = await client.get(path.format(**parts))
            assert response.status_code == 503, path
            assert response.json()["type"] == "urn:monitorkit:problem:results-unreadable"
            assert f"{folder} cannot be read: Not a directory" in response.json()["detail"]
            assert response.headers["retry-after"] == "5"
            assert "503" in documented[path]["get"]["responses"], path
        for path in ("/metrics", "/health", "/ready"):
            assert (await client.get(path)).status_code == 200, path
    assert events == []
    folder.unlink()
    aside.rename(folder)
    assert (await client.get("/monitoring/results")).json()["total"] == 1
    assert (await client.get("/dashboard")).status_code == 200


async def test_a_forced_cycle_with_too_few_rows_is_skipped_with_count_and_reason(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/monitoring/run")
    assert response.status_code == 200
    assert response.json() == {
        "status": "skipped",
        "rows": 12,
        "min_rows": 200,
        "reason": "12 rows in the last 24h, 200 are needed",
    }


@pytest.mark.parametrize(
    ("body", "reports"), [("", False), ("{}", False), ('{"reports": true}', True)]
)
async def test_a_forced_cycle_answers_with_its_result(
    serve: Serve, body: str, reports: bool
) -> None:
    wishes: list[bool] = []

    async def force(wish: bool) -> RunResult:
        wishes.append(wish)
        return result(1)

    async with serve(force_cycle=force) as (services, client):
        answer = (await client.post("/monitoring/run", content=body)).json()
        services.results.commit(result(1))
        stored = (await client.get(f"/monitoring/results/{answer['run_id']}")).json()
    assert answer == {"status": "completed", "run_id": result(1).run_id, "result": stored}
    assert wishes == [reports]


@pytest.mark.parametrize(
    ("body", "status", "errors"),
    [
        ("{", 400, []),
        ("[]", 422, [(None, "must be an object")]),
        ('{"reports": 1}', 422, [("reports", "must be true or false")]),
        ('{"report": true}', 422, [("report", "is unknown; did you mean 'reports'?")]),
    ],
)
async def test_a_wrong_wish_is_refused(
    client: httpx.AsyncClient, body: str, status: int, errors: list[tuple[str, str]]
) -> None:
    response = await client.post("/monitoring/run", content=body)
    assert response.status_code == status
    found = [(error["field"], error["message"]) for error in response.json()["errors"]]
    assert found == errors


@pytest.mark.parametrize(
    ("error", "status", "name", "words"),
    [
        (CycleBusy(30), 409, "cycle-busy", "another monitoring cycle"),
        (ReferenceChanged("r.csv", "aa", "bb"), 409, "reference", "expected SHA-256 aa, found bb"),
        (WorkerTimeout("ks", 60), 500, "cycle-failed", "ks took longer than 60 s"),
        (ResultsUnreadable("r", "Not a directory"), 503, "results-unreadable", "the results in r"),
        (RuntimeError("a secret"), 500, "internal", "The service failed"),
    ],
)
async def test_a_cycle_that_cannot_run_says_why(
    serve: Serve, error: Exception, status: int, name: str, words: str
) -> None:
    async with serve(force_cycle=raising(error)) as (_, client):
        with capture_logs() as events:
            response = await client.post("/monitoring/run")
    assert response.status_code == status
    assert response.json()["type"] == f"urn:monitorkit:problem:{name}"
    assert words in response.json()["detail"]
    assert "secret" not in response.text
    assert [event["log_level"] for event in events] == (["error"] if status >= 500 else [])


# -- what the router refuses


@pytest.mark.parametrize("path", ["/nowhere", "/predict/", "/predict/x", "/docs/x", "/monitoring"])
async def test_an_unknown_path_is_a_404_problem(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:monitorkit:problem:not-found"
    head = await client.head(path)
    assert head.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("DELETE", "/predict/batch", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("OPTIONS", "/monitoring/run", "POST"),
        ("PUT", "/docs", "GET, HEAD"),
    ],
)
async def test_another_method_is_a_405_problem_that_names_the_right_one(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert response.json()["type"] == "urn:monitorkit:problem:method-not-allowed"
    assert response.json()["detail"] == f"{path} takes {allowed}."


async def test_head_is_answered_where_get_is(client: httpx.AsyncClient) -> None:
    for path in ("/", "/health", "/ready", "/model/info", "/openapi.json", "/docs"):
        assert (await client.head(path)).status_code == 200


# -- ids, events


async def test_an_error_carries_the_id_that_the_client_gave(client: httpx.AsyncClient) -> None:
    response = await client.get("/nowhere", headers={"X-Request-ID": "mine-7"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "mine-7"


@pytest.mark.parametrize("given", ["", "two words", "x" * 200, 'quote"', "tab\there"])
async def test_an_id_that_is_no_plain_word_is_replaced(
    client: httpx.AsyncClient, given: str
) -> None:
    response = await client.get("/nowhere", headers={"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f-]{36}", response.json()["request_id"])


async def test_the_access_log_is_one_event_for_each_request_and_off_by_default(
    serve: Serve, row: dict[str, Any]
) -> None:
    async with serve({"access_log": True}) as (_, client):
        with capture_logs() as events:
            good = await client.post("/predict", json=row, headers={"X-Request-ID": "mine"})
            await client.get("/nowhere")
    assert good.headers["x-request-id"] == "mine"
    assert [(e["event"], e["method"], e["path"], e["status"]) for e in events] == [
        ("request", "POST", "/predict", 200),
        ("request", "GET", "/nowhere", 404),
    ]
    assert events[0]["request_id"] == "mine"
    assert events[0]["milliseconds"] > 0


async def test_without_the_access_log_a_good_request_is_no_event(
    client: httpx.AsyncClient, row: dict[str, Any]
) -> None:
    with capture_logs() as events:
        await client.post("/predict", json=row)
        await client.get("/nowhere")
    assert events == []


async def test_an_error_nobody_foresaw_is_a_500_without_insides_and_an_event_with_them() -> None:
    async def broken(_: Request) -> Response:
        raise KeyError("a secret path")

    app = Application(Serving(), None, Route("/broken", broken))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        with capture_logs() as events:
            response = await client.get("/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    [event] = events
    assert (event["event"], event["log_level"]) == ("request_failed", "error")
    assert event["exc_info"]
    assert event["request_id"] == response.json()["request_id"]


async def test_an_error_within_an_answer_ends_the_connection_and_is_an_event() -> None:
    async def broken(_: Request) -> Response:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise KeyError("a secret path")

        return StreamingResponse(half())

    app = Application(Serving(), None, Route("/broken", broken))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        with capture_logs() as events, pytest.raises(KeyError):
            await client.get("/broken")
    assert [event["event"] for event in events] == ["request_failed"]


# -- documents


async def openapi(client: httpx.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await client.get("/openapi.json")).json()
    return document


async def test_the_openapi_document_is_valid_with_and_without_a_model(
    services: Services, client: httpx.AsyncClient
) -> None:
    OpenAPIV31SpecValidator(await openapi(client)).validate()
    services.slot.current = None
    OpenAPIV31SpecValidator(await openapi(client)).validate()


async def test_every_route_is_documented_with_its_methods_and_no_other_is(
    services: Services, client: httpx.AsyncClient
) -> None:
    documented = {
        (path, method.upper())
        for path, operations in (await openapi(client))["paths"].items()
        for method in operations
    }
    sources = shown(services)
    served = {
        (route.path, method)
        for route in [*routes(services), *dashboard.routes(sources, Live(sources))]
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert documented == served
    assert set(LINKS.values()) <= {path for path, _ in served}


async def test_the_request_schema_shows_the_features_as_clients_send_them(
    client: httpx.AsyncClient, row: dict[str, Any]
) -> None:
    schema = (await openapi(client))["components"]["schemas"]["PredictionRequest"]
    assert list(schema["properties"]) == list(row)
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(row)[:3]
    age = schema["properties"]["age"]
    assert (age["type"], age["minimum"], age["maximum"]) == ("integer", 18.0, 120.0)
    late = schema["properties"]["NumberOfTime30-59DaysPastDueNotWorse"]
    assert late["description"] == "Also taken as `NumberOfTime30_59DaysPastDueNotWorse`."
    income = schema["properties"]["MonthlyIncome"]
    assert [part["type"] for part in income["anyOf"]] == ["number", "null"]
    jsonschema.validate(row, schema)
    for example in schema["examples"]:
        jsonschema.validate(example, schema)
        assert (await client.post("/predict", json=example)).status_code == 200


async def test_the_document_follows_the_model(
    services: Services, client: httpx.AsyncClient, successor: Served
) -> None:
    first = await openapi(client)
    services.slot.current = successor
    second = await openapi(client)
    for document, number in ((first, "1"), (second, "2")):
        schema = document["components"]["schemas"]["PredictionRequest"]
        assert schema["description"] == f"One row for credit-risk-model version {number}."


async def test_answers_are_as_documented(
    services: Services, client: httpx.AsyncClient, row: dict[str, Any]
) -> None:
    services.results.commit(result(1))
    document = await openapi(client)
    calls: list[tuple[str, str, str, Any]] = [
        ("post", "/predict", "/predict", row),
        ("post", "/predict", "/predict", {}),
        ("post", "/predict/batch", "/predict/batch", [row, row]),
        ("post", "/monitoring/run", "/monitoring/run", None),
        ("get", "/monitoring/stats", "/monitoring/stats", None),
        ("get", "/monitoring/results", "/monitoring/results", None),
        ("get", "/monitoring/results", "/monitoring/results?limit=x", None),
        ("get", "/monitoring/results/{run_id}", "/monitoring/results/nothing", None),
        ("get", "/", "/", None),
        ("get", "/health", "/health", None),
        ("get", "/ready", "/ready", None),
        ("get", "/model/info", "/model/info", None),
    ]
    for method, template, path, body in calls:
        response = await client.request(method, path, json=body)
        answer = document["paths"][template][method]["responses"][str(response.status_code)]
        if "$ref" in answer:
            answer = document["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
        media_type = response.headers["content-type"]
        schema = {**answer["content"][media_type]["schema"], "components": document["components"]}
        jsonschema.validate(
            response.json(), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )


async def test_every_problem_has_an_example_with_its_status(client: httpx.AsyncClient) -> None:
    document = await openapi(client)
    shown = {}
    for name, response in document["components"]["responses"].items():
        examples = response["content"]["application/problem+json"]["examples"]
        for problem, example in examples.items():
            assert name == f"Problem{example['value']['status']}"
            jsonschema.validate(
                example["value"],
                {
                    "$ref": "#/components/schemas/Problem",
                    "components": document["components"],
                },
            )
            shown[problem] = example["value"]["status"]
    assert shown == {name: KINDS[name][0] for name in EXAMPLES}


async def test_the_documentation_page_needs_nothing_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "://" not in page.text
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 5
    for link in links:
        response = await client.get(f"/{link}")
        assert response.status_code == 200, link
        assert response.content
    script = await client.get("/docs/start.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert 'url: "openapi.json"' in script.text
    assert "validatorUrl: null" in script.text
    bundle = await client.get("/docs/swagger-ui-bundle.js")
    assert "SwaggerUIBundle" in bundle.text
