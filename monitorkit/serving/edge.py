"""The outermost layer: the last resort for errors, and the optional access log."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitorkit import logs
from monitorkit.serving import problems

log = logs.get(__name__)


class Edge:
    """Answers what no handler took with a 500 without insides, and logs it with its traceback.

    Args:
        app: what is below.
        access_log: one event for every request, and its id on every answer.
    """

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._access_log = access_log

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
                if self._access_log and status < 400:  # noqa: PLR2004 - problems have it already
                    identity = problems.request_id(scope).encode()
                    headers = [*message.get("headers", ()), (b"x-request-id", identity)]
                    message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception(
                "request_failed",
                request_id=problems.request_id(scope),
                method=scope["method"],
                path=scope["path"],
            )
            if status:  # half an answer is out: only closing the connection tells the client
                raise
            await problems.response(problems.internal(), scope)(scope, receive, watched)
        finally:
            if self._access_log:
                log.info(
                    "request",
                    request_id=problems.request_id(scope),
                    method=scope["method"],
                    path=scope["path"],
                    key=scope.get("monitorkit.key"),  # its name; None: no key that is known
                    status=status or None,  # None: the client left before its answer
                    milliseconds=round((time.perf_counter() - started) * 1000, 3),
                )
