"""Bare ASGI endpoints: bytes in, bytes out, and a problem where there is one."""

from __future__ import annotations

from abc import ABC, abstractmethod

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from monitorkit.errors import MonitorkitError
from monitorkit.serving import problems
from monitorkit.serving.problems import Problem


class Answering(ABC):
    """A bare ASGI endpoint that answers by itself whatever goes wrong with a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nobody gets one who has left."""
        try:
            body = await self.answer(scope, receive)
        except ClientDisconnect:
            return
        except (Problem, MonitorkitError) as error:
            await problems.told(error, scope)(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    @abstractmethod
    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The JSON that answers one request.

        Raises:
            Problem, MonitorkitError: what is answered instead.
            ClientDisconnect: nobody waits any more.
        """
