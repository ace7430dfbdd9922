"""The Open Inference Protocol, version 2, over REST: what KServe's and Triton's clients speak."""

from __future__ import annotations

from collections.abc import Mapping

from anyio import CapacityLimiter, to_thread
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope

import monitorkit
from monitorkit.serving import problems, request_ids, status
from monitorkit.serving.problems import Problem
from monitorkit.serving.protocols.tensors import encode, outputs, read_request, tensors
from monitorkit.serving.requests import is_json
from monitorkit.serving.scoring import INLINE_BYTES, Scoring
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services

MODEL = "/v2/models/{model}"
VERSION = "/v2/models/{model}/versions/{version}"
PLATFORM = "sklearn_monitorkit"


def routes(services: Services) -> list[Route]:
    """The endpoints of the protocol."""
    endpoints = OpenInference(services)
    infer = Infer(services)
    found = [
        Route("/v2", endpoints.server),
        Route("/v2/", endpoints.server),
        Route("/v2/health/live", endpoints.live),
        Route("/v2/health/ready", endpoints.ready),
    ]
    for path in (MODEL, VERSION):
        found += [
            Route(f"{path}/infer", infer, methods=["POST"]),
            Route(f"{path}/ready", endpoints.model_ready),
            Route(path, endpoints.model),
        ]
    return found


class OpenInference:
    """Every endpoint that is not an inference."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._threads = CapacityLimiter(1)

    async def server(self, _: Request) -> Response:
        """GET /v2."""
        return _json({"name": "monitorkit", "version": monitorkit.__version__, "extensions": []})

    async def live(self, _: Request) -> Response:
        """GET /v2/health/live: 200 as long as the process answers."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """GET /v2/health/ready.

        Raises:
            Problem: 503.
        """
        await to_thread.run_sync(status.check_ready, self._services, limiter=self._threads)
        return _json({"ready": True})

    async def model(self, request: Request) -> Response:
        """GET /v2/models/{model}: the tensors that it takes and gives.

        Raises:
            Problem: 404 for another model, 503 without one.
        """
        return _json(metadata(addressed(self._services.slot.served(), request.path_params)))

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{model}/ready.

        Raises:
            Problem: 404 for another model, 503.
        """
        served = addressed(self._services.slot.served(), request.path_params)
        await to_thread.run_sync(status.check_ready, self._services, limiter=self._threads)
        return _json({"name": served.model.card.name, "ready": True})


class Infer(Scoring):
    """Tensors in, tensors out."""

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The answer to one inference request."""
        _check_headers(scope)
        body = await self.body(scope, receive)
        served = addressed(self._slot.served(), scope["path_params"])
        inline = len(body) <= INLINE_BYTES
        request = await self.read(read_request, served, body, self._max_rows, inline=inline)
        predictions = await self.predict(served, request.rows, scope, receive)
        if "prediction_id" not in request.wanted:
            request_ids.unsaid(scope)
        return await self.write(encode, predictions, served, request)


def metadata(served: Served) -> Mapping[str, object]:
    """What the protocol wants to know of a model."""
    card = served.model.card
    return {
        "name": card.name,
        "versions": [card.version],
        "platform": PLATFORM,
        "inputs": tensors(served),
        "outputs": outputs(served),
    }


def addressed(served: Served, path: Mapping[str, str]) -> Served:
    """What is served, when it is what a path names.

    Raises:
        Problem: 404 for another model or version.
    """
    card = served.model.card
    if path["model"] != card.name:
        raise problems.not_found(
            f"There is no model {path['model'][:100]!r}; {card.name!r} is served."
        )
    if path.get("version", card.version) != card.version:
        raise problems.not_found(
            f"Version {path['version'][:100]!r} of {card.name!r} is not served; version "
            f"{card.version} is."
        )
    return served


def _check_headers(scope: Scope) -> None:
    """Refuse what says that the body is no plain JSON.

    Raises:
        Problem: 400 for tensors in binary, 415 for another media type.
    """
    for name, value in scope["headers"]:
        if name == b"inference-header-content-length":
            raise Problem(
                "binary-tensors",
                "Binary tensors (Inference-Header-Content-Length) are not supported; send their "
                "data as JSON (tritonclient: set_data_from_numpy(..., binary_data=False)).",
            )
        if name == b"content-type" and not is_json(value):
            raise problems.unsupported_type(value.decode("latin-1"))


def _json(value: object) -> Response:
    return Response(to_json(value), media_type="application/json")
