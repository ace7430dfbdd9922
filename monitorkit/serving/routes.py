"""The route table, and the endpoints that are no predictions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from monitorkit import logs
from monitorkit.contracts import Skipped
from monitorkit.errors import MonitorkitError
from monitorkit.model import ModelCard
from monitorkit.results import encode
from monitorkit.serving import attachments, docs, openapi, problems, status
from monitorkit.serving.predict import Predict, PredictBatch
from monitorkit.serving.problems import Problem
from monitorkit.serving.protocols import mlflow_scoring, open_inference
from monitorkit.serving.requests import read_json_body, whole_numbers
from monitorkit.serving.services import Services

log = logs.get(__name__)

LINKS = {
    "dashboard": "/dashboard",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "health": "/health",
    "ready": "/ready",
    "model": "/model/info",
    "metrics": "/metrics",
    "predict": "/predict",
    "predict_batch": "/predict/batch",
    "monitoring_stats": "/monitoring/stats",
    "monitoring_results": "/monitoring/results",
    "monitoring_run": "/monitoring/run",
    "mlflow_scoring": "/invocations",
    "open_inference": "/v2",
}
NO_STORE = {"Cache-Control": "no-store"}
"""What is true now need not be in a moment, and is for those who may ask. Answers to POST are kept
by nobody anyway."""

PAGE = 20
LARGEST_PAGE = 1000

RUN_BODY_BYTES = 16 * 1024
"""Of `POST /monitoring/run`, which takes one field."""


class RunRequest(BaseModel):
    """The body of POST /monitoring/run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reports: bool = False


def routes(services: Services) -> list[Route]:
    """Every endpoint, bound to its services."""
    endpoints = Endpoints(services)
    return [
        # First, because routes are tried in order.
        Route("/predict", Predict(services), methods=["POST"]),
        Route("/predict/batch", PredictBatch(services), methods=["POST"]),
        Route("/", endpoints.index),
        Route("/health", endpoints.health),
        Route("/ready", endpoints.ready),
        Route("/model/info", endpoints.model_info),
        Route("/metrics", endpoints.metrics),
        Route("/monitoring/stats", endpoints.stats),
        Route("/monitoring/results", endpoints.results),
        Route("/monitoring/results/{run_id}", endpoints.result),
        Route("/monitoring/results/{run_id}/reports/{name}", endpoints.report),
        Route("/monitoring/run", endpoints.run, methods=["POST"]),
        Route("/openapi.json", endpoints.openapi),
        Route("/docs", docs.page),
        Route("/docs/{file}", docs.asset),
        *mlflow_scoring.routes(services),
        *open_inference.routes(services),
    ]


