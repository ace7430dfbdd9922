"""The dashboard's endpoints."""

from __future__ import annotations

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from monitorkit.dashboard import pages, report, trouble
from monitorkit.dashboard.live import MOST_LISTENERS, Live
from monitorkit.dashboard.sources import Sources
from monitorkit.errors import ResultsUnreadable, TooManyListeners

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, and nothing inline: a feature may be called `<script>`."""

MEDIA_TYPES = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
}
_SELF_CONTAINED = {**_HEADERS, "Content-Security-Policy": report.POLICY}
_BACK = "../../dashboard"
"""From a result to the dashboard, wherever a proxy has put both."""


def routes(sources: Sources, live: Live) -> list[Route]:
    """Every endpoint, bound to what it shows."""
    endpoints = _Endpoints(sources, live)
    return [
        Route("/dashboard", endpoints.page),
        Route("/dashboard/events", endpoints.events),
        Route("/dashboard/fragments/{name}", endpoints.fragment),
        Route("/dashboard/results/{run_id}", endpoints.report),
        Route("/dashboard/static/{file}", endpoints.asset),
    ]


class _Endpoints:
    def __init__(self, sources: Sources, live: Live) -> None:
        self._sources = sources
        self._live = live
        self._model_name = sources.config.registry.model_name
        self._threads = CapacityLimiter(2)

    async def page(self, request: Request) -> Response:
        """GET /dashboard."""
        try:
            html = await self._live.page(request.query_params.get("before"))
        except ResultsUnreadable as error:
            return self._unreadable(error, request, back=None)
        return Response(html, headers=_HEADERS, media_type="text/html")

    async def fragment(self, request: Request) -> Response:
        """GET /dashboard/fragments/{name}: one part of the page."""
        name = request.path_params["name"]
        if name not in pages.FRAGMENTS:
            raise HTTPException(404)
        before = request.query_params.get("before")
        if name == "cycles" and before is not None:
            html = await self._live.older(before)
        else:
            _, html = await self._live.fragment(name)
        return Response(html, headers=_HEADERS, media_type="text/html")

    async def events(self, request: Request) -> Response:
        """GET /dashboard/events: server-sent events, which say that parts of the page changed."""
        if self._live.full:
            raise TooManyListeners(MOST_LISTENERS)
        await self._live.fresh()  # what is raised after the head has gone is no answer any more
        # Proxies would hold small messages back.
        headers = {**_HEADERS, "X-Accel-Buffering": "no"}
        media_type = "text/event-stream"
        if request.method == "HEAD":  # it would never be over
            return Response(headers=headers, media_type=media_type)
        return StreamingResponse(self._live.events(), headers=headers, media_type=media_type)

    async def report(self, request: Request) -> Response:
        """GET /dashboard/results/{run_id}: one result to read."""
        run_id = request.path_params["run_id"]
        try:
            html = await to_thread.run_sync(self._report, run_id, limiter=self._threads)
        except ResultsUnreadable as error:
            return self._unreadable(error, request, back=_BACK)
        if html is not None:
            return Response(html, headers=_SELF_CONTAINED, media_type="text/html")
        if not _wants_page(request):
            raise HTTPException(404)
        title = "There is no such result"
        text = f"{run_id}: it was never there, was deleted since, or its file is damaged."
        html = trouble.html(self._model_name, title, text, back=_BACK, again=False)
        return Response(html, 404, _SELF_CONTAINED, media_type="text/html")

    def _unreadable(
        self, error: ResultsUnreadable, request: Request, *, back: str | None
    ) -> Response:
        if not _wants_page(request):
            raise error
        title, text = "The results cannot be read", str(error)
        text = text[:1].upper() + text[1:]
        html = trouble.html(self._model_name, title, text, back=back, again=True)
        headers = {**_SELF_CONTAINED, "Retry-After": str(trouble.RELOAD)}
        return Response(html, 503, headers, media_type="text/html")

    def _report(self, run_id: str) -> bytes | None:
        found = self._sources.results.result(run_id)
        return None if found is None else report.html(found)

    async def asset(self, request: Request) -> Response:
        """GET /dashboard/static/{file}."""
        name = request.path_params["file"]
        if name not in MEDIA_TYPES:
            raise HTTPException(404)
        headers = {**_HEADERS, "Cache-Control": "public, max-age=86400"}
        return Response(pages.asset(name), headers=headers, media_type=MEDIA_TYPES[name])


def _wants_page(request: Request) -> bool:
    """Whether a person reads the answer; programs get an error's JSON as everywhere else."""
    return "text/html" in request.headers.get("accept", "").lower()
