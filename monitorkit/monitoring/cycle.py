"""Spine 2, one monitoring cycle: read what is new, gate, judge, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from monitorkit import logs, telemetry
from monitorkit.config import Config
from monitorkit.contracts import (
    SCORE_COLUMN,
    DriftSummary,
    Finding,
    Outcome,
    RunResult,
    Skipped,
    Status,
    Trigger,
    feature_verdicts,
    found_no_rows,
)
from monitorkit.errors import ConfigError, CycleBusy, MonitorkitError, WorkerTimeout, told
from monitorkit.monitoring.protocol import Absorbed, Case, Engine
from monitorkit.monitoring.reports import Reports
from monitorkit.prediction_log import Cursor
from monitorkit.results import Results, new_run_id
from monitorkit.retention import Limits
from monitorkit.settings import MonitorEntry, ReportRetention, ResultRetention
from monitorkit.units import several

log = logs.get(__name__)

LOOK_THROUGH_RESULTS = 100  # of any version, in which a monitor's previous findings are looked for


@dataclass(frozen=True, slots=True)
class Selection:
    """The monitors that take part: all, `only` some, or all but those to `skip`."""

    only: Sequence[str] = ()
    skip: Sequence[str] = ()

    def takes(self, name: str) -> bool:
        """Whether the monitor of that name takes part."""
        return (not self.only or name in self.only) and name not in self.skip

    def check(self, config: Config) -> None:
        """Refuse names that no monitor has, and what leaves no monitor.

        Raises:
            ConfigError: naming one of them, and those that there are.
        """
        names = [entry.name for entry in config.monitors]
        for name in (*self.only, *self.skip):
            if name not in names:
                problem = f"no monitor is called {name!r}; there are: {', '.join(names)}"
                raise ConfigError("--only / --skip", (problem,))
        if names and not any(map(self.takes, names)):
            raise ConfigError("--only / --skip", ("together they leave no monitor",))


def run_cycle(
    config: Config,
    engine: Engine,
    results: Results,
    *,
    trigger: Trigger,
    selection: Selection = Selection(),
    reports: bool = False,
    patience: float = 60.0,
    cancelled: Callable[[], bool] = lambda: False,
) -> RunResult | Skipped:
    """Run one cycle, or wait for the one that runs; blocks its thread.

    Args:
        config: the whole configuration.
        engine: where monitors run.
        results: where the record is kept.
        trigger: what asked for it.
        selection: the monitors that take part.
        reports: make the reports that are not made at every cycle.
        patience: seconds to wait for a cycle of this or another process.
        cancelled: asked while waiting, and when a monitor fails; true ends the cycle, for then
            nobody is to blame: its worker was closed.

    Raises:
        CycleBusy: another cycle took longer than that.
        ReferenceProblem: the reference is missing or is not what was frozen.
        RegistryError, SchemaError: the model version in the log cannot be judged.
        WorkerError: reading the log ended the worker, and no monitor is to blame.
        ResultsUnreadable: what earlier cycles found cannot be read.
        OSError: the result cannot be written.
    """
    config.storage.state.mkdir(parents=True, exist_ok=True)
    # The operating system frees this lock when a process dies, so a crash cannot leave it stuck.
    lock = FileLock(config.storage.state / "cycle.lock", thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=0.05, cancel_check=cancelled)
    except Timeout as error:
        raise CycleBusy(patience) from error
    try:
        if cancelled():  # the lock was free before filelock asked: nobody waits for this cycle
            raise CycleBusy(patience)
        with telemetry.span("cycle", trigger=trigger) as told_of:
            outcome = _run(
                config,
                engine,
                results,
                trigger=trigger,
                selection=selection,
                reports=reports,
                cancelled=cancelled,
            )
            told_of.update(_spoken(outcome))
        return outcome
    finally:
        lock.release()


def _spoken(outcome: RunResult | Skipped) -> dict[str, Any]:
    """What a span says of a cycle."""
    window = {"rows": outcome.window.rows, "model_version": outcome.window.model_version}
    if isinstance(outcome, Skipped):
        return {"outcome": "skipped", **window}
    drifted = None if outcome.drift is None else list(outcome.drift.drifted_features)
    return {
        "outcome": "completed",
        "run_id": outcome.run_id,
        "drifted_features": drifted,
        **window,
    }


@dataclass(frozen=True, slots=True)
class Moment:
    """When a cycle takes place, and what there is then.

    Attributes:
        now: the end of the window.
        run_id: of the result, when there will be one.
        trigger: what asked for the cycle.
        earlier: the results of the cycles before it, newest first.
        until: up to where the log is read; None: to its end.
    """

    now: datetime
    run_id: str
    trigger: Trigger
    earlier: Iterable[RunResult]
    until: Cursor | None = None


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What every monitor of one cycle is judged with."""

    engine: Engine
    store: Reports | None
    run_id: str
    now: datetime
    version: str
    absorbed: Absorbed
    previous: Mapping[str, Sequence[Finding]]
    reports: bool
    cancelled: Callable[[], bool]

    def judge(self, entry: MonitorEntry) -> Outcome:
        """One monitor's outcome, whatever it does."""
        started = time.perf_counter()
        outcome = Outcome(entry.name, entry.use, "failed", (), 0.0)
        if entry.name in self.absorbed.failures:
            return replace(outcome, error=self.absorbed.failures[entry.name])
        case = Case(
            monitor=entry.name,
            version=self.version,
            now=self.now,
            previous=self.previous.get(entry.name, ()),
            cursor=self.absorbed.cursor,
            reports=self.reports,
        )
        try:
            judgement = self.engine.judge(case)
        except Exception as error:
            if self.cancelled():
                raise
            # One failing monitor harms itself alone.
            status: Status = "timed_out" if isinstance(error, WorkerTimeout) else "failed"
            seconds = time.perf_counter() - started
            return replace(outcome, status=status, error=told(error), seconds=seconds)
        return Outcome(
            name=entry.name,
            kind=entry.use,
            status="drift" if any(finding.drift for finding in judgement.findings) else "ok",
            findings=tuple(judgement.findings),
            seconds=time.perf_counter() - started,
            reports=tuple(self._written(entry.name, judgement.attachments)),
        )

    def _written(self, monitor: str, attachments: Mapping[str, bytes]) -> Iterator[str]:
        """Where they are; one that cannot be written can be made again, and costs no finding."""
        for name, content in attachments.items():
            if self.store is not None:
                try:
                    yield self.store.write(self.run_id, monitor, name, content)
                except OSError as error:
                    log.error(  # noqa: TRY400 - the reason says it all
                        "report_not_written",
                        monitor=monitor,
                        run_id=self.run_id,
                        folder=str(self.store.folder),
                        reason=told(error),
                    )


