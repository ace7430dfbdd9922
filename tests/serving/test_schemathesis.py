"""schemathesis against the service on a real socket, from its own OpenAPI document."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import httpx
import pytest
from structlog.testing import capture_logs
from wire import listening

from monitorkit.serving.services import Services

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]


@pytest.mark.slow
async def test_the_service_does_what_its_document_says(serve: Serve, tmp_path: Path) -> None:
    async with serve({"max_batch_rows": 20}) as (services, _), listening(services) as (port, _):
        with capture_logs() as events:
            done = await anyio.run_process(
                [
                    str(Path(sys.executable).with_name("schemathesis")),
                    "run", f"http://127.0.0.1:{port}/openapi.json",
                    "--seed=20260101", "--max-examples=15", "--phases=examples,coverage,fuzzing",
                    "--request-timeout=20", "--continue-on-failure", "--no-color",
                    "--warnings=off",
                    # A whole number beyond 2**53 counts as the float beside it, which may be
                    # within the bounds; and its list of refusals knows no 413 for a long batch.
                    "--exclude-checks=negative_data_rejection",
                    # Not mounted here; and what names of columns a table has no schema can say
                    # (hypothesis tries bodies in test_mlflow_scoring.py).
                    "--exclude-path-regex=^/(dashboard|invocations)",
                ],
                cwd=tmp_path,
                check=False,
            )  # fmt: skip
        metrics = services.metrics.render("")[0].decode()
    said = done.stdout.decode()
    assert done.returncode == 0, said[-5000:]
    assert events == [], "nothing that a client sends is an event"
    tried = re.search(r"(\d+) generated", said)
    assert tried is not None
    assert int(tried[1]) > 300
    answered = re.search(
        r'^monitorkit_rows_total\{outcome="answered"\} (\S+)', metrics, re.MULTILINE
    )
    assert answered is not None
    assert services.writer.rows == float(answered[1]) > 0
