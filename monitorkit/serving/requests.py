"""Reading requests: body with its limit, media type, query numbers, and clients that leave."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import TypeVar

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from monitorkit.serving import problems, request_ids
from monitorkit.serving.fields import SHOWN_ERRORS, FieldError

T = TypeVar("T")

_READ = frozenset(
    (
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"sec-fetch-site",
        b"origin",
        request_ids.HEADER,
    )
)
_DIGITS = 18  # a larger length is beyond any limit, and int() refuses some thousand of them
_JSON = re.compile(
    rb"\s*+application/json\s*+(;\s*+charset\s*+=\s*+\"?utf-?8\"?\s*+)?;?\s*+", re.IGNORECASE
)


async def read_json_body(scope: Scope, receive: Receive, limit: int) -> bytes | bytearray:
    """The body of a request that must be JSON, stopped as soon as it is too large.

    Raises:
        Problem: 403, 413 and 415.
        ClientDisconnect: the client left before the end.
    """
    check_head(scope, limit)
    return await read_body(scope, receive, limit)


def is_json(media_type: bytes) -> bool:
    """Whether a Content-Type is JSON in UTF-8."""
    return media_type == b"application/json" or _JSON.fullmatch(media_type) is not None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes | bytearray:
    """The body of a request, stopped as soon as it is too large.

    Raises:
        Problem: 413.
        ClientDisconnect: the client left before the end.
    """
    message = await receive()
    body: bytes | bytearray = message.get("body", b"")
    if message.get("more_body", False):
        body = bytearray(body)
        while message.get("more_body", False) and len(body) <= limit:
            message = await receive()
            body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    if len(body) > limit:
        raise problems.too_large(limit)
    scope[problems.BODY_READ] = True
    return body


def check_head(  # noqa: C901 - one pass over the headers of every request
    scope: Scope, limit: int, *, json: bool = True
) -> None:
    """Refuse what need not be read for that, and keep the id that the client gave.

    An absent Content-Type means JSON. A compressed body is refused: nobody knows how large it is.

    Args:
        scope: of the request.
        limit: bytes.
        json: the only media type; otherwise the endpoint looks at it.

    Raises:
        Problem: 413 for a larger length, 415 for another media type or a compressed body, 403 for
            what a browser sends for a page of another site.
    """
    site = origin = None
    for name, value in scope["headers"]:
        if name not in _READ:
            continue
        if name == b"content-type":
            if json and not is_json(value):
                raise problems.unsupported_type(value.decode("latin-1"))
        elif name == b"content-length":
            if len(value) > _DIGITS or (value.isdigit() and int(value) > limit):
                raise problems.too_large(limit)
        elif name == b"content-encoding":
            _refuse_compressed(value)
        elif name == b"sec-fetch-site":
            site = value
        elif name == b"origin":
            origin = value
        else:
            request_ids.note(scope, value)
    if site is not None or origin is not None:
        refuse_other_sites(scope, site, origin)


def _refuse_compressed(encoding: bytes) -> None:
    if encoding.lower() != b"identity":
        raise problems.encoded(encoding.decode("latin-1"))


def refuse_other_sites(scope: Scope, site: bytes | None, origin: bytes | None) -> None:
    """Refuse what a browser sends for a page of another site; other clients send neither header.

    A browser sends JSON for any page without asking us, as long as it has no media type.

    Args:
        scope: of the request.
        site: its Sec-Fetch-Site, which browsers send to https and to this machine.
        origin: its Origin, which they send with every POST.

    Raises:
        Problem: 403.
    """
    if site is not None:
        same = site in {b"same-origin", b"none"}
    else:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        same = (origin or b"").partition(b"://")[2].lower() == host.lower()
    if not same:
        raise problems.other_site((origin or b"another site").decode("latin-1"))


async def unless_gone(receive: Receive, answer: Awaitable[T]) -> T:
    """Wait for an answer, and give it up when the client leaves.

    Raises:
        ClientDisconnect: it left.
    """
    gone = False

    async def watch(scope: anyio.CancelScope) -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        scope.cancel()

    result: T
    error: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, tasks.cancel_scope)
        try:
            result = await answer
        except Exception as caught:  # noqa: BLE001 - raised below, outside of the exception group
            error = caught
        tasks.cancel_scope.cancel()
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback leads here: it would hold itself until a collection
    if gone:
        raise ClientDisconnect
    return result


def whole_numbers(request: Request, /, **limits: tuple[int, int, int]) -> dict[str, int]:
    """Query parameters that are whole numbers.

    Args:
        request: with a query string.
        limits: name to (default, lowest, highest).

    Raises:
        Problem: 422 for every wrong or unknown one at once.
    """
    found = {name: default for name, (default, _, _) in limits.items()}
    unknown = f"is not a query parameter; known: {', '.join(sorted(limits))}"
    wrong = []
    count = 0
    for name, text in request.query_params.multi_items():
        message = unknown
        if name in limits:
            _, lowest, highest = limits[name]
            if re.fullmatch(r"[0-9]{1,15}", text) and lowest <= int(text) <= highest:
                found[name] = int(text)
                continue
            message = f"must be a whole number from {lowest} to {highest}"
        count += 1
        if count <= SHOWN_ERRORS:
            wrong.append(FieldError(name, message, text))
    if wrong:
        raise problems.invalid_fields(wrong, count)
    return found
