"""What the OpenAPI document says of the other protocols' endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitorkit.serving.components import PREDICTION_ID, Schema, path_parameter, ref
from monitorkit.serving.protocols import mlflow_scoring
from monitorkit.serving.protocols.open_inference import MODEL, VERSION, metadata
from monitorkit.serving.protocols.tensors import DATATYPES
from monitorkit.serving.served import Served, example

_ERRORS = {
    "400": "The request is not what the protocol says, or a value is wrong",
    "401": "A key is needed",
    "403": "The key may not do this, or a web page of another site sent it",
    "404": "Another model or version than the one that is served",
    "408": "The request took too long to come",
    "413": "Too many bytes or rows",
    "415": "Another media type",
    "421": "The service has another name",
    "500": "The model gave no answer, or the service failed",
    "503": "It cannot be answered now",
}
_ANY = ("421", "500")
_BODY = ("400", "403", "408", "413", "415", "503", *_ANY)


def paths(served: Served | None, limit: int) -> Schema:
    """`paths`, for one served model.

    Args:
        served: what is served; None: without examples.
        limit: rows that one request may have.
    """
    return {**_mlflow_scoring(served, limit), **_open_inference(served, limit)}


def key_errors(path: str) -> Schema:
    """The answers to a missing key and to one that may not do this; none for other paths."""
    if path.startswith("/v2"):
        schema = "OpenInferenceError"
    elif path in ("/invocations", "/version"):
        schema = "MlflowError"
    else:
        return {}
    return _errors(("401", "403"), schema)


def schemas() -> Schema:
    """`components.schemas`."""
    text: Schema = {"type": "string"}
    tensor: Schema = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": text,
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"enum": [*DATATYPES, "BYTES"]},
            "data": {"type": "array"},
        },
    }
    return {
        "MlflowError": {
            "type": "object",
            "required": ["error_code", "message"],
            "properties": {"error_code": text, "message": text},
        },
        "MlflowPredictions": {
            "type": "object",
            "required": ["predictions", "prediction_ids", "probabilities", "model_version"],
            "properties": {
                "predictions": {"type": "array", "description": "What the model's predict says."},
                "prediction_ids": {"type": "array", "items": text},
                "probabilities": {"type": "array", "items": {"type": "number"}},
                "model_version": text,
            },
        },
        "OpenInferenceError": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": text},
        },
        "Tensor": tensor,
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text,
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "items": ref("Tensor"), "minItems": 1},
                "outputs": {"type": "array", "items": {"type": "object"}},
            },
        },
        "InferAnswer": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": text,
                "model_version": text,
                "id": {"type": "string", "description": "The request's, when it has one."},
                "outputs": {"type": "array", "items": ref("Tensor")},
            },
        },
    }


def _mlflow_scoring(served: Served | None, limit: int) -> Schema:
    row = example(served.schema) if served is not None else {}
    split = {"columns": list(row), "data": [list(row.values())]}
    text = ",".join(row) + "\n" + ",".join(str(value) for value in row.values()) + "\n"
    errors = _errors(_BODY, "MlflowError")
    errors["415"] = {"description": _ERRORS["415"], "content": {"text/plain": {}}}
    tags = ["mlflow scoring"]
    return {
        "/invocations": {
            "post": {
                "operationId": "mlflowInvocations",
                "tags": tags,
                "summary": "Predict a table, as `mlflow models serve` does",
                "description": f"At most {limit} rows, all or nothing. JSON is an object with "
                f"exactly one of `{'`, `'.join(mlflow_scoring.FORMATS)}`. NaN and null are missing "
                "values.",
                "requestBody": {
                    "required": True,
                    "content": {
                        mlflow_scoring.JSON: {
                            "schema": {"type": "object"},
                            "example": {mlflow_scoring.SPLIT: split},
                        },
                        mlflow_scoring.CSV: {"schema": {"type": "string"}, "example": text},
                        mlflow_scoring.PARQUET: {},
                    },
                },
                "responses": {
                    "200": _ok(
                        ref("MlflowPredictions"),
                        {
                            "predictions": [0],
                            "prediction_ids": [PREDICTION_ID],
                            "probabilities": [0.0625],
                            "model_version": "1",
                        },
                    ),
                    **errors,
                },
            }
        },
        "/ping": {
            "get": {
                "operationId": "mlflowPing",
                "tags": tags,
                "summary": "Whether a model is loaded",
                "responses": {
                    "200": {"description": "It is"},
                    "404": {"description": "None is"},
                    **_errors(_ANY, "MlflowError"),
                },
            }
        },
        "/version": {
            "get": {
                "operationId": "mlflowVersion",
                "tags": tags,
                "summary": "The version of MLflow, without quotes",
                "responses": {
                    "200": {"description": "OK"},
                    **_errors(_ANY, "MlflowError"),
                },
            }
        },
    }


def _open_inference(served: Served | None, limit: int) -> Schema:
    ready: Schema = {"type": "object", "properties": {"ready": {"const": True}}}
    found: Schema = {}
    for path, name in (("/v2", "v2Server"), ("/v2/", "v2ServerSlash")):
        found[path] = _get(name, "The server and its version", {"type": "object"})
    found["/v2/health/live"] = _get(
        "v2Live",
        "Whether the process answers",
        {"type": "object", "properties": {"live": {"const": True}}},
    )
    found["/v2/health/ready"] = _get("v2Ready", "Whether inferences are answered", ready, "503")
    for path, suffix in ((MODEL, ""), (VERSION, "Version")):
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        of = [path_parameter(name) for name in names]
        found[path] = _get(
            f"v2Model{suffix}",
            "The model's inputs and outputs",
            {"type": "object"},
            "404",
            "503",
            parameters=of,
            sample=None if served is None else metadata(served),
        )
        found[f"{path}/ready"] = _get(
            f"v2ModelReady{suffix}",
            "Whether the model's inferences are answered",
            ready,
            "404",
            "503",
            parameters=of,
        )
        found[f"{path}/infer"] = {"post": _infer(f"v2Infer{suffix}", served, limit, of)}
    return found


def _infer(name: str, served: Served | None, limit: int, parameters: list[Schema]) -> Schema:
    values = list(example(served.schema).values()) if served is not None else []
    tensor = {"name": "rows", "shape": [1, len(values)], "datatype": "FP64", "data": values}
    return {
        "operationId": name,
        "tags": ["open inference"],
        "summary": "Predict the rows of tensors",
        "description": f"At most {limit} rows, all or nothing: one tensor of rows and columns, the "
        "columns in the order of the model's metadata, or one tensor for each column.",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": ref("InferRequest"), "example": {"inputs": [tensor]}}
            },
        },
        "responses": {
            "200": _ok(ref("InferAnswer"), None),
            **_errors(("404", *_BODY), "OpenInferenceError"),
        },
    }


def _get(
    name: str,
    summary: str,
    answer: Schema,
    *errors: str,
    parameters: list[Schema] | None = None,
    sample: Any = None,
) -> Schema:
    operation: Schema = {
        "operationId": name,
        "tags": ["open inference"],
        "summary": summary,
        "responses": {
            "200": _ok(answer, sample),
            **_errors((*errors, *_ANY), "OpenInferenceError"),
        },
    }
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


def _ok(schema: Schema, sample: Any) -> Schema:
    content: Schema = {"schema": schema}
    if sample is not None:
        content["example"] = sample
    return {"description": "OK", "content": {"application/json": content}}


def _errors(statuses: Sequence[str], schema: str) -> Schema:
    content = {"application/json": {"schema": ref(schema)}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}
