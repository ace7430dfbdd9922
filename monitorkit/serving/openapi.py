"""The OpenAPI 3.1 document: every endpoint and error, with the request model of what is served."""

from __future__ import annotations

from typing import Any

import monitorkit
from monitorkit.config import Config
from monitorkit.serving.components import (
    REQUEST_ID_HEADER,
    Schema,
    path_parameter,
    ref,
    responses,
    schemas,
)
from monitorkit.serving.guard import needed
from monitorkit.serving.problems import KINDS, MEDIA_TYPE
from monitorkit.serving.protocols import described
from monitorkit.serving.served import Served, example

_ANY = ("unknown-host", "internal")
_RESULTS = ("results-unreadable", *_ANY)
_BODY = (
    "invalid-json",
    "request-timeout",
    "other-site",
    "too-large",
    "unsupported-media-type",
    "invalid-fields",
    *_ANY,
)
_BEFORE: Schema = {
    "name": "before",
    "in": "query",
    "description": "The run_id of a result: the cycles before it.",
    "schema": {"type": "string"},
}
_PREDICT = (*_BODY, "prediction-failed", "no-model", "overloaded", "stopping", "log-not-writable")


def document(served: Served | None, config: Config) -> Schema:
    """The OpenAPI document.

    Args:
        served: what is served; None: requests are described as any object.
        config: for the limits that it states.
    """
    limit = config.serving.max_batch_rows
    many = {"type": "array", "maxItems": limit, "items": ref("PredictionRequest")}
    sample = example(served.schema) if served is not None else {}
    whole: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "monitorkit",
            "version": monitorkit.__version__,
            "description": "Answers predictions, keeps every one of them, and judges them against "
            "a frozen reference. Every error has the media type "
            f"`{MEDIA_TYPE}` and the shape of `Problem`; 404 and 405 too. When a field name is "
            "repeated in one JSON object, the last one counts, as in most JSON readers; two "
            "spellings of one feature in a row are an error. The endpoints of other protocols have "
            "the errors of these.",
        },
        "servers": [{"url": "./"}],
        "tags": [
            {"name": "predictions"},
            {"name": "monitoring"},
            {"name": "service"},
            {"name": "mlflow scoring"},
            {"name": "open inference"},
        ],
        "paths": {
            "/predict": {
                "post": _operation(
                    "predict",
                    "predictions",
                    "Predict one row",
                    "The answer is sent once the row is in the prediction log.",
                    _answer("Prediction"),
                    _PREDICT,
                    body=(ref("PredictionRequest"), sample),
                )
            },
            "/predict/batch": {
                "post": _operation(
                    "predictBatch",
                    "predictions",
                    "Predict many rows",
                    f"At most {limit} rows, all or nothing: one wrong row, and none is predicted "
                    f"or logged. Answers come in the order of the rows.",
                    _answer("Predictions"),
                    _PREDICT,
                    body=(many, [sample, sample]),
                )
            },
            "/monitoring/stats": {
                "get": _operation(
                    "monitoringStats",
                    "monitoring",
                    "How monitoring runs, and what it said last",
                    "",
                    _answer("Object"),
                    _RESULTS,
                )
            },
            "/monitoring/results": {
                "get": _operation(
                    "monitoringResults",
                    "monitoring",
                    "Committed results, newest first",
                    "",
                    _answer("Results"),
                    ("invalid-fields", *_RESULTS),
                    parameters=[
                        _query("limit", "Results on this page.", 20, 1, 1000),
                        _query("offset", "Newer results to leave out.", 0, 0, 999_999_999_999),
                    ],
                )
            },
            "/monitoring/results/{run_id}": {
                "get": _operation(
                    "monitoringResult",
                    "monitoring",
                    "One result, as it is on disk",
                    "",
                    _answer("Object"),
                    ("not-found", *_RESULTS),
                    parameters=[path_parameter("run_id")],
                )
            },
            "/monitoring/results/{run_id}/reports/{name}": {
                "get": _operation(
                    "monitoringReport",
                    "monitoring",
                    "A file that a monitor attached to a result, such as an HTML report",
                    "Its `reports` name them. HTML is answered in a sandbox.",
                    {"description": "The file", "content": {"*/*": {}}},
                    ("not-found", *_RESULTS),
                    parameters=[path_parameter("run_id"), path_parameter("name")],
                )
            },
            "/monitoring/run": {
                "post": _operation(
                    "monitoringRun",
                    "monitoring",
                    "Run a cycle now",
                    "Answers when the cycle is done. Too few rows in the look-back: `skipped`.",
                    _answer("Run"),
                    (*_BODY, "cycle-busy", "reference", "cycle-failed", "results-unreadable"),
                    body=(ref("RunRequest"), {"reports": True}),
                    body_required=False,
                )
            },
            **{
                path: {"get": _operation(name, "service", summary, "", _answer(answer), errors)}
                for path, name, summary, answer, errors in (
                    ("/", "index", "What this is, and where to go on", "Object", _ANY),
                    ("/health", "health", "What is well and what is not", "Health", _ANY),
                    (
                        "/ready",
                        "ready",
                        "Whether predictions are answered",
                        "Ready",
                        ("not-ready", *_ANY),
                    ),
                    (
                        "/model/info",
                        "modelInfo",
                        "The model that is served",
                        "Object",
                        ("no-model", *_ANY),
                    ),
                    ("/openapi.json", "openapi", "This document", "Object", _ANY),
                )
            },
            "/metrics": {
                "get": _operation(
                    "metrics",
                    "service",
                    "Metrics for Prometheus",
                    "",
                    {
                        "description": "Metrics as text",
                        "content": {"text/plain": {}, "application/openmetrics-text": {}},
                    },
                    _ANY,
                )
            },
            **_dashboard(),
            "/docs": {
                "get": _operation(
                    "docs",
                    "service",
                    "This document, to read and try",
                    "",
                    {"description": "A page", "content": {"text/html": {}}},
                    _ANY,
                )
            },
            "/docs/{file}": {
                "get": _operation(
                    "docsFile",
                    "service",
                    "What the page is made of",
                    "",
                    {"description": "A file", "content": {"*/*": {}}},
                    ("not-found", *_ANY),
                    parameters=[path_parameter("file")],
                )
            },
            **described.paths(served, limit),
        },
        "components": {
            "schemas": {**schemas(served), **described.schemas()},
            "responses": responses(),
        },
    }
    to_the_dashboard = {"description": "For browsers: the way to the dashboard"}
    whole["paths"]["/"]["get"]["responses"]["302"] = to_the_dashboard
    for operations in whole["paths"].values():
        for operation in operations.values():
            answer = operation["responses"]["200"]
            operation["responses"]["200"] = {
                **answer,
                "headers": {"X-Request-ID": REQUEST_ID_HEADER},
            }
    if config.serving.keys:
        _require_keys(whole)
    return whole


