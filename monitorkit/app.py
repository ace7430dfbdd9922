"""The composition root: the only module that builds the service's objects and joins them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import anyio

from monitorkit import logs, plugin_manager
from monitorkit.config import Config
from monitorkit.dashboard import routes as dashboard
from monitorkit.dashboard.live import Live
from monitorkit.dashboard.sources import Sources
from monitorkit.monitoring.compressing import Compressing
from monitorkit.monitoring.delivery import Delivery
from monitorkit.monitoring.loop import MonitoringLoop
from monitorkit.monitoring.process_engine import ProcessEngine, worker
from monitorkit.monitoring.retention import LogRetention
from monitorkit.prediction_log import Writer
from monitorkit.results import Results
from monitorkit.serving import pauses, status
from monitorkit.serving.application import Application
from monitorkit.serving.disk import Disk
from monitorkit.serving.metrics import Metrics
from monitorkit.serving.pipeline import Pipeline
from monitorkit.serving.protocols import parquet_tables
from monitorkit.serving.reloader import Reloader
from monitorkit.serving.routes import routes
from monitorkit.serving.served import Slot
from monitorkit.serving.services import Services
from monitorkit.serving.traffic import Traffic

log = logs.get(__name__)


def create_app(config: Config) -> Application:
    """The service as an ASGI application; everything starts and ends with its lifespan.

    Starting raises MonitorkitError when there is nothing to serve or nowhere to log to.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        async with running(config, app.traffic) as services, anyio.create_task_group() as tasks:
            sources = shown(services)
            live = Live(sources)
            tasks.start_soon(live.run)
            app.on_stop(live.stop)
            app.add(*routes(services), *dashboard.routes(sources, live))
            yield
            tasks.cancel_scope.cancel()

    return Application(config.serving, lifespan)


def shown(services: Services) -> Sources:
    """What the dashboard shows of a service."""
    return Sources(
        config=services.config,
        results=services.results,
        health=lambda: status.health(services),
        monitoring=services.monitoring_status,
        locked=bool(services.config.serving.keys),
    )


@contextlib.asynccontextmanager
async def running(config: Config, traffic: Traffic) -> AsyncIterator[Services]:
    """Build the objects in the order in which data flows, run them, and end them in reverse.

    Args:
        config: the whole configuration.
        traffic: the requests that the application counts.

    Raises:
        MonitorkitError: there is nothing to serve or nowhere to log to.
    """
    plugin_manager.checked(config)
    async with contextlib.AsyncExitStack() as stack:
        # MLflow, monitors and sinks: three processes, so that none of them can hold up another.
        registry_worker, monitor_worker, sink_worker = (
            stack.enter_context(worker(config, name)) for name in ("registry", "monitors", "sinks")
        )
        slot = Slot()
        reloader = Reloader(config, registry_worker, slot)
        await reloader.start()
        served = slot.current
        assert served is not None  # noqa: S101 - what start() promises
        writer = await Writer.open(
            config.storage.predictions,
            served.schema,
            durability=config.log.durability,
            rotate_bytes=int(config.log.rotate),
            instance=config.log.instance,
        )
        stack.push_async_callback(writer.close)
        metrics, disk = Metrics(), Disk(config.storage)
        await disk.look()
        collections = stack.enter_context(pauses.tuned())
        pipeline = Pipeline(writer, metrics, max_waiting_rows=config.serving.max_waiting_rows)
        results = Results(config.storage.results)
        monitoring = MonitoringLoop(
            config,
            ProcessEngine(config, monitor_worker),
            results,
            Delivery(config, sink_worker, results),
            Compressing(config, monitor_worker),
            retention=LogRetention(config),
        )
        await monitoring.check_reference()
        services = Services(
            config=config,
            slot=slot,
            pipeline=pipeline,
            writer=writer,
            metrics=metrics,
            disk=disk,
            results=results,
            parquet=stack.enter_context(parquet_tables.worker(config)),
            monitoring_status=monitoring.status,
            force_cycle=monitoring.force,
            started_at=datetime.now(UTC),
        )
        metrics.watch(services, traffic)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipeline.run)
            tasks.start_soon(reloader.run)
            tasks.start_soon(disk.run)
            tasks.start_soon(monitoring.run)
            tasks.start_soon(pauses.measure, metrics, collections)
            pauses.settle()
            yield services
            await pipeline.close()
            monitoring.stop()
            reloader.stop()
            for each in (registry_worker, monitor_worker, sink_worker):
                await anyio.to_thread.run_sync(each.close)
            tasks.cancel_scope.cancel()