class Endpoints:
    """Every endpoint that is not a prediction."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # Reading results must wait for nobody else's threads, and nobody for it.
        self._threads = CapacityLimiter(2)
        self._ready = CapacityLimiter(1)
        self._openapi: tuple[ModelCard | None, bytes] | None = None

    async def index(self, request: Request) -> Response:
        """GET /: for browsers the way to the dashboard."""
        vary = {"Vary": "Accept"}
        if "text/html" in request.headers.get("accept", "").lower():
            return RedirectResponse("dashboard", 302, headers=vary)
        response = _json(status.index(self._services, LINKS))
        response.headers.update(vary)
        return response

    async def health(self, _: Request) -> Response:
        """GET /health: 200 as long as the process answers; `status` says how it is."""
        return _json(status.health(self._services))

    async def ready(self, _: Request) -> Response:
        """GET /ready.

        Raises:
            Problem: 503.
        """
        if self._services.writer.failure is None:  # then nothing on the disk is asked
            status.check_ready(self._services)
        else:
            await to_thread.run_sync(
                status.check_ready, self._services, limiter=self._ready, abandon_on_cancel=True
            )
        return _json({"ready": True})

    async def model_info(self, _: Request) -> Response:
        """GET /model/info.

        Raises:
            Problem: 503 without a model.
        """
        served = self._services.slot.served()
        return _json(status.model_info(served, self._services.config.registry.alias))

    async def metrics(self, request: Request) -> Response:
        """GET /metrics, for Prometheus: its text format, or OpenMetrics where that is accepted."""
        await self._services.disk.measure()
        await self._services.metrics.look()
        body, media_type = self._services.metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type, **NO_STORE})

    async def stats(self, _: Request) -> Response:
        """GET /monitoring/stats.

        Raises:
            ResultsUnreadable: 503.
        """
        latest = await to_thread.run_sync(self._services.results.latest, limiter=self._threads)
        return _json(status.stats(self._services, latest))

    async def results(self, request: Request) -> Response:
        """GET /monitoring/results, newest first.

        Raises:
            Problem: 422 for wrong query parameters.
            ResultsUnreadable: 503.
        """
        query = whole_numbers(
            request, limit=(PAGE, 1, LARGEST_PAGE), offset=(0, 0, 999_999_999_999)
        )
        limit, offset = query["limit"], query["offset"]

        def read() -> tuple[list[Any], int]:
            return list(self._services.results.list(limit, offset)), self._services.results.count()

        page, total = await to_thread.run_sync(read, limiter=self._threads)
        # By place, not by what could be read: a damaged file is left out of its page.
        after = offset + limit
        return _json(
            {
                "results": page,
                "total": total,
                "limit": limit,
                "offset": offset,
                "next": f"/monitoring/results?limit={limit}&offset={after}"
                if after < total
                else None,
            }
        )

    async def result(self, request: Request) -> Response:
        """GET /monitoring/results/{run_id}: the file, byte for byte.

        Raises:
            Problem: 404.
            ResultsUnreadable: 503.
        """
        run_id = request.path_params["run_id"]
        document = await to_thread.run_sync(
            self._services.results.read, run_id, limiter=self._threads
        )
        if document is None:
            raise problems.not_found(
                f"There is no result {run_id!r}; /monitoring/results lists all."
            )
        return Response(document, headers=NO_STORE, media_type="application/json")

    async def report(self, request: Request) -> Response:
        """GET /monitoring/results/{run_id}/reports/{name}: a file that a monitor attached.

        Raises:
            Problem: 404.
            ResultsUnreadable: 503.
        """
        run_id, name = request.path_params["run_id"], request.path_params["name"]
        found = await to_thread.run_sync(
            self._services.results.result, run_id, limiter=self._threads
        )
        if found is None or name not in attachments.names(found):
            raise problems.not_found(
                f"The result {run_id!r} names no report {name!r}; see its `reports`."
            )
        content = await to_thread.run_sync(
            attachments.read, self._services.config.storage.reports, name, limiter=self._threads
        )
        if content is None:
            raise problems.not_found(
                f"The report {name!r} is not there any more: the oldest are deleted "
                "([monitoring.reports])."
            )
        return Response(content, headers=attachments.headers(name))

    async def run(self, request: Request) -> Response:
        """POST /monitoring/run: a cycle now.

        Raises:
            Problem: 400, 413, 415, 422 for the body; 500 or 503 when the cycle failed.
            CycleBusy, ReferenceProblem: 409.
        """
        limit = min(int(self._services.config.serving.max_body), RUN_BODY_BYTES)
        body = await read_json_body(request.scope, request.receive, limit)
        try:
            wish = RunRequest.model_validate_json(body) if body else RunRequest()
        except ValidationError as error:
            raise problems.invalid(error, {"reports": None}, body) from None
        try:
            result = await self._services.force_cycle(wish.reports)
        except (MonitorkitError, OSError) as error:
            problem = problems.of_error(error) if isinstance(error, MonitorkitError) else None
            if problem is not None and problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # it was refused: nothing failed
            log.error("forced_cycle_failed", reason=str(error))  # noqa: TRY400 - says it all
            raise problem or Problem("cycle-failed", str(error)) from error
        if isinstance(result, Skipped):
            return _json(
                {
                    "status": "skipped",
                    "rows": result.window.rows,
                    "min_rows": result.min_rows,
                    "reason": result.reason,
                }
            )
        document = await to_thread.run_sync(
            self._services.results.text, result.run_id, limiter=self._threads
        )
        if document is None:  # somebody deleted it in this moment
            document = await to_thread.run_sync(encode, result, limiter=self._threads)
        return Response(
            b'{"status":"completed","run_id":%b,"result":%b}'
            % (to_json(result.run_id), document.strip()),
            media_type="application/json",
        )

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json, made anew when another model is served."""
        served = self._services.slot.current
        card = served.model.card if served is not None else None  # not the model: it may be large
        if self._openapi is None or self._openapi[0] is not card:
            document = openapi.document(served, self._services.config)
            self._openapi = (card, to_json(document))
        return Response(self._openapi[1], headers=NO_STORE, media_type="application/json")


def _json(value: Any) -> Response:
    body = to_json(value, inf_nan_mode="null")
    return Response(body, headers=NO_STORE, media_type="application/json")