def _run(
    config: Config,
    engine: Engine,
    results: Results,
    *,
    trigger: Trigger,
    selection: Selection,
    reports: bool,
    cancelled: Callable[[], bool],
) -> RunResult | Skipped:
    now = datetime.now(UTC)
    run_ids = results.run_ids()
    newest = run_ids[-1] if run_ids else None
    store = Reports(config.storage.reports)
    outcome = judge(
        config,
        engine,
        Moment(now, new_run_id(now, after=newest), trigger, _newest_first(results, run_ids)),
        selection=selection,
        store=store,
        reports=reports,
        cancelled=cancelled,
    )
    if isinstance(outcome, Skipped):
        log.info(
            "cycle_skipped",
            trigger=trigger,
            rows=outcome.window.rows,
            min_rows=outcome.min_rows,
            reason=outcome.reason,
        )
        return outcome
    results.commit(outcome)
    _say(outcome)
    with _told_of(results.folder):
        results.prune(_limits(config.monitoring.results))
    with _told_of(store.folder):
        store.prune(_limits(config.monitoring.reports))
    return outcome


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """What is old and cannot be deleted harms no cycle, whose result is there."""
    try:
        yield
    except (OSError, MonitorkitError) as error:
        log.warning("retention_failed", folder=str(folder), reason=told(error))


