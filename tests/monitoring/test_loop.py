"""The periodic task beside a service: cycles come, fail and are forced, and the status says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from filelock import FileLock
from monitoring_place import Place, draw
from structlog.testing import capture_logs

from monitorkit.config import Config
from monitorkit.contracts import RunResult, Skipped
from monitorkit.errors import CycleBusy, ReferenceChanged
from monitorkit.monitoring.compressing import Compressing
from monitorkit.monitoring.delivery import Delivery
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.loop import MonitoringLoop
from monitorkit.monitoring.retention import LogRetention
from monitorkit.prediction_log import Reader, chain
from monitorkit.reference import verify
from monitorkit.settings import Log, SinkEntry
from monitorkit.worker import Worker

Make = Callable[..., Place]
SINK = SinkEntry(name="files", use="bad_sink")


def loop_of(here: Place, worker: Worker) -> MonitoringLoop:
    delivery = Delivery(here.config, worker, here.results)
    compressing = Compressing(here.config, worker)
    engine = LocalEngine(here.config)
    retention = LogRetention(here.config)
    return MonitoringLoop(
        here.config, engine, here.results, delivery, compressing, retention=retention
    )


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - nobody tells when a status changes
            await anyio.sleep(0.01)


async def test_cycles_come_every_interval(place: Make, worker: Worker) -> None:
    here = place(monitoring={"interval": "200ms"})
    here.append(draw(250, seed=2))
    monitoring = loop_of(here, worker)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitoring.run)
        await until(lambda: monitoring.status().cycles["completed"] >= 3)
        tasks.cancel_scope.cancel()
    status = monitoring.status()
    assert status.next_cycle_at is not None
    assert status.last_cycle is not None
    assert (status.last_cycle.outcome, status.last_cycle.trigger) == ("completed", "periodic")
    assert here.results.count() >= 3


async def test_disabled_it_runs_only_what_is_forced(place: Make, worker: Worker) -> None:
    here = place(monitoring={"interval": "50ms", "enabled": False})
    here.append(draw(250, seed=2))
    monitoring = loop_of(here, worker)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitoring.run)
        await anyio.sleep(0.3)
        assert here.results.count() == 0
        result = await monitoring.force(reports=False)
        tasks.cancel_scope.cancel()
    assert isinstance(result, RunResult)
    assert monitoring.status().enabled is False


async def test_a_skipped_cycle_is_counted_with_its_reason(place: Make, worker: Worker) -> None:
    monitoring = loop_of(place(), worker)
    assert isinstance(await monitoring.force(reports=False), Skipped)
    status = monitoring.status()
    assert status.cycles == {"completed": 0, "skipped": 1, "failed": 0}
    assert status.last_cycle is not None
    assert "200 are needed" in (status.last_cycle.reason or "")


async def test_a_bad_reference_is_in_the_status_until_it_is_restored(
    place: Make, worker: Worker
) -> None:
    here = place()
    here.append(draw(250, seed=2))
    monitoring = loop_of(here, worker)
    assert monitoring.status().reference == "unchecked"
    await monitoring.check_reference()
    expected = monitoring.status().reference_hash
    assert expected is not None
    assert monitoring.status().reference == "ok"
    path = here.config.storage.reference / "reference_data.csv"
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(before[:-1])
    with pytest.raises(ReferenceChanged):
        await monitoring.force(reports=False)
    status = monitoring.status()
    assert (status.reference, status.reference_hash) == ("changed", expected)
    assert expected in (status.reference_error or "")
    assert status.cycles["failed"] == 1
    path.write_bytes(before)
    await monitoring.force(reports=False)
    assert (monitoring.status().reference, monitoring.status().reference_error) == ("ok", None)


async def test_a_skipped_cycle_says_which_reference_was_put_back(
    place: Make, worker: Worker, tmp_path: Path
) -> None:
    here = place()
    folder = here.config.storage.reference
    monitoring = loop_of(here, worker)
    folder.rename(tmp_path / "aside")
    await monitoring.check_reference()
    assert (monitoring.status().reference, monitoring.status().reference_hash) == ("missing", None)
    (tmp_path / "aside").rename(folder)
    assert isinstance(await monitoring.force(reports=False), Skipped)
    status = monitoring.status()
    assert (status.reference, status.reference_hash) == ("ok", verify(folder).reference_hash)


async def test_a_periodic_cycle_that_fails_is_not_the_last(place: Make, worker: Worker) -> None:
    here = place(monitoring={"interval": "100ms"})
    here.append(draw(250, seed=2))
    path = here.config.storage.reference / "reference_data.csv"
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"")
    monitoring = loop_of(here, worker)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitoring.run)
        await until(lambda: monitoring.status().cycles["failed"] >= 2)
        path.write_bytes(before)
        await until(lambda: monitoring.status().cycles["completed"] >= 1)
        tasks.cancel_scope.cancel()


async def test_results_that_cannot_be_read_fail_cycles_without_a_traceback(
    place: Make, worker: Worker
) -> None:
    here = place(monitoring={"interval": "100ms"})
    here.append(draw(250, seed=2))
    folder = here.results.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in its place")
    monitoring = loop_of(
        replace(here, config=here.config.model_copy(update={"sinks": (SINK,)})), worker
    )
    with capture_logs() as events:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(monitoring.run)
            await until(lambda: monitoring.status().cycles["failed"] >= 2)
            assert f"{folder} cannot be read" in (monitoring.status().results_error or "")
            folder.unlink()
            await until(lambda: monitoring.status().cycles["completed"] >= 1)
            await until(lambda: monitoring.status().results_error is None)
            tasks.cancel_scope.cancel()
    failed = [event for event in events if event["event"].endswith("_failed")]
    assert {event["event"] for event in failed} == {"cycle_failed", "delivery_failed"}
    assert all("cannot be read: Not a directory" in event["reason"] for event in failed)
    assert not any(event.get("exc_info") for event in failed)


async def test_stopping_does_not_wait_for_somebody_elses_cycle(place: Make, worker: Worker) -> None:
    here = place(monitoring={"interval": "50ms"})
    here.config.storage.state.mkdir(parents=True)
    monitoring = loop_of(here, worker)
    with FileLock(here.config.storage.state / "cycle.lock"), anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(monitoring.run)
            await anyio.sleep(0.3)
            monitoring.stop()
            tasks.cancel_scope.cancel()


async def test_a_cycle_that_waits_while_the_service_stops_never_begins(
    place: Make, worker: Worker
) -> None:
    here = place()
    here.append(draw(250, seed=2))
    monitoring = loop_of(here, worker)
    monitoring.stop()
    with pytest.raises(CycleBusy):
        await monitoring.force(reports=False)
    assert here.results.count() == 0


async def test_one_forced_cycle_may_wait_for_another_and_no_more(
    place: Make, worker: Worker
) -> None:
    here = place()
    here.config.storage.state.mkdir(parents=True)
    monitoring = loop_of(here, worker)
    async with anyio.create_task_group() as tasks:
        with FileLock(here.config.storage.state / "cycle.lock"):
            for _ in range(2):
                tasks.start_soon(monitoring.force, False)
            await anyio.sleep(0.2)
            with pytest.raises(CycleBusy):
                await monitoring.force(reports=False)
    assert monitoring.status().cycles["skipped"] == 2


async def test_trouble_with_the_disk_does_not_end_the_service(place: Make, worker: Worker) -> None:
    here = place(monitoring={"interval": "100ms"})
    here.config.storage.state.mkdir(parents=True)
    (here.config.storage.state / "delivery.lock").mkdir()
    here.append(draw(250, seed=2))
    monitoring = loop_of(
        replace(here, config=here.config.model_copy(update={"sinks": (SINK,)})), worker
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitoring.run)
        await until(lambda: monitoring.status().cycles["completed"] >= 2)
        tasks.cancel_scope.cancel()


async def test_what_a_cycle_has_read_is_compressed_when_that_is_wanted(
    place: Make, worker: Worker
) -> None:
    here = place(log={"compress": True})
    folder = here.config.storage.predictions
    here.append(draw(250, seed=2))
    closed = folder / "predictions-20260101T000000.000000Z.csv"
    (folder / "predictions.csv").rename(closed)
    here.append(draw(250, seed=3))
    monitoring = loop_of(here, worker)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitoring.run)
        first = await monitoring.force(reports=False)
        await until(lambda: not closed.exists())
        here.append(draw(10, seed=4))
        second = await monitoring.force(reports=False)
        tasks.cancel_scope.cancel()
    assert isinstance(first, RunResult)
    assert isinstance(second, RunResult)
    assert (first.window.rows, second.window.rows) == (500, 510)
    assert closed.with_suffix(".parquet").exists()
    assert first.cursor.keys() == second.cursor.keys()


@pytest.mark.parametrize("rows", [250, 50], ids=["completed", "skipped"])
async def test_what_a_cycle_has_read_is_deleted_when_it_is_old_and_that_is_wanted(
    place: Make, worker: Worker, rows: int
) -> None:
    here = place(log={"retention": {"max_age": "2d"}})
    folder = here.config.storage.predictions
    here.append(draw(250, seed=2), ends=datetime.now(UTC) - timedelta(days=3))
    closed = folder / "predictions-20260101T000000.000000Z.csv"
    (folder / "predictions.csv").rename(closed)
    here.append(draw(rows, seed=3))
    monitoring = loop_of(here, worker)
    with capture_logs() as events:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(monitoring.run)
            result = await monitoring.force(reports=False)
            await until(lambda: not closed.exists())
            tasks.cancel_scope.cancel()
    assert isinstance(result, RunResult if rows == 250 else Skipped)
    assert result.window.rows == rows
    assert [e["file"] for e in events if e["event"] == "file_pruned"] == [str(closed)]
    (link,) = chain.read(folder / "predictions.chain")
    assert link.record is not None
    assert (link.record.event, link.record.rows) == ("pruned", 250)


def test_unasked_nothing_is_compressed(place: Make, worker: Worker) -> None:
    here = place()
    here.append(draw(250, seed=2))
    closed = here.config.storage.predictions / "predictions-20260101T000000.000000Z.csv"
    (here.config.storage.predictions / "predictions.csv").rename(closed)
    (*_, block) = Reader(closed.parent).read({})
    Compressing(here.config, worker).run(block.cursor)
    assert closed.exists()
    asked = Config.model_copy(here.config, update={"log": Log(compress=True)})
    Compressing(asked, worker).run(block.cursor, cancelled=lambda: True)
    assert closed.exists()
    Compressing(asked, worker).run(block.cursor)
    assert not closed.exists()


def test_a_compression_that_fails_is_an_event(place: Make, worker: Worker) -> None:
    here = place(log={"compress": True})
    worker.close()
    with capture_logs() as events:
        Compressing(here.config, worker).run({"a": 1})
    assert [event["event"] for event in events] == ["compression_failed"]
