"""A service on a real model, a real prediction log and real results, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import skops.io
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monitorkit import model
from monitorkit.app import shown
from monitorkit.config import Config
from monitorkit.contracts import MonitoringStatus, RunResult, Skipped, Window
from monitorkit.dashboard import routes as dashboard
from monitorkit.dashboard.live import Live
from monitorkit.prediction_log import Writer
from monitorkit.results import Results
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.serving.application import Application
from monitorkit.serving.disk import Disk
from monitorkit.serving.metrics import Metrics
from monitorkit.serving.pipeline import Pipeline
from monitorkit.serving.protocols import parquet_tables
from monitorkit.serving.routes import routes
from monitorkit.serving.served import Served, Slot
from monitorkit.serving.services import Services
from monitorkit.settings import Registry
from monitorkit.worker import Worker

SCHEMA = FeatureSchema(
    (
        Feature("age", "integer"),
        Feature("NumberOfTime30-59DaysPastDueNotWorse", "integer"),
        Feature("DebtRatio"),
        Feature("MonthlyIncome", nullable=True),
    )
)
BOUNDS = {"age": {"minimum": 18.0, "maximum": 120.0}, "DebtRatio": {"minimum": 0.0}}


def make_served(folder: Path, version: str, seed: int) -> Served:
    """Train, store and load a small model as the registry would."""
    random = np.random.default_rng(seed)
    rows = np.column_stack(
        [
            random.integers(18, 90, 400),
            random.integers(0, 6, 400),
            random.exponential(0.5, 400),
            random.normal(5000, 2000, 400),
        ]
    ).astype(np.float64)
    rows[::7, 3] = np.nan
    labels = (rows[:, 1] + random.normal(0, 1, 400) > 2.5).astype(int)
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    pipeline.fit(rows, labels)
    folder.mkdir()
    skops.io.dump(pipeline, folder / model.MODEL_FILE)
    card = model.ModelCard(
        name="credit-risk-model",
        version=version,
        run_id="0" * 32,
        tracking_uri="http://somebody:secret@registry.example:5000",
        created_at="2025-01-01T00:00:00Z",
        sha256="",
        schema=SCHEMA,
        classes=(0, 1),
        estimator="",
        metadata={"metrics": {"roc_auc": 0.9}},
    )
    trusted = Registry().trust
    model.admit(folder, card, trusted)
    return Served.of(model.load(folder, trusted), BOUNDS)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return make_served(tmp_path_factory.mktemp("models") / "1", "1", seed=1)


@pytest.fixture(scope="session")
def successor(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Another version, which answers otherwise."""
    return make_served(tmp_path_factory.mktemp("models") / "2", "2", seed=2)


@pytest.fixture
def row() -> dict[str, float | None]:
    return {
        "age": 45,
        "NumberOfTime30-59DaysPastDueNotWorse": 2,
        "DebtRatio": 0.25,
        "MonthlyIncome": 5400.5,
    }


STATUS = MonitoringStatus(
    enabled=True,
    reference="ok",
    reference_hash="ab" * 32,
    reference_error=None,
    results_error=None,
    cycles={"completed": 0, "skipped": 0, "failed": 0},
    last_cycle=None,
    next_cycle_at=datetime(2025, 1, 1, tzinfo=UTC),
    undelivered={},
)


async def skip(_: bool) -> Skipped:
    return Skipped(
        "forced",
        datetime(2025, 1, 1, tzinfo=UTC),
        Window(12, None, None, "1", 86400.0),
        200,
        "12 rows in the last 24h, 200 are needed",
        "0" * 64,
    )


Running = tuple[Services, httpx.AsyncClient]


@pytest.fixture(scope="session")
def parquet() -> Iterator[Worker]:
    """The process that reads Parquet; it starts when it is needed."""
    with parquet_tables.worker(Config()) as process:
        yield process


@pytest.fixture
def serve(
    tmp_path: Path, served: Served, parquet: Worker
) -> Callable[..., AbstractAsyncContextManager[Running]]:
    """Start a service: `async with serve(serving={"max_body": 100}) as (services, client)`."""

    @asynccontextmanager
    async def start(
        serving: Mapping[str, Any] | None = None,
        status: MonitoringStatus = STATUS,
        force_cycle: Callable[[bool], Awaitable[RunResult | Skipped]] = skip,
    ) -> AsyncIterator[Running]:
        config = Config.model_validate(
            {"storage": {"root": tmp_path / "monitoring"}, "serving": dict(serving or {})}
        )
        writer = await Writer.open(
            config.storage.predictions, served.schema, durability="os", rotate_bytes=2**28
        )
        metrics = Metrics()
        pipeline = Pipeline(writer, metrics, max_waiting_rows=config.serving.max_waiting_rows)
        task = asyncio.create_task(pipeline.run())
        services = Services(
            config=config,
            slot=Slot(served),
            pipeline=pipeline,
            writer=writer,
            metrics=metrics,
            disk=Disk(config.storage),
            results=Results(config.storage.results),
            parquet=parquet,
            monitoring_status=lambda: status,
            force_cycle=force_cycle,
            started_at=datetime.now(UTC),
        )
        sources = shown(services)
        pages = dashboard.routes(sources, Live(sources))
        app = Application(config.serving, None, *routes(services), *pages)
        metrics.watch(services, app.traffic)
        transport = httpx.ASGITransport(app)
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                yield services, client
        finally:
            await pipeline.close()
            await task
            await writer.close()

    return start


@pytest.fixture
async def running(
    serve: Callable[..., AbstractAsyncContextManager[Running]],
) -> AsyncIterator[Running]:
    async with serve() as both:
        yield both


@pytest.fixture
def services(running: Running) -> Services:
    return running[0]


@pytest.fixture
def client(running: Running) -> httpx.AsyncClient:
    return running[1]


@pytest.fixture
def status() -> MonitoringStatus:
    return STATUS
