"""Errors as clients see them: one RFC 9457 shape for all, and what each error becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus

from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Scope

from monitorkit import logs
from monitorkit.errors import (
    CutOff,
    CycleBusy,
    LogWriteFailed,
    MonitorkitError,
    Overloaded,
    PredictionFailed,
    ReferenceProblem,
    ResultsUnreadable,
    Stopping,
    TooManyListeners,
)
from monitorkit.redaction import redacted
from monitorkit.serving import request_ids
from monitorkit.serving.fields import FieldError, Known, field_errors
from monitorkit.serving.protocols.shapes import shaped

log = logs.get(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:monitorkit:problem:"
BODY_READ = "monitorkit.body_read"
"""In a request's scope once all of its body is here."""

KINDS: Mapping[str, tuple[int, str]] = {
    "invalid-json": (400, "The body is not JSON"),
    "invalid-request": (400, "The request does not follow its protocol"),
    "binary-tensors": (400, "Tensors come as JSON"),
    "unauthorized": (401, "A key is needed"),
    "forbidden": (403, "The key may not do this"),
    "other-site": (403, "Web pages of other sites may not send this"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "The method is not allowed"),
    "request-timeout": (408, "The request took too long to come"),
    "cycle-busy": (409, "A monitoring cycle runs"),
    "reference": (409, "The reference cannot be used"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The media type is not supported"),
    "unknown-host": (421, "The service has another name"),
    "invalid-fields": (422, "The request has wrong fields"),
    "head-too-large": (431, "The head of the request is too large"),
    "internal": (500, "Internal error"),
    "prediction-failed": (500, "The model gave no answer"),
    "cycle-failed": (500, "The cycle failed"),
    "no-model": (503, "No model is loaded"),
    "not-ready": (503, "The service is not ready"),
    "too-many-connections": (503, "Too many connections are open"),
    "overloaded": (503, "Too many rows wait"),
    "too-many-listeners": (503, "Too many pages follow the dashboard"),
    "stopping": (503, "The service is stopping"),
    "log-not-writable": (503, "The prediction log cannot be written"),
    "results-unreadable": (503, "The results cannot be read"),
}
"""By name: the status of a problem, and its title."""

RETRY_AFTER = {"Retry-After": "1"}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An answer that is an error; raise it anywhere below a route.

    Attributes:
        name: ends the `type` URN; one of `KINDS`, unless the kind is given.
        detail: this occurrence: what, where, and the remedy.
        errors: wrong fields, for 422.
        kind: status and title.
    """

    name: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self.status, self.title = self.kind or KINDS[self.name]

    def __str__(self) -> str:
        return f"{self.status} {self.name}: {self.detail}"


def response(problem: Problem, scope: Scope) -> Response:
    """The HTTP response of a problem, with the id of its request; in its protocol's shape.

    The header with the id is `Edge`'s. A connection on which a body may still come is closed:
    nobody reads the rest of it.
    """
    headers = {
        **problem.headers,
        "Cache-Control": "no-store",
        **({"Connection": "close"} if _body_may_come(scope) else {}),
    }
    other = shaped(scope["path"], problem.status, problem.detail, problem.errors)
    if other is not None:
        return Response(other.body, other.status, headers, other.media_type)
    return Response(encode(problem, request_ids.of(scope)), problem.status, headers, MEDIA_TYPE)


def encode(problem: Problem, identity: str) -> bytes:
    """The JSON of a problem, with the id of its request."""
    document = {
        "type": TYPE_PREFIX + problem.name,
        "title": problem.title,
        "status": problem.status,
        "detail": redacted(problem.detail),
        "request_id": identity,
        "errors": [
            {key: value for key, value in asdict(error).items() if value is not None}
            | {"field": error.field}
            for error in problem.errors
        ],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _body_may_come(scope: Scope) -> bool:
    return BODY_READ not in scope and any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in scope["headers"]
    )


def told(error: Problem | MonitorkitError, scope: Scope) -> Response:
    """The HTTP response of an error that is for clients.

    Raises:
        MonitorkitError: it is for nobody but the log.
    """
    if isinstance(error, Problem):
        return response(error, scope)
    problem = of_error(error)
    if problem is None:
        raise error
    if isinstance(error, PredictionFailed):
        log.error(
            "prediction_failed",
            request_id=request_ids.of(scope),
            reason=str(error),
            exc_info=error.__cause__,
        )
    return response(problem, scope)


def invalid(error: ValidationError, known: Known, body: bytes | bytearray) -> Problem:
    """The problem of an object that pydantic refused: 400 for what is no JSON, else 422."""
    count = error.error_count()
    if count == 1:
        (first,) = error.errors(include_url=False, include_input=False)
        if first["type"] == "json_invalid":
            return not_json(str(first["ctx"]["error"]), body)
    return invalid_fields(field_errors(error, known), count)


def not_json(reason: str, body: bytes | bytearray) -> Problem:
    """400: bad JSON, bad UTF-8 or nothing at all."""
    if not body.strip():
        reason = "it is empty"
    elif "unicode" in reason:
        reason = f"it is not UTF-8 ({reason})"
    return Problem("invalid-json", f"The body is not JSON: {reason}.")


def not_an_array() -> Problem:
    """422: `/predict/batch` takes an array."""
    message = "must be an array of objects, one for each row"
    return invalid_fields([FieldError(None, message)], 1)


def invalid_fields(errors: Sequence[FieldError], count: int) -> Problem:
    """422 with every wrong field; `count` may be more than are shown."""
    fields = "1 field is" if count == 1 else f"{count} fields are"
    detail = f"{fields} wrong"
    if count > len(errors):
        detail += f"; the first {len(errors)} are shown"
    return Problem("invalid-fields", f"{detail}; see errors.", errors)


def too_many_rows(rows: int, limit: int) -> Problem:
    """413 for a batch."""
    return Problem(
        "too-large",
        f"The batch has {rows} rows; at most {limit} are taken ([serving] max_batch_rows). "
        "Send it in parts.",
    )


def too_large(limit: int) -> Problem:
    """413 for a body."""
    return Problem(
        "too-large",
        f"The body is larger than {limit} bytes ([serving] max_body). Send it in parts.",
    )


def unsupported_type(found: str) -> Problem:
    """415."""
    return Problem(
        "unsupported-media-type",
        f"Content-Type is {found!r}; send application/json (UTF-8).",
        headers={"Accept-Post": "application/json"},
    )


def encoded(found: str) -> Problem:
    """415 for a compressed body."""
    return Problem(
        "unsupported-media-type",
        f"Content-Encoding is {found!r}; send the body as it is.",
        headers={"Accept-Encoding": "identity"},
    )


def other_site(origin: str) -> Problem:
    """403 for a web page of somebody else."""
    return Problem(
        "other-site",
        f"A browser sent this for {origin}, which is another site than this service. Send it from "
        "a server, or from a page under the service's own address.",
    )


def no_request() -> Problem:
    """400 for what HTTP does not know."""
    return Problem("invalid-request", "What came is no HTTP/1.1 request.")


def too_slow() -> Problem:
    """408."""
    return Problem(
        "request-timeout",
        "The rest of the request did not come in time ([serving] receive_timeout). Send it again.",
    )


def head_too_large(limit: int) -> Problem:
    """431."""
    return Problem(
        "head-too-large",
        f"The head of the request is larger than {limit} bytes. Send fewer or shorter headers.",
    )


def too_many_connections(limit: int) -> Problem:
    """503 to a client too many."""
    return Problem(
        "too-many-connections",
        f"{limit} connections are open, which is the limit ([serving] max_connections, and what "
        "the system lets a process open). Try again later.",
    )


def no_model() -> Problem:
    """503 before a model is loaded."""
    return Problem(
        "no-model",
        "No model is loaded yet; /health says why. Try again later.",
        headers={"Retry-After": "5"},
    )


def not_found(detail: str) -> Problem:
    """404."""
    return Problem("not-found", detail)


def of_status(status: int, path: str, headers: Mapping[str, str] | None) -> Problem:
    """What the router refuses: 404 and 405; anything else by its status alone."""
    headers = dict(headers or {})
    if status == HTTPStatus.NOT_FOUND:
        return not_found(f"There is nothing at {path}. GET / lists what there is.")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(headers.get("Allow", "").split(", ")))
        return Problem(
            "method-not-allowed",
            f"{path} takes {allowed}.",
            headers={**headers, "Allow": allowed},
        )
    phrase = HTTPStatus(status).phrase
    name = phrase.lower().replace(" ", "-")
    return Problem(name, phrase, headers=headers, kind=(status, phrase))


def of_error(error: MonitorkitError) -> Problem | None:  # noqa: PLR0911 - a table of meanings
    """What an error of ours means to a client; None: it is not for clients, answer 500."""
    match error:
        case Overloaded():
            return Problem("overloaded", str(error), headers=RETRY_AFTER)
        case TooManyListeners():
            return Problem(
                "too-many-listeners",
                str(error),
                headers={"Retry-After": "30"},
            )
        case Stopping() | CutOff():
            return Problem("stopping", str(error), headers=RETRY_AFTER)
        case LogWriteFailed():
            return Problem(
                "log-not-writable",
                f"The prediction log cannot be written ({error.reason}), so nothing was answered "
                "or kept. Send the request again when /health says that the log works.",
                headers={"Retry-After": "5"},
            )
        case PredictionFailed():
            return Problem(
                "prediction-failed",
                f"{error.model} gave no answer for this request; nothing was logged or answered. "
                "The event with this request_id says why.",
            )
        case CycleBusy():
            return Problem("cycle-busy", str(error), headers=RETRY_AFTER)
        case ReferenceProblem():
            return Problem("reference", str(error))
        case ResultsUnreadable():
            return Problem("results-unreadable", str(error), headers={"Retry-After": "5"})
    return None


def internal() -> Problem:
    """500 without a word about insides."""
    return Problem(
        "internal",
        "The service failed on this request. The event with this request_id says why.",
    )