def judge(
    config: Config,
    engine: Engine,
    moment: Moment,
    *,
    selection: Selection = Selection(),
    store: Reports | None,
    reports: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> RunResult | Skipped:
    """What a cycle of some moment finds; commits nothing.

    Args:
        config: the whole configuration.
        engine: where monitors run.
        moment: when it is.
        selection: the monitors that take part.
        store: takes what monitors attach; None: nobody looks at it.
        reports: make the reports that are not made at every cycle.
        cancelled: as for `run_cycle`.

    Raises:
        Exception: as `run_cycle`, but for the lock and the result.
    """
    started = time.perf_counter()
    entries = [entry for entry in config.monitors if selection.takes(entry.name)]
    names = [entry.name for entry in entries]
    absorbed = engine.absorb(names, moment.now, until=moment.until)
    window, gate = absorbed.window, config.monitoring.min_rows
    if window.rows < gate or window.model_version is None:
        needed = f"{gate:,} {'is' if gate == 1 else 'are'} needed"
        reason = f"{several(window.rows, 'row')} in the look-back, {needed}"
        return Skipped(
            trigger=moment.trigger,
            started_at=moment.now,
            window=window,
            min_rows=gate,
            reason=reason,
            reference_hash=absorbed.reference_hash,
            cursor=dict(absorbed.cursor),
        )
    cycle = _Cycle(
        engine=engine,
        store=store,
        run_id=moment.run_id,
        now=moment.now,
        version=window.model_version,
        absorbed=absorbed,
        previous=_previous(moment.earlier, absorbed, names),
        reports=reports,
        cancelled=cancelled,
    )
    outcomes = tuple(cycle.judge(entry) for entry in entries)
    verdict = config.monitoring.verdict
    return RunResult(
        run_id=moment.run_id,
        trigger=moment.trigger,
        started_at=moment.now,
        finished_at=moment.now + timedelta(seconds=time.perf_counter() - started),
        model_name=config.registry.model_name,
        window=window,
        min_rows=gate,
        reference_hash=absorbed.reference_hash,
        cursor=dict(absorbed.cursor),
        drift=summarise_drift(outcomes, verdict.monitor, verdict.drift_share),
        outcomes=outcomes,
    )


def _limits(section: ResultRetention | ReportRetention) -> Limits:
    return Limits(section.keep, section.max_age, int(section.max_size))


def _newest_first(results: Results, run_ids: Sequence[str]) -> Iterator[RunResult]:
    """The last results, read as they are asked for; a damaged one counts as one of them."""
    for run_id in run_ids[::-1][:LOOK_THROUGH_RESULTS]:
        found = results.result(run_id)
        if found is not None:
            yield found


def _previous(
    earlier: Iterable[RunResult], absorbed: Absorbed, names: Sequence[str]
) -> dict[str, Sequence[Finding]]:
    """Each monitor's last findings, of the same model version and reference.

    Not every result has every monitor: one may have failed, or been left out by `--only`.
    """
    found: dict[str, Sequence[Finding]] = {}
    for result in earlier:
        if result.reference_hash != absorbed.reference_hash:
            break
        if result.window.model_version != absorbed.window.model_version:
            continue  # versions may take turns; an alarm of one is no news when it is back
        for outcome in result.outcomes:
            # Without rows it said nothing, which would hide what it said before.
            if outcome.error is None and not found_no_rows(outcome.findings):
                found.setdefault(outcome.name, outcome.findings)
        if set(names) <= set(found):
            break
    return found


def summarise_drift(
    outcomes: Sequence[Outcome], monitor: str, share_threshold: float
) -> DriftSummary | None:
    """The data set's verdict from one monitor's findings on features; None when it has none.

    Args:
        outcomes: of the cycle.
        monitor: the name of the monitor that decides.
        share_threshold: the share of drifted features from which the data set drifts.
    """
    outcome = next((o for o in outcomes if o.name == monitor and o.error is None), None)
    if outcome is None:
        return None
    verdicts = feature_verdicts(outcome.findings)
    # Only in part left out is what another measure could judge: whether it is missing, say.
    left_out = {
        str(finding.column): str(finding.detail.get("reason", ""))
        for finding in outcome.findings
        if finding.measure == "excluded" and finding.column not in {None, SCORE_COLUMN, *verdicts}
    }
    drifted = [column for column, drift in verdicts.items() if drift]
    share = len(drifted) / len(verdicts) if verdicts else None
    return DriftSummary(
        monitor=monitor,
        dataset_drift_detected=None if share is None else share >= share_threshold,
        drift_share=share,
        share_threshold=share_threshold,
        drifted_features=tuple(drifted),
        num_features_evaluated=len(verdicts),
        excluded_features=left_out,
    )


def _say(result: RunResult) -> None:
    for outcome in result.outcomes:
        if outcome.error is not None:
            log.error(
                "monitor_failed",
                monitor=outcome.name,
                status=outcome.status,
                reason=outcome.error,
                run_id=result.run_id,
            )
    drift = result.drift
    log.info(
        "cycle_completed",
        run_id=result.run_id,
        trigger=result.trigger,
        model_version=result.window.model_version,
        rows=result.window.rows,
        seconds=round((result.finished_at - result.started_at).total_seconds(), 3),
        monitors={outcome.name: outcome.status for outcome in result.outcomes},
        dataset_drift_detected=drift.dataset_drift_detected if drift else None,
        drifted_features=list(drift.drifted_features) if drift else None,
    )
