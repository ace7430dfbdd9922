"""MLflow's scoring protocol, as `mlflow models serve` has it: /ping, /version, /invocations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from anyio import CapacityLimiter, to_thread
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope

from monitorkit.prediction_log import Predictions
from monitorkit.serving import problems
from monitorkit.serving.problems import Problem
from monitorkit.serving.protocols import pieces
from monitorkit.serving.protocols.csv_tables import read_csv
from monitorkit.serving.protocols.parquet_tables import read_parquet
from monitorkit.serving.protocols.tables import bad_request, check_count, read_records, read_rows
from monitorkit.serving.scoring import INLINE_BYTES, Scoring
from monitorkit.serving.served import Served, Values
from monitorkit.serving.services import Services

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"

SPLIT, RECORDS, INSTANCES, INPUTS = FORMATS = (
    "dataframe_split",
    "dataframe_records",
    "instances",
    "inputs",
)
_SPLIT_KEYS = {"columns", "data", "index"}


def routes(services: Services) -> list[Route]:
    """The endpoints of the protocol."""

    async def ping(_: Request) -> Response:
        """GET /ping: 200 once a model is loaded."""
        return Response("\n", 200 if services.slot.current else 404, media_type=JSON)

    async def mlflow_version(_: Request) -> Response:
        """GET /version: MLflow's, by which clients know the protocol."""
        return Response(version("mlflow"), media_type=JSON)

    return [
        Route("/invocations", Invocations(services), methods=["POST"]),
        Route("/ping", ping),
        Route("/version", mlflow_version),
    ]


class Invocations(Scoring):
    """A table in, `{"predictions": [...]}` out, with the ids and probabilities beside them."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._parquet = services.parquet
        self._waiting = CapacityLimiter(1)

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The answer to one table."""
        media_type = _media_type(scope)
        body = await self.body(scope, receive)
        served = self._slot.served()
        arguments = (served, body, self._max_rows)
        if media_type == PARQUET:  # its thread waits for a process, and nobody for the thread
            rows = await to_thread.run_sync(
                read_parquet, *arguments, self._parquet, limiter=self._waiting
            )
        elif media_type == CSV:
            rows = await self.read(read_csv, *arguments, inline=False)
        else:
            rows = await self.read(read_json, *arguments, inline=len(body) <= INLINE_BYTES)
        predictions = await self.predict(served, rows, scope, receive)
        return await self.write(encode, predictions, served.model.card.version)


def encode(predictions: Predictions, model_version: str) -> bytes:
    """The JSON of an answer; MLflow's clients read `predictions` and let the rest be."""
    return to_json(
        {
            "predictions": predictions.labels,
            "prediction_ids": predictions.ids,
            "probabilities": predictions.probabilities,
            "model_version": model_version,
        }
    )


def read_json(served: Served, body: bytes | bytearray, limit: int) -> list[Values]:
    """The rows of a JSON body in one of its four forms.

    Raises:
        Problem: 400 for what is none of them, 413 for too many rows, 422 for wrong values.
    """
    try:
        document = pieces.parse(body)
    except ValueError as error:
        raise problems.not_json(str(error), body) from None
    given = [name for name in FORMATS if name in document] if isinstance(document, dict) else []
    if len(given) != 1:
        raise bad_request(f"Send a JSON object with exactly one of {', '.join(FORMATS)}.")
    # No model that is served here has parameters; MLflow leaves them out, too, and wants an object.
    if not isinstance(document.get("params"), dict | type(None)):
        raise bad_request("params must be an object.")
    [form] = given
    value = document[form]
    if form == SPLIT:
        return _read_split(served, value, limit)
    if isinstance(value, list):
        if form != RECORDS and value and not isinstance(value[0], dict):
            value = _of_one_column(served, form, value)
        check_count(len(value), limit)
        return read_records(served, value)
    if form == RECORDS or not isinstance(value, dict):
        raise bad_request(f"{form} must be a list of objects, one for each row.")
    return _read_columns(served, form, value, limit)


def _read_split(served: Served, value: Any, limit: int) -> list[Values]:
    if not isinstance(value, dict) or "data" not in value or value.keys() - _SPLIT_KEYS:
        raise bad_request(f"{SPLIT} must be an object with data, columns and at most index.")
    data, columns, index = value["data"], value.get("columns"), value.get("index")
    if not isinstance(columns, list):
        raise bad_request(f"{SPLIT} must have a list of columns: the model reads them by name.")
    if not isinstance(data, list):
        raise bad_request(f"data of {SPLIT} must be a list of rows.")
    if index is not None and not (isinstance(index, list) and len(index) == len(data)):
        raise bad_request(f"index of {SPLIT} must be a list with one value for each row.")
    check_count(len(data), limit)
    return read_rows(served, columns, _whole(data, len(columns)))


def _whole(data: Iterable[Any], width: int) -> Iterator[Any]:
    """Rows with a value for each column."""
    for index, row in enumerate(data):
        if not isinstance(row, list):
            raise bad_request(f"Row {index} of data must be a list of values.")
        if len(row) != width:
            raise bad_request(
                f"Row {index} of data has {len(row)} values, and there are {width} columns."
            )
        yield row


def _read_columns(served: Served, form: str, value: Mapping[str, Any], limit: int) -> list[Values]:
    """Columns by name: lists of one length, or plain values, which are one row."""
    lists = [column for column in value.values() if isinstance(column, list)]
    if not lists:
        return read_records(served, [value])
    count = len(lists[0])
    for name, column in value.items():
        if not isinstance(column, list) or len(column) != count:
            raise bad_request(
                f"Column {name[:100]!r} of {form} must be a list of {count} values, as the first."
            )
    check_count(count, limit)
    return read_rows(served, list(value), zip(*value.values(), strict=True))


def _of_one_column(served: Served, form: str, values: list[Any]) -> list[dict[str, Any]]:
    """Values without names, which MLflow takes where the model reads one column."""
    names = served.schema.names
    if len(names) > 1 or isinstance(values[0], list):
        raise bad_request(
            f"{form} must name the columns: an object for each row, or lists by name. The model "
            "reads its columns by name."
        )
    return [{names[0]: value} for value in values]


def _media_type(scope: Scope) -> str:
    """Which of the three the body is.

    Raises:
        Problem: 415 for anything else.
    """
    given = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    text = given.decode("latin-1")
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    pairs = dict(part.partition("=")[::2] for part in parameters if part)
    charset = pairs.pop("charset", "utf-8").strip('"')
    if media_type not in (JSON, CSV, PARQUET):
        raise _unsupported(f"Content-Type is {text!r}; send {JSON}, {CSV} or {PARQUET}.")
    if charset != "utf-8":
        raise _unsupported(f"The charset is {charset!r}; send UTF-8.")
    if pairs:
        raise _unsupported(f"Content-Type has parameters that mean nothing here: {text!r}.")
    return media_type


def _unsupported(detail: str) -> Problem:
    return Problem(
        "unsupported-media-type",
        detail,
        headers={"Accept-Post": f"{JSON}, {CSV}, {PARQUET}"},
    )
