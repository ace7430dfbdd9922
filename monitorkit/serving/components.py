"""The components of the OpenAPI document: the shapes of requests, answers and problems."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, get_args

from monitorkit.contracts import ReferenceStatus
from monitorkit.serving.problems import KINDS, MEDIA_TYPE, TYPE_PREFIX
from monitorkit.serving.served import Served, example

Schema = dict[str, Any]

REQUEST_ID = "018f9c4e-7d1a-7c3e-9b1a-2f6d3c5e8a90"
PREDICTION_ID = "018f9c4e-7d1a-7c3e-9b1a-2f6d3c5e8a91"
REQUEST_ID_HEADER: Schema = {
    "description": "The id of the request: the client's X-Request-ID when it is a plain word of at "
    "most 128 characters, else the prediction_id of its first row (which then need not be repeated "
    "here), else a new one.",
    "schema": {"type": "string"},
}

EXAMPLES: Mapping[str, str] = {
    "invalid-json": "The body is not JSON: it is empty.",
    "invalid-request": "What came is no HTTP/1.1 request.",
    "unauthorized": "The Authorization header is missing. Send `Authorization: Bearer KEY`.",
    "forbidden": "This needs the scope `operate`, and the key 'client' has `predict`.",
    "other-site": "A browser sent this for https://example.com, which is another site.",
    "not-found": "There is nothing at /nowhere. GET / lists what there is.",
    "method-not-allowed": "/predict takes POST.",
    "request-timeout": "The rest of the request did not come in time.",
    "cycle-busy": "Another cycle runs. Try again when it is done.",
    "reference": "Expected SHA-256 1c7d…, found 9a0e….",
    "too-large": "The body is larger than 4194304 bytes.",
    "unsupported-media-type": "Content-Type is 'text/csv'; send application/json (UTF-8).",
    "unknown-host": "Host is 'example.com', which is no name of this service.",
    "invalid-fields": "1 field is wrong; see errors.",
    "head-too-large": "The head of the request is larger than 65536 bytes.",
    "internal": "The event with this request_id says why.",
    "prediction-failed": "Nothing was logged or answered.",
    "cycle-failed": "The reason, in words.",
    "no-model": "No model is loaded yet. Try again later.",
    "not-ready": "No model is loaded.",
    "too-many-connections": "5000 connections are open, which is the limit.",
    "overloaded": "20000 rows wait already, the limit is 20000.",
    "too-many-listeners": "64 pages follow the dashboard, which is the limit. Close some.",
    "stopping": "Send them again to the next one.",
    "log-not-writable": "The prediction log cannot be written (No space left on device), so "
    "nothing was answered.",
    "results-unreadable": "The results in monitoring/metrics/monitoring_results cannot be read "
    "(Permission denied).",
}
"""Of the detail of every problem that an endpoint may answer with."""


def schemas(served: Served | None) -> Schema:
    """`components.schemas`, for one served model."""
    text, number = {"type": "string"}, {"type": "number"}
    label: Schema = {"description": "The predicted class."}
    if served is not None:
        label["enum"] = list(served.model.card.classes)
    return {
        "PredictionRequest": _request(served),
        "Prediction": _object(
            {
                "prediction_id": {**text, "description": "Unique, and sorts by time (UUIDv7)."},
                "timestamp": {**text, "format": "date-time", "description": "UTC."},
                "model_version": text,
                "prediction": label,
                "probability": {
                    **number,
                    "minimum": 0,
                    "maximum": 1,
                    "description": "Of the positive class.",
                },
            },
            examples=[_prediction(served)],
        ),
        "Predictions": _object({"predictions": _list(ref("Prediction"))}),
        "Problem": _object(
            {
                "type": {
                    **text,
                    "format": "uri",
                    "description": "What kind of problem: "
                    + ", ".join(f"`{TYPE_PREFIX}{name}`" for name in EXAMPLES),
                },
                "title": text,
                "status": {"type": "integer"},
                "detail": text,
                "request_id": {**text, "description": "Also in X-Request-ID and in the events."},
                "errors": _list(ref("FieldError")),
            }
        ),
        "FieldError": _object(
            {
                "field": {"type": ["string", "null"], "description": "null: the body or row."},
                "message": text,
                "input": {"description": "What was given, when it is short."},
                "row": {"type": "integer", "description": "Index in a batch."},
            },
            optional=("input", "row"),
        ),
        "RunRequest": _object(
            {
                "reports": {
                    "type": "boolean",
                    "default": False,
                    "description": "Also make the HTML reports.",
                }
            },
            optional=("reports",),
            additionalProperties=False,
        ),
        "Run": {
            "oneOf": [
                _object(
                    {
                        "status": {"const": "completed"},
                        "run_id": text,
                        "result": {"type": "object", "description": "The result file."},
                    }
                ),
                _object(
                    {
                        "status": {"const": "skipped"},
                        "rows": {"type": "integer"},
                        "min_rows": {"type": "integer"},
                        "reason": text,
                    }
                ),
            ]
        },
        "Results": _object(
            {
                "results": _list({"type": "object"}),
                "total": {"type": "integer"},
                "limit": {"type": "integer"},
                "offset": {"type": "integer"},
                "next": {"type": ["string", "null"], "description": "The next page."},
            }
        ),
        "Health": _object(
            {
                "status": {"enum": ["ok", "degraded"]},
                "reasons": _list(text),
                "model_loaded": {"type": "boolean"},
                "model_name": text,
                "model_version": {"type": ["string", "null"]},
                "model_stage": {**text, "description": "The alias that is followed."},
                "predictions_logged": {"type": "integer"},
                "log": _object({"failure": {"type": ["string", "null"]}}),
                "disk": _object(
                    {
                        "free_bytes": {"type": ["integer", "null"]},
                        "warning_bytes": {"type": ["integer", "null"]},
                        "almost_full": {"type": "boolean"},
                    }
                ),
                "reference": _object(
                    {
                        "status": {"enum": list(get_args(ReferenceStatus))},
                        "hash": {"type": ["string", "null"]},
                        "error": {"type": ["string", "null"]},
                    }
                ),
                "results": _object({"error": {"type": ["string", "null"]}}),
                "last_cycle": {"type": ["object", "null"]},
                "queue": _object(
                    {
                        name: {"type": "integer"}
                        for name in ("waiting_rows", "refused_rows", "dropped_rows", "late_rows")
                    }
                ),
                "version": text,
                "started_at": {**text, "format": "date-time"},
                "uptime_seconds": number,
            }
        ),
        "Ready": _object({"ready": {"const": True}}),
        "Object": {"type": "object"},
    }


def _request(served: Served | None) -> Schema:
    """The schema that pydantic validates by, with the second spellings in words."""
    if served is None:
        return {"type": "object", "description": "No model is loaded."}
    schema = served.request.model_json_schema(by_alias=True, mode="validation")
    spellings = served.schema.spellings
    for feature in served.schema.features:
        others = spellings[feature.name][1:]
        words = [f"Also taken as `{other}`." for other in others]
        if feature.nullable:
            words.append("Null or left out: missing.")
        if words:
            schema["properties"][feature.name]["description"] = " ".join(words)
    card = served.model.card
    schema["description"] = f"One row for {card.name} version {card.version}."
    schema["examples"] = [example(served.schema)]
    return schema


def _prediction(served: Served | None) -> Schema:
    return {
        "prediction_id": PREDICTION_ID,
        "timestamp": "2025-01-01T12:00:00.000000Z",
        "model_version": served.model.card.version if served is not None else "1",
        "prediction": served.model.card.classes[0] if served is not None else 0,
        "probability": 0.0625,
    }


def responses() -> Schema:
    """`components.responses`: one for each status, with an example of each of its problems."""
    found: Schema = {}
    for name, detail in EXAMPLES.items():
        status, title = KINDS[name]
        response = found.setdefault(
            f"Problem{status}",
            {
                "description": title,
                "headers": {"X-Request-ID": REQUEST_ID_HEADER},
                "content": {MEDIA_TYPE: {"schema": ref("Problem"), "examples": {}}},
            },
        )
        if status == HTTPStatus.UNAUTHORIZED:
            response["headers"]["WWW-Authenticate"] = {
                "description": "How to prove who you are: Bearer.",
                "schema": {"type": "string"},
            }
        if status in (409, 503):
            response["headers"]["Retry-After"] = {
                "description": "Seconds to wait, where waiting helps.",
                "schema": {"type": "integer"},
            }
        if title not in response["description"]:
            response["description"] += f", or: {title[0].lower()}{title[1:]}"
        errors: list[Schema] = []
        if name == "invalid-fields":
            errors = [{"field": "age", "message": "must be at least 18", "input": 3}]
        response["content"][MEDIA_TYPE]["examples"][name] = {
            "value": {
                "type": TYPE_PREFIX + name,
                "title": title,
                "status": status,
                "detail": detail,
                "request_id": REQUEST_ID,
                "errors": errors,
            }
        }
    return found


def _object(properties: Schema, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def path_parameter(name: str) -> Schema:
    """A part of a path that says which."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def ref(name: str) -> Schema:
    """A reference to one of `schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}
