"""/docs: Swagger UI from the assets of an installed package, without a request to anywhere else."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from monitorkit.serving import problems

# fastapi-offline is only a parcel here: importing it would import FastAPI.
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}

_POLICY = {
    # Swagger UI writes style attributes; everything else comes from here or not at all.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>monitorkit API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# validatorUrl null: the default would send the address of this service to a public validator.
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null,
  tryItOutEnabled: true,
  displayRequestDuration: true,
});
"""


@cache
def assets() -> Path:
    """The folder with Swagger UI's files."""
    spec = find_spec("fastapi_offline")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("fastapi-offline, which brings Swagger UI, is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "static"


async def page(_: Request) -> Response:
    """GET /docs."""
    return Response(_PAGE, headers=_POLICY, media_type="text/html")


async def asset(request: Request) -> Response:
    """GET /docs/{file}.

    Raises:
        Problem: 404 for any other file.
    """
    name = request.path_params["file"]
    if name == "start.js":
        return Response(_START, headers=_POLICY, media_type="text/javascript")
    if name not in ASSETS:
        raise problems.not_found(f"There is no file {name} here.")
    headers = {**_POLICY, "Cache-Control": "public, max-age=86400"}
    return Response(_content(name), headers=headers, media_type=ASSETS[name])


@cache
def _content(name: str) -> bytes:
    return (assets() / name).read_bytes()
