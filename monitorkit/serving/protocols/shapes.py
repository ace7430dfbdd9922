"""The shape that a protocol gives to errors, by the path of the request: its clients read no other.

Every error passes here, whoever found it: the router, a limit, the model or nobody foresaw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from pydantic_core import to_json

from monitorkit.serving.fields import FieldError

SHOWN_IN_A_LINE = 10
_SHOWN_NAME = 100

ERROR_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    409: "RESOURCE_CONFLICT",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
"""MLflow's names (`mlflow/exceptions.py`) for our statuses; other 4xx are BAD_REQUEST."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """An error as it leaves.

    Attributes:
        status: of HTTP; the protocols have no 422.
    """

    status: int
    media_type: str
    body: bytes


def shaped(path: str, status: int, detail: str, errors: Sequence[FieldError]) -> Shaped | None:
    """An error in the shape of the protocol that a path belongs to; None: it belongs to none.

    Args:
        path: of the request.
        status: of HTTP, as `/predict` would have it.
        detail: what is wrong.
        errors: wrong fields; their values are not repeated.
    """
    if path == "/v2" or path.startswith("/v2/"):
        return _open_inference(status, in_words(detail, errors))
    if path in ("/invocations", "/ping", "/version"):
        return _mlflow_scoring(status, in_words(detail, errors))
    return None


def in_words(detail: str, errors: Sequence[FieldError]) -> str:
    """One sentence for protocols whose errors have one."""
    if not errors:
        return detail
    words = "; ".join(_field(error) for error in errors[:SHOWN_IN_A_LINE])
    more = len(errors) - SHOWN_IN_A_LINE
    return f"{words}; and {more} more" if more > 0 else f"{words}."


def _field(error: FieldError) -> str:
    where = [] if error.row is None else [f"row {error.row}"]
    if error.field is not None:
        where.append(f"column {error.field[:_SHOWN_NAME]!r}")
    return f"{', '.join(where)} {error.message}" if where else f"the body {error.message}"


def _open_inference(status: int, message: str) -> Shaped:
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return Shaped(status, "application/json", to_json({"error": message}))


def _mlflow_scoring(status: int, message: str) -> Shaped:
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        return Shaped(status, "text/plain", message.encode())
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    code = ERROR_CODES.get(status, "INTERNAL_ERROR" if server else "BAD_REQUEST")
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return Shaped(status, "application/json", to_json({"error_code": code, "message": message}))
