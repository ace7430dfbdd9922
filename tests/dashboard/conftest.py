"""Real results of real monitors, and the page of them without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from made_history import make_history

from monitorkit.config import Config
from monitorkit.contracts import Chunk, MonitoringStatus, RunResult
from monitorkit.dashboard.live import Live
from monitorkit.dashboard.routes import routes
from monitorkit.dashboard.sources import Sources
from monitorkit.results import Results
from monitorkit.serving.application import Application
from monitorkit.testing import make_chunk

LAST = datetime(2026, 1, 2, 12, tzinfo=UTC)
STATUS = MonitoringStatus(
    enabled=True,
    reference="ok",
    reference_hash=None,
    reference_error=None,
    results_error=None,
    cycles={"completed": 0, "skipped": 0, "failed": 0},
    last_cycle=None,
    next_cycle_at=LAST,
    undelivered={"mlflow": 2},
)
HEALTH: dict[str, Any] = {
    "status": "ok",
    "reasons": [],
    "model_loaded": True,
    "model_name": "credit-risk-model",
    "model_version": "1",
    "model_stage": "production",
    "predictions_logged": 12_345,
    "log": {"failure": None},
    "reference": {"status": "ok", "hash": None, "error": None},
    "queue": {"waiting_rows": 0, "refused_rows": 0, "dropped_rows": 0, "late_rows": 0},
    "started_at": LAST,
}


def shifted(number: int, chunk: Chunk) -> Chunk:
    """From the fourth cycle on, the first column is another one."""
    features = chunk.features.copy()
    if number >= 3:
        features[:, 0] += 1.5
    return Chunk(chunk.ids, chunk.times, chunk.columns, features, chunk.scores)


@pytest.fixture(scope="session")
def history() -> list[RunResult]:
    """Six cycles, of which the last three have a drift in `income`."""
    reference = make_chunk(1500, ("income", "late", "age"), missing=0.02)
    made: list[RunResult] = make_history(reference, 6, last=LAST, rows=400, change=shifted)
    return made


@pytest.fixture
def status() -> MonitoringStatus:
    return STATUS


@dataclass
class Shown:
    """A dashboard and what is behind it."""

    results: Results
    sources: Sources
    live: Live
    client: httpx.AsyncClient
    health: dict[str, Any]


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Shown]]:
    """Run one: `async with show(results) as shown`."""

    @asynccontextmanager
    async def run(
        *committed: RunResult, locked: bool = False, status: MonitoringStatus = STATUS
    ) -> AsyncIterator[Shown]:
        config = Config.model_validate(
            {
                "storage": {"root": tmp_path / "monitoring"},
                "sinks": [{"name": "mlflow", "use": "mlflow"}],
            }
        )
        results = Results(config.storage.results)
        for result in committed:
            results.commit(result)
        health = dict(HEALTH)
        sources = Sources(config, results, lambda: health, lambda: status, locked)
        live = Live(sources)
        app = Application(config.serving, None, *routes(sources, live))
        async with (
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost"
            ) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(live.run)
            yield Shown(results, sources, live, client, health)
            live.stop()
            tasks.cancel_scope.cancel()

    return run


@pytest.fixture
def health() -> dict[str, Any]:
    return dict(HEALTH)
