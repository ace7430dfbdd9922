"""The id of a request: in its answer, its problem and its events, and the way to its logged rows.

It is the client's `X-Request-ID` where that is a plain word. An id that we make is the
`prediction_id` of the request's first row, so that whoever has one finds the other; a request
without rows gets a new one.
"""

from __future__ import annotations

import re
from typing import Any

import uuid_utils
from starlette.types import Scope

from monitorkit.prediction_log import Predictions

HEADER = b"x-request-id"

_KEY = "monitorkit.request_id"
_ROWS = "monitorkit.rows"
_UNSAID = "monitorkit.rows_unsaid"
_PLAIN_WORD = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def of(scope: Scope) -> str:
    """The id of a request, made now if it has none yet."""
    known: str | None = scope.get(_KEY)
    if known is None:
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        note(scope, given)
        known = scope.setdefault(_KEY, str(uuid_utils.uuid7()))
    return known


def note(scope: Scope, given: bytes) -> None:
    """Keep what a client gave, if it may stand in headers, JSON, log lines and shells as it is."""
    if _KEY not in scope and _PLAIN_WORD.fullmatch(given):
        scope[_KEY] = given.decode("ascii")


def answered(scope: Scope, predictions: Predictions) -> None:
    """Join a request with its rows; whoever reads its head has noted its given id before."""
    if predictions:
        first = predictions.ids[0]
        # Not the rows: a connection keeps its last scope, and they all rows of their batch.
        scope[_ROWS] = (first, len(predictions))
        if _KEY not in scope:
            scope[_KEY] = first


def unsaid(scope: Scope) -> None:
    """The answer leaves the ids of its rows out."""
    scope[_UNSAID] = True


def is_of_a_row(scope: Scope) -> bool:
    """Whether a request has the id of its first row, which its answer holds."""
    found: tuple[str, int] | None = scope.get(_ROWS)
    return found is not None and scope[_KEY] is found[0] and _UNSAID not in scope


def rows(scope: Scope) -> dict[str, Any]:
    """For the event of a request: its first row in the prediction log, and how many follow."""
    found: tuple[str, int] | None = scope.get(_ROWS)
    return {} if found is None else {"prediction_id": found[0], "rows": found[1]}
