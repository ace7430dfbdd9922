"""The HTTP edge: Starlette with errors of one shape, and a short way to the predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from monitorkit import keys
from monitorkit.errors import MonitorkitError
from monitorkit.serving import hosts, problems
from monitorkit.serving.answering import Answering
from monitorkit.serving.edge import Edge, Named
from monitorkit.serving.guard import Guard, needed
from monitorkit.serving.problems import Problem
from monitorkit.serving.traffic import Traffic
from monitorkit.settings import Serving


class Application(Starlette):
    """A Starlette application in which every error has the one shape.

    Its middleware and router take 20 us of a request. A POST to an endpoint that answers whatever
    happens by itself goes there directly.

    With keys in the configuration a guard is before all routes that `guard.SCOPES` does not open.

    Args:
        serving: `[serving]` of the configuration.
        lifespan: may `add` routes once there are services.
        routes: those that are known already.

    Attributes:
        traffic: requests, counted.

    Raises:
        ConfigError: a key of the configuration cannot be used.
    """

    def __init__(
        self,
        serving: Serving,
        lifespan: Lifespan[Application] | None = None,
        *routes: Route,
    ) -> None:
        self.traffic = Traffic()
        super().__init__(
            middleware=[Middleware(Edge, self.traffic, access_log=serving.access_log)],
            exception_handlers=exception_handlers(),
            lifespan=lifespan,
        )
        # A redirect makes a client send its rows twice, or drop them.
        self.router.redirect_slashes = False
        self._access_log = serving.access_log
        self._keys = keys.configured(serving.keys)
        self._hosts = hosts.of(serving)
        self._misdirected = Edge(_misdirected, self.traffic, access_log=serving.access_log)
        self._direct: dict[str, ASGIApp] = {}
        self._on_stop: list[Callable[[], None]] = []
        self.add(*routes)

    def add(self, *routes: Route) -> None:
        """Answer these routes, too."""
        for route in routes:
            scopes = needed(route.path)
            if self._keys and scopes:
                # Behind the router, so that no spelling of a path leads past it.
                route.app = Guard(route.app, self._keys, scopes)
            self.router.routes.append(route)
            answering = isinstance(route.endpoint, Answering)
            if answering and not route.param_convertors:
                self._direct[route.path] = Edge(
                    route.app, self.traffic, access_log=self._access_log, endpoint=route.path
                )
            route.app = Named(route.app, route.path, events=not answering)

    def on_stop(self, end: Callable[[], None]) -> None:
        """Call this when the server begins to stop: it waits for answers that have no end."""
        self._on_stop.append(end)

    def stop(self) -> None:
        """The server begins to stop."""
        for end in self._on_stop:
            end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] == "http":
            if self._hosts is not None and not self._hosts.take(scope):
                await self._misdirected(scope, receive, send)
                return
            if scope["method"] == "POST":
                endpoint = self._direct.get(scope["path"])
                if endpoint is not None:
                    await endpoint(scope, receive, send)
                    return
        await super().__call__(scope, receive, send)


def exception_handlers() -> dict[Any, Any]:
    """For Starlette: problems, the router's refusals, and our errors. The rest is for `Edge`."""
    return {
        Problem: _told,
        HTTPException: _http_exception,
        MonitorkitError: _told,
        ClientDisconnect: _nobody_there,
    }


async def _misdirected(scope: Scope, receive: Receive, send: Send) -> None:
    await problems.response(hosts.unknown(scope), scope)(scope, receive, send)


async def _told(request: Request, error: Problem | MonitorkitError) -> Response:
    return problems.told(error, request.scope)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    problem = problems.of_status(error.status_code, request.url.path, error.headers)
    return problems.response(problem, request.scope)


async def _nobody_there(_: Request, __: ClientDisconnect) -> None:
    return None