def _require_keys(whole: Schema) -> None:
    """Say of every operation which scope of a key it needs."""
    whole["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key. Each operation names the scopes of which it needs one: "
            "`predict`, `read` or `operate`.",
        }
    }
    for path, operations in whole["paths"].items():
        for operation in operations.values():
            scopes = needed(path)
            operation["security"] = [{"key": [scope]} for scope in scopes]
            if scopes:
                operation["responses"] |= described.key_errors(path) or {
                    str(status): {"$ref": f"#/components/responses/Problem{status}"}
                    for status in (401, 403)
                }


def _dashboard() -> Schema:
    """The page for people, and what it is made of."""
    return {
        path: {
            "get": _operation(
                name,
                "service",
                summary,
                "",
                {"description": summary, "content": {media_type: {}}},
                (*errors, *_ANY),
                parameters=parameters,
            )
        }
        for path, name, summary, media_type, errors, parameters in (
            (
                "/dashboard",
                "dashboard",
                "The dashboard, a page",
                "text/html",
                ("results-unreadable",),
                [_BEFORE],
            ),
            (
                "/dashboard/events",
                "dashboardEvents",
                "Server-sent events: which parts of the page have changed",
                "text/event-stream",
                ("too-many-listeners", "results-unreadable"),
                None,
            ),
            (
                "/dashboard/fragments/{name}",
                "dashboardFragment",
                "A part of the page",
                "text/html",
                ("not-found", "results-unreadable"),
                [path_parameter("name"), _BEFORE],
            ),
            (
                "/dashboard/results/{run_id}",
                "dashboardResult",
                "One result to read, a page",
                "text/html",
                ("not-found", "results-unreadable"),
                [path_parameter("run_id")],
            ),
            (
                "/dashboard/static/{file}",
                "dashboardFile",
                "What the page is made of: a file",
                "*/*",
                ("not-found",),
                [path_parameter("file")],
            ),
        )
    }


def _operation(  # noqa: D417, PLR0917 - in the order in which OpenAPI names them
    name: str,
    tag: str,
    summary: str,
    description: str,
    answer: Schema,
    errors: tuple[str, ...],
    *,
    body: tuple[Schema, Any] | None = None,
    body_required: bool = True,
    parameters: list[Schema] | None = None,
) -> Schema:
    """One operation.

    Args:
        errors: names of problems.
        body: schema and example.
    """
    statuses = sorted({KINDS[error][0] for error in errors})
    operation: Schema = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "responses": {
            "200": answer,
            **{str(s): {"$ref": f"#/components/responses/Problem{s}"} for s in statuses},
        },
    }
    if description:
        operation["description"] = description
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        schema, sample = body
        operation["requestBody"] = {
            "required": body_required,
            "content": {"application/json": {"schema": schema, "example": sample}},
        }
    return operation


def _answer(name: str) -> Schema:
    return {"description": "OK", "content": {"application/json": {"schema": ref(name)}}}


def _query(name: str, description: str, default: int, lowest: int, highest: int) -> Schema:
    schema = {"type": "integer", "default": default, "minimum": lowest, "maximum": highest}
    return {"name": name, "in": "query", "description": description, "schema": schema}
