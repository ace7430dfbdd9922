"""Replay: the cycles of the past once more, as they ran or would have run, beside the record."""

from __future__ import annotations

import signal
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from monitorkit import plugin_manager, progress, reference
from monitorkit.config import Config
from monitorkit.contracts import RunResult, Skipped
from monitorkit.errors import ConfigError, ReferenceProblem, told
from monitorkit.monitoring.comparison import Compared, Failed, compare
from monitorkit.monitoring.cycle import LOOK_THROUGH_RESULTS, Moment, Selection, judge
from monitorkit.monitoring.instants import Instant, Plan, Span, plan
from monitorkit.monitoring.ladder import longest_lookback
from monitorkit.monitoring.protocol import Engine
from monitorkit.monitoring.pruned import Pruned
from monitorkit.monitoring.scratch import scratch_engine
from monitorkit.monitoring.side_by_side import Report
from monitorkit.prediction_log import Cursor, Reader
from monitorkit.results import Results, new_run_id

Replayed = RunResult | Skipped | Failed
EngineAside = Callable[[Config], AbstractContextManager[tuple[Config, Engine]]]


def run(
    config: Config,
    selection: Selection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    output: Path | None = None,
) -> Report:
    """Replay, and show what was and what would have been flagged: a table, or events in a pipe.

    Args:
        config: what is tried out; it also says where the log and the record are.
        selection: the monitors that take part.
        since: the first possible cycle; None: from the first row or result on.
        until: the last possible one; None: now.
        output: a folder for the results of the replay.

    Returns:
        What was compared.

    Raises:
        ConfigError: it names a monitor that there is not, a time that ends before it begins, or
            a folder that holds something.
        ReferenceProblem: the reference is missing or is not what was frozen.
        OSError: a result cannot be written.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it does what Ctrl-C does
    plugin_manager.checked(config)
    selection.check(config)
    reference.verify(config.storage.reference)
    present = datetime.now(UTC)
    span = Span(since, min(until or present, present), present)
    if since is not None and since > span.until:
        raise ConfigError("--from / --to", (f"{since} is later than {span.until}",))
    kept = Results(output) if output is not None else None
    if output is not None and output.exists() and any(output.iterdir()):
        raise ConfigError("--output", (f"{output} holds something; name a new folder",))
    with progress.step("find_cycles"):
        todo = plan(config, Results(config.storage.results), span, longest_lookback(config))
    report = Report(len(todo), todo.late)
    try:
        with (
            progress.step("replay", cycles=len(todo)) as advance,
            closing(replay(config, selection, todo)) as cycles,
        ):
            for number, (compared, outcome) in enumerate(cycles, 1):
                report.add(compared)
                if kept is not None and isinstance(outcome, RunResult):
                    _keep(kept, outcome)
                advance(number / len(todo))
    finally:  # after Ctrl-C, what was replayed until then
        report.finish()
    return report


def _keep(kept: Results, outcome: RunResult) -> None:
    try:
        kept.commit(outcome)
    except OSError as error:
        problem = f"{kept.folder} cannot be written: {error.strerror or error}"
        raise ConfigError("--output", (problem,)) from error


def replay(
    config: Config, selection: Selection, todo: Plan, engine_aside: EngineAside = scratch_engine
) -> Generator[tuple[Compared, Replayed], None, None]:
    """Replay the cycles of a plan; yields each beside its record, and what the replay found.

    Nothing that exists is written to: neither timeline nor results, reports or sinks.

    Args:
        config: what is tried out.
        selection: the monitors that take part.
        todo: the cycles.
        engine_aside: makes the engine that they run on, and the configuration that it goes by.

    Raises:
        ReferenceProblem: the reference is missing or is not what was frozen.
    """
    horizon = longest_lookback(config)
    here = Reader(config.storage.predictions, config.log.archives).begun()
    pruned = Pruned(here, todo.results, horizon)
    past = _Past(todo.results)
    with ExitStack() as stack:
        bench = _Bench(config, engine_aside, stack, here)
        for instant in todo:
            past.begin(instant)
            outcome = bench.judge(instant, past, selection)
            compared = compare(
                instant.now,
                instant.record,
                outcome,
                gone=pruned.segments(instant),
                horizon=horizon,
                oldest=past.knows_nothing_before(instant),
                selected=selection.takes,
            )
            past.add(instant, outcome, compared)
            yield compared, outcome


@dataclass(slots=True)
class _Bench:
    """Where cycles are replayed: an engine, and how far it has read.

    Attributes:
        config: what is tried out.
        engine_aside: makes engines.
        stack: ends the engine.
        here: the segments that there are.
        reached: up to where it may have read.
        aside: the engine, and the configuration that it goes by.
        run_id: of the last cycle.
    """

    config: Config
    engine_aside: EngineAside
    stack: ExitStack
    here: Collection[str]
    reached: Cursor = field(default_factory=dict)
    aside: tuple[Config, Engine] | None = None
    run_id: str | None = None

    def judge(self, instant: Instant, past: _Past, selection: Selection) -> Replayed:
        """What a cycle finds at an instant, whatever happens in it.

        Raises:
            ReferenceProblem: the reference is missing or is not what was frozen.
        """
        if self.aside is None or self._is_past(instant.cursor):
            self.stack.close()  # a timeline cannot go back: begin another one
            self.aside = self.stack.enter_context(self.engine_aside(self.config))
        self.reached = instant.cursor
        config, engine = self.aside
        self.run_id = new_run_id(instant.now, after=self.run_id)
        record = instant.record
        trigger = record.trigger if record is not None else "periodic"
        try:
            return judge(
                config,
                engine,
                Moment(instant.now, self.run_id, trigger, past.of(instant), instant.cursor),
                selection=past.taking_part(instant, selection),
                store=None,
            )
        except ReferenceProblem:
            raise
        except Exception as error:  # noqa: BLE001 - as for live cycles: the next one may go better
            return Failed(told(error))

    def _is_past(self, cursor: Cursor) -> bool:
        """Whether more was read than there was at a cursor."""
        return any(
            cursor.get(segment, 0) < at
            for segment, at in self.reached.items()
            if segment in self.here
        )


class _Past:
    """What the monitors of a replayed cycle are told of the cycles before it.

    A recorded cycle knew of recorded ones only, so its replay knows of their replays only; one
    without a record knows of all that were replayed. The first ones know of the record before them,
    and one after a cycle whose rows are missing knows of that cycle's record.

    Args:
        results: the record.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._began = False
        self._oldest: str | None = None
        self._recorded: deque[RunResult] = deque(maxlen=LOOK_THROUGH_RESULTS)
        self._all: deque[RunResult] = deque(maxlen=LOOK_THROUGH_RESULTS)
        self._names: set[str] = set()

    def begin(self, instant: Instant) -> None:
        """Before the first instant, recall what is recorded of the time before it."""
        if self._began:
            return
        self._began = True
        run_ids = self._results.run_ids()
        self._oldest = next(iter(run_ids), None)
        first = new_run_id(instant.now) if instant.record is None else instant.record.run_id
        place = bisect_left(run_ids, first)
        for run_id in run_ids[max(0, place - LOOK_THROUGH_RESULTS) : place]:
            found = self._results.result(run_id)
            if found is not None:
                self._recorded.appendleft(found)
                self._all.appendleft(found)
                self._names.update(outcome.name for outcome in found.outcomes)

    def of(self, instant: Instant) -> tuple[RunResult, ...]:
        """The results before an instant, newest first."""
        return tuple(self._all if instant.record is None else self._recorded)

    def knows_nothing_before(self, instant: Instant) -> bool:
        """Whether an instant's record is the oldest that is kept; there may have been others."""
        return instant.record is not None and instant.record.run_id == self._oldest

    def add(self, instant: Instant, outcome: Replayed, compared: Compared) -> None:
        """Note what was found at an instant."""
        record = instant.record
        if isinstance(outcome, RunResult):
            self._all.appendleft(outcome)
        if record is None:
            return
        self._names.update(outcome.name for outcome in record.outcomes)
        other = isinstance(outcome, RunResult) and outcome.reference_hash != record.reference_hash
        if compared.agreement == "incomparable" and not other:
            outcome = record
        if isinstance(outcome, RunResult):
            self._recorded.appendleft(outcome)

    def taking_part(self, instant: Instant, selection: Selection) -> Selection:
        """Without the monitors that `monitor --once` left out then, by `--only` or `--skip`.

        They did not see that cycle, so their next findings are not compared with it.
        """
        record = instant.record
        if record is None or record.trigger != "once":
            return selection
        absent = self._names - {outcome.name for outcome in record.outcomes}
        return replace(selection, skip=(*selection.skip, *sorted(absent)))
