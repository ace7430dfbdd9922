"""The periodic task: a cycle every interval, forced ones in between, and what became of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

import anyio
from anyio import CapacityLimiter, to_thread

from monitorkit import logs
from monitorkit.config import Config
from monitorkit.contracts import CycleNote, MonitoringStatus, RunResult, Skipped, Trigger
from monitorkit.errors import (
    CycleBusy,
    ReferenceChanged,
    ReferenceMissing,
    ReferenceProblem,
    ResultsUnreadable,
    told,
)
from monitorkit.monitoring.compressing import Compressing
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.delivery import Delivery
from monitorkit.monitoring.process_engine import ProcessEngine
from monitorkit.monitoring.protocol import Engine
from monitorkit.monitoring.retention import LogRetention
from monitorkit.reference import verify
from monitorkit.results import Results

log = logs.get(__name__)

FORCED_PATIENCE = 30.0
FORCED_AT_ONCE = 2  # one that runs and one that waits for it; whoever asks for more is refused
REFUSED = (CycleBusy, ReferenceProblem, ResultsUnreadable)


class MonitoringLoop:
    """Runs cycles beside the service, off its event loop.

    Args:
        config: the whole configuration.
        engine: where monitors run.
        results: where the record is kept.
        delivery: takes results to the sinks.
        compressing: what comes after a cycle.
        retention: what comes after that.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        results: Results,
        delivery: Delivery,
        compressing: Compressing,
        *,
        retention: LogRetention,
    ) -> None:
        self._config = config
        self._engine = engine
        self._results = results
        self._delivery = delivery
        self._compressing = compressing
        self._retention = retention
        # A cycle, and one that waits for it; never the default limiter, which serving shares.
        self._threads = CapacityLimiter(1 + FORCED_AT_ONCE)
        self._forced = 0
        self._delivering = CapacityLimiter(1)
        self._deliver = anyio.Event()
        self._one_tidies = CapacityLimiter(1)
        self._tidy = anyio.Event()
        self._read: Mapping[str, int] = {}
        self._stopping = False
        self._counts: Counter[str] = Counter(completed=0, skipped=0, failed=0)
        self._status = MonitoringStatus(
            enabled=config.monitoring.enabled,
            reference="unchecked",
            reference_hash=None,
            reference_error=None,
            results_error=None,
            cycles=dict(self._counts),
            last_cycle=None,
            next_cycle_at=None,
            undelivered={},
        )

    def status(self) -> MonitoringStatus:
        """What is known now, without reading anything."""
        return self._status

    async def check_reference(self) -> None:
        """Verify the reference and note what was found; a bad one is an event, no exception."""
        folder = self._config.storage.reference
        try:
            metadata = await to_thread.run_sync(verify, folder, limiter=self._threads)
        except ReferenceProblem as error:
            self._note_reference(error)
            log.error("reference_refused", reason=str(error))  # noqa: TRY400 - says it all
        else:
            self._note_reference(None, metadata.reference_hash)

    async def run(self) -> None:
        """Run cycles until cancelled; the first one an interval from now."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run_deliveries)
            tasks.start_soon(self._tidy_up)
            if isinstance(self._engine, ProcessEngine):
                tasks.start_soon(self._warm_up, self._engine)
            if self._config.monitoring.enabled:
                tasks.start_soon(self._run_cycles)

    def stop(self) -> None:
        """Let whatever waits in a thread give up; call when `run` is being cancelled."""
        self._stopping = True

    async def force(self, reports: bool) -> RunResult | Skipped:
        """Run a cycle now.

        Raises:
            CycleBusy, ReferenceProblem, ResultsUnreadable, RegistryError, SchemaError, WorkerError,
                OSError: as `run_cycle`.
        """
        if self._forced >= FORCED_AT_ONCE:
            raise CycleBusy(0.0)
        self._forced += 1
        try:
            return await self._cycle("forced", reports=reports, patience=FORCED_PATIENCE)
        finally:
            self._forced -= 1

    async def _run_cycles(self) -> None:
        interval = self._config.monitoring.interval.total_seconds()
        due = time.monotonic() + interval
        while True:
            wait = due - time.monotonic()
            self._update(next_cycle_at=datetime.now(UTC) + timedelta(seconds=max(wait, 0.0)))
            await anyio.sleep(wait)
            try:
                await self._cycle("periodic", reports=False, patience=interval)
            except Exception as error:  # the next cycle may go better; serving goes on
                if self._stopping:
                    return
                log.error(  # noqa: TRY400 - a refusal says it all; anything else brings its traceback
                    "cycle_failed",
                    trigger="periodic",
                    reason=told(error),
                    exc_info=None if isinstance(error, REFUSED) else error,
                )
            # Cycles that were due while one ran are left out, not made up for.
            due += interval * (1 + max(0.0, time.monotonic() - due) // interval)

    async def _cycle(
        self, trigger: Trigger, *, reports: bool, patience: float
    ) -> RunResult | Skipped:
        call = partial(
            run_cycle,
            self._config,
            self._engine,
            self._results,
            trigger=trigger,
            reports=reports,
            patience=patience,
            cancelled=self._is_stopping,
        )
        try:
            result = await to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)
        except CycleBusy:
            raise  # somebody else's cycle runs: nothing failed
        except Exception as error:
            if isinstance(error, ReferenceProblem):
                self._note_reference(error)
            self._note_results(error)
            self._note("failed", trigger, reason=str(error))
            raise
        self._note_reference(None, result.reference_hash)
        if isinstance(result, Skipped):
            self._note("skipped", trigger, rows=result.window.rows, reason=result.reason)
        else:
            self._note("completed", trigger, rows=result.window.rows, run_id=result.run_id)
        self._note_results(None)
        self._read = result.cursor
        self._tidy.set()
        self._deliver.set()
        return result

    async def _run_deliveries(self) -> None:
        """Deliver at start what was left over, and then after every cycle."""
        while True:
            self._deliver = anyio.Event()
            call = partial(self._delivery.deliver, cancelled=self._is_stopping)
            try:
                await to_thread.run_sync(call, limiter=self._delivering, abandon_on_cancel=True)
                undelivered = await to_thread.run_sync(
                    self._delivery.undelivered, limiter=self._delivering
                )
                self._update(undelivered=undelivered)
                self._note_results(None)
            except Exception as error:  # noqa: BLE001 - a full disk, perhaps; next time it may go
                self._note_results(error)
                log.error("delivery_failed", reason=told(error))  # noqa: TRY400 - says it all
            await self._deliver.wait()

    async def _tidy_up(self) -> None:
        """After every cycle, compress what was read, and delete what is old."""
        while True:
            await self._tidy.wait()
            self._tidy = anyio.Event()
            call = partial(self._compressing.run, self._read, cancelled=self._is_stopping)
            try:
                await to_thread.run_sync(call, limiter=self._one_tidies, abandon_on_cancel=True)
                await to_thread.run_sync(self._retention.run, self._read, limiter=self._one_tidies)
            except Exception as error:  # serving goes on; it is tried again after the next cycle
                log.exception("tidying_failed", reason=told(error))

    async def _warm_up(self, engine: ProcessEngine) -> None:
        try:
            await to_thread.run_sync(engine.warm_up, limiter=self._threads, abandon_on_cancel=True)
        except Exception as error:  # noqa: BLE001 - the cycle tries again and reports it
            if not self._stopping:
                log.warning("monitors_not_warm", reason=told(error))

    def _is_stopping(self) -> bool:
        return self._stopping

    def _note_reference(self, error: ReferenceProblem | None, found: str | None = None) -> None:
        kind: Literal["ok", "missing", "changed", "unreadable"] = "ok"
        expected = found
        if isinstance(error, ReferenceChanged):
            kind, expected = "changed", error.expected
        elif isinstance(error, ReferenceMissing):
            kind = "missing"
        elif error is not None:
            kind = "unreadable"
        self._update(
            reference=kind,
            reference_hash=expected,
            reference_error=str(error) if error is not None else None,
        )

    def _note_results(self, error: Exception | None) -> None:
        """That they could be read, or not; an error of something else says neither."""
        if error is None or isinstance(error, ResultsUnreadable):
            self._update(results_error=str(error) if error is not None else None)

    def _note(
        self,
        outcome: Literal["completed", "skipped", "failed"],
        trigger: Trigger,
        *,
        rows: int | None = None,
        run_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        self._counts[outcome] += 1
        note = CycleNote(outcome, datetime.now(UTC), trigger, rows, run_id, reason)
        self._update(last_cycle=note, cycles=dict(self._counts))

    def _update(self, **changes: object) -> None:
        self._status = replace(self._status, **changes)  # type: ignore[arg-type] # names are literal
