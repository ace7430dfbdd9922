"""The outermost layer: ids, counts, the last resort for errors, and the optional access log."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from monitorkit import logs
from monitorkit.errors import CutOff
from monitorkit.serving import problems, request_ids
from monitorkit.serving.traffic import NOWHERE, Traffic

log = logs.get(__name__)

_ENDPOINT = "monitorkit.endpoint"


class Edge:
    """Answers what no handler took with a 500 without insides, and logs it with its traceback.

    Every answer is counted, and says the id of its request: a header costs 1 us, so predictions
    whose own id it is do without, unless each request is an event anyway.

    Args:
        app: what is below.
        traffic: where requests are counted.
        access_log: one event for every request.
        endpoint: the path of the only route below; None: `Named` says which it was.
    """

    def __init__(
        self, app: ASGIApp, traffic: Traffic, *, access_log: bool, endpoint: str | None = None
    ) -> None:
        self._app = app
        self._traffic = traffic
        self._access_log = access_log
        self._requests = None if endpoint is None else traffic.of(endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if not status and message["type"] == "http.response.start":
                status = message["status"]
                requests = self._requests or self._traffic.of(scope.get(_ENDPOINT, NOWHERE))
                requests.note(status, time.perf_counter() - started)
                if self._access_log or not request_ids.is_of_a_row(scope):
                    header = (request_ids.HEADER, request_ids.of(scope).encode())
                    message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception(
                "request_failed",
                request_id=request_ids.of(scope),
                method=scope["method"],
                path=scope["path"],
            )
            if status:  # half an answer is out: only closing the connection tells the client
                raise
            await problems.response(problems.internal(), scope)(scope, receive, watched)
        except asyncio.CancelledError:  # it takes longer than a stopping service waits
            if status:
                raise
            await problems.told(CutOff(), scope)(scope, receive, watched)
        finally:
            if self._access_log:
                log.info(
                    "request",
                    request_id=request_ids.of(scope),
                    method=scope["method"],
                    path=scope["path"],
                    key=scope.get("monitorkit.key"),  # its name; None: no key that is known
                    status=status or None,  # None: the client left before its answer
                    milliseconds=round((time.perf_counter() - started) * 1000, 3),
                    **request_ids.rows(scope),
                )


class Named:
    """A route's app that says which one it is, and puts the id of a request into its events.

    Args:
        app: of the route.
        path: of the route.
        events: whether what happens may be an event of this request; a prediction's are those of
            its batch, which is that of others, too.
    """

    def __init__(self, app: ASGIApp, path: str, *, events: bool) -> None:
        self._app = app
        self._path = path
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        scope[_ENDPOINT] = self._path
        if self._events:
            with bound_contextvars(request_id=request_ids.of(scope)):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)
