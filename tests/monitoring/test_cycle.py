"""One cycle: what is new is read, gated, judged and committed, whatever a monitor does."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from monitoring_place import Place, draw, store_model
from otlp_receiver import attributes, receiving
from scipy import stats
from structlog.testing import capture_logs

from monitorkit import telemetry
from monitorkit.contracts import Finding, Outcome, RunResult, Skipped, found_no_rows
from monitorkit.errors import (
    CycleBusy,
    ModelNotFound,
    ReferenceChanged,
    ReferenceMissing,
    WorkerDied,
)
from monitorkit.monitoring.cycle import (
    Moment,
    Selection,
    judge,
    run_cycle,
    summarise_drift,
)
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.process_engine import ProcessEngine
from monitorkit.monitoring.reports import Reports
from monitorkit.monitoring.store import FILE
from monitorkit.results import Results, new_run_id
from monitorkit.retention import Limits
from monitorkit.settings import Telemetry
from monitorkit.worker import Worker

Make = Callable[..., Place]


def cycle(here: Place, engine: LocalEngine | ProcessEngine | None = None, **options: Any) -> Any:
    return run_cycle(
        here.config,
        engine or LocalEngine(here.config),
        here.results,
        trigger="once",
        **options,
    )


def test_below_the_gate_nothing_is_judged_or_written(place: Make) -> None:
    here = place()
    here.append(draw(199, seed=2))
    skipped = cycle(here)
    assert isinstance(skipped, Skipped)
    assert (skipped.window.rows, skipped.min_rows) == (199, 200)
    assert skipped.reason == "199 rows in the look-back, 200 are needed"
    assert here.results.run_ids() == []


def test_one_row_is_told_as_one(place: Make) -> None:
    here = place(monitoring={"min_rows": 2000})
    here.append(draw(1, seed=2))
    assert cycle(here).reason == "1 row in the look-back, 2,000 are needed"


def test_without_a_log_the_cycle_is_skipped(place: Make) -> None:
    skipped = cycle(place())
    assert isinstance(skipped, Skipped)
    assert (skipped.window.rows, skipped.window.model_version) == (0, None)


def test_at_the_gate_a_result_is_committed(place: Make) -> None:
    here = place()
    here.append(draw(200, seed=2))
    result = cycle(here)
    assert isinstance(result, RunResult)
    assert here.results.latest() == result
    assert result.window.rows == 200
    assert result.outcomes[0].status == "ok"


def test_a_cycle_is_a_span_that_says_what_came_of_it(place: Make) -> None:
    here = place()
    with receiving() as received, telemetry.traces(Telemetry(traces=received.url)):
        skipped = cycle(here)
        assert isinstance(skipped, Skipped)
        here.append(draw(250, seed=2))
        result = cycle(here)
    below, above = map(attributes, sorted(received.spans, key=lambda it: it.start_time_unix_nano))
    assert below == {
        "monitorkit.trigger": "once",
        "monitorkit.outcome": "skipped",
        "monitorkit.rows": 0,
    }
    assert above == {
        "monitorkit.trigger": "once",
        "monitorkit.outcome": "completed",
        "monitorkit.run_id": result.run_id,
        "monitorkit.drifted_features": [],
        "monitorkit.rows": 250,
        "monitorkit.model_version": "1",
    }


def test_rows_are_judged_as_scipy_judges_them(place: Make) -> None:
    here = place()
    rows = draw(700, seed=3, shift=(0, 500, 0))
    here.append(rows[:300])
    engine = LocalEngine(here.config)
    cycle(here, engine)
    here.append(rows[300:])
    result = cycle(here, engine)
    found = {f.column: f for f in result.outcomes[0].findings if f.measure == "ks"}
    for position, column in enumerate(("age", "income", "late")):
        expected = stats.ks_2samp(draw(1000, seed=1)[:, position], rows[:, position])
        assert found[column].value == pytest.approx(expected.statistic, abs=1e-12)
    assert result.drift is not None
    assert result.drift.drifted_features == ("income",)


def test_a_second_cycle_reads_only_what_is_new(place: Make) -> None:
    here = place()
    here.append(draw(300, seed=2))
    engine = LocalEngine(here.config)
    now = datetime.now(UTC)
    assert engine.absorb(["feature-drift"], now).rows_read == 300
    assert engine.absorb(["feature-drift"], now).rows_read == 0
    here.append(draw(10, seed=3))
    absorbed = engine.absorb(["feature-drift"], now)
    assert (absorbed.rows_read, absorbed.window.rows) == (10, 310)
    # Nor does a restart read the day again.
    again = LocalEngine(here.config).absorb(["feature-drift"], now)
    assert (again.rows_read, again.window.rows) == (0, 310)


def test_without_its_timeline_a_cycle_finds_the_same(place: Make) -> None:
    monitors = [
        {"name": "feature-drift", "use": "ks"},
        {"name": "proxy", "use": "proxy_metrics"},
        {"name": "wasserstein", "use": "wasserstein"},
    ]
    here = place(monitors=monitors)
    engine = LocalEngine(here.config)
    for seed in range(5):
        here.append(draw(100, seed=10 + seed))
        engine.absorb(["feature-drift", "proxy", "wasserstein"], datetime.now(UTC))
    kept = cycle(here, engine)
    here.results.prune(Limits(1))
    (here.config.storage.state / FILE).unlink()
    rebuilt = cycle(here)
    for before, after in zip(kept.outcomes, rebuilt.outcomes, strict=True):
        if before.name != "proxy":  # its change per hour depends on the previous cycle
            assert before.findings == after.findings
    assert rebuilt.cursor == kept.cursor


def test_a_new_monitor_reads_what_the_others_know(place: Make) -> None:
    here = place()
    here.append(draw(300, seed=2))
    cycle(here)
    more = here.config.model_copy(
        update={
            "monitors": (
                *here.config.monitors,
                here.config.monitors[0].model_copy(
                    update={"name": "late-comer", "use": "missing_and_range"}
                ),
            )
        }
    )
    result = cycle(replace(here, config=more))
    assert [outcome.error for outcome in result.outcomes] == [None, None]
    assert len(result.outcomes[1].findings) >= 3


def test_rows_outside_the_look_back_do_not_count(place: Make) -> None:
    here = place(monitoring={"lookback": "1h"})
    here.append(draw(150, seed=2), ends=datetime.now(UTC) - timedelta(hours=2))
    here.append(draw(150, seed=3))
    skipped = cycle(here)
    assert isinstance(skipped, Skipped)
    assert skipped.window.rows == 150


def test_a_new_model_version_starts_a_new_window(place: Make) -> None:
    here = place()
    store_model(here.config, "2")
    here.append(draw(500, seed=2))
    here.append(draw(250, seed=3), version="2")
    result = cycle(here)
    assert (result.window.model_version, result.window.rows) == ("2", 250)


def test_an_alarm_goes_on_when_its_version_is_back(place: Make) -> None:
    """Needs `continue`, not `break`, at another version in `_previous`."""
    here = place(monitors=[{"name": "feature-drift", "use": "anytime_drift"}])
    store_model(here.config, "2")

    def alarm() -> Any:
        (outcome,) = cycle(here).outcomes
        return next(
            finding.detail["alarm"]
            for finding in outcome.findings
            if (finding.measure, finding.column) == ("distance", "age") and finding.drift
        )

    here.append(draw(1500, seed=2, shift=(40, 0, 0)))
    assert alarm() == "new"
    here.append(draw(1500, seed=3, shift=(40, 0, 0)), version="2")
    assert alarm() == "new"
    here.append(draw(300, seed=4, shift=(40, 0, 0)))
    assert alarm() == "continuing"


def test_an_alarm_goes_on_when_its_version_is_back_after_many_cycles(place: Make) -> None:
    """A canary's newest row is seldom the newest of all."""
    here = place(monitors=[{"name": "feature-drift", "use": "anytime_drift"}])
    store_model(here.config, "2")
    engine = LocalEngine(here.config)
    here.append(draw(1500, seed=2, shift=(40, 0, 0)))
    assert "new" in alarms(cycle(here, engine))
    here.append(draw(1500, seed=3), version="2")
    for _ in range(12):
        assert cycle(here, engine).window.model_version == "2"
    here.append(draw(300, seed=4, shift=(40, 0, 0)))
    assert alarms(cycle(here, engine)) == {"continuing"}


def alarms(result: Any) -> set[str]:
    (outcome,) = result.outcomes
    return {f.detail["alarm"] for f in outcome.findings if f.column == "age" and f.drift}


def test_an_alarm_goes_on_after_an_hour_without_rows(place: Make) -> None:
    """With a look-back of its own, which is shorter than that of the gate."""
    here = place(
        monitors=[{"name": "feature-drift", "use": "anytime_drift", "lookback": "1h"}],
    )
    engine, store = LocalEngine(here.config), Reports(here.config.storage.reports)
    begin = datetime.now(UTC) - timedelta(hours=5)
    earlier: list[RunResult] = []
    found = []
    quiet = [(90 + 5 * n, 0) for n in range(12)]
    for minutes, rows in ((0, 1500), *quiet, (160, 1500)):
        now = begin + timedelta(minutes=minutes)
        if rows:
            drifted = draw(rows, seed=minutes, shift=(40, 0, 0))
            here.append(drifted, ends=now - timedelta(seconds=1))
        moment = Moment(now, new_run_id(now), "once", earlier)
        result = judge(here.config, engine, moment, store=store)
        assert isinstance(result, RunResult)
        earlier.insert(0, result)
        found.append((alarms(result), found_no_rows(result.outcomes[0].findings)))
    assert "new" in found[0][0]
    assert found[1:] == [(set(), True)] * len(quiet) + [({"continuing"}, False)]


def test_an_alarm_goes_on_after_an_hour_in_which_its_monitor_failed(place: Make) -> None:
    here = place(monitors=[{"name": "feature-drift", "use": "anytime_drift"}])
    engine, store = LocalEngine(here.config), Reports(here.config.storage.reports)
    here.append(draw(1500, seed=2, shift=(40, 0, 0)))
    first = cycle(here, engine)
    assert "new" in alarms(first)
    (outcome,) = first.outcomes
    failed = replace(outcome, status="timed_out", findings=(), error="it took longer than 60 s")
    now = datetime.now(UTC)
    earlier = [replace(first, outcomes=(failed,)) for _ in range(20)]
    moment = Moment(now, new_run_id(now), "once", [*earlier, first])
    result = judge(here.config, engine, moment, store=store)
    assert isinstance(result, RunResult)
    assert alarms(result) == {"continuing"}


def test_a_version_that_nobody_has_is_an_error_and_reads_again_once_it_is_there(
    place: Make,
) -> None:
    here = place()
    engine = LocalEngine(here.config)
    here.append(draw(250, seed=2))
    cycle(here, engine)
    here.append(draw(250, seed=3), version="9")
    with pytest.raises(ModelNotFound, match="9"):
        cycle(here, engine)
    store_model(here.config, "9")
    result = cycle(here, engine)
    assert (result.window.model_version, result.window.rows) == ("9", 250)
    (finding,) = [f for f in result.outcomes[0].findings if f.column == "age"]
    assert finding.detail["rows"] == 250


def test_a_changed_reference_stops_the_cycle_with_both_hashes(place: Make) -> None:
    here = place()
    here.append(draw(300, seed=2))
    engine = LocalEngine(here.config)
    cycle(here, engine)
    path = here.config.storage.reference / "reference_data.csv"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"1,2,3\n")
    with pytest.raises(ReferenceChanged) as refused:
        cycle(here, engine)
    assert len({refused.value.expected, refused.value.found}) == 2
    path.unlink()
    with pytest.raises(ReferenceMissing):
        cycle(here, engine)


def test_one_cycle_at_a_time(place: Make) -> None:
    here = place()
    here.config.storage.state.mkdir(parents=True)
    with FileLock(here.config.storage.state / "cycle.lock"), pytest.raises(CycleBusy):
        cycle(here, patience=0.2)
    assert isinstance(cycle(here, patience=0.2), Skipped)


def test_only_and_skip_choose_monitors(place: Make) -> None:
    names = ["one", "two", "three"]
    here = place(
        monitors=[{"name": name, "use": "ks"} for name in names],
        monitoring={"verdict": {"monitor": "one"}},
    )
    here.append(draw(300, seed=2))
    only = cycle(here, selection=Selection(only=("two",)))
    skip = cycle(here, selection=Selection(skip=("two",)))
    assert [outcome.name for outcome in only.outcomes] == ["two"]
    assert [outcome.name for outcome in skip.outcomes] == ["one", "three"]
    assert only.drift is None


BAD = [
    ("judge", "raise", "failed", "no good"),
    ("judge", "hang", "timed_out", "longer than 1 s"),
    ("judge", "exit", "failed", "exit code 3"),
    ("judge", "memory", "failed", "MemoryError"),
    ("judge", "nan", "failed", "not JSON-safe"),
    ("judge", "type", "failed", "not a Judgement"),
    ("judge", "path", "failed", "plain file name"),
    ("summarise", "raise", "failed", "no good"),
    ("summarise", "exit", "failed", "exit code 3"),
    ("init", "raise", "failed", "no good"),
    ("init", "exit", "failed", "exit code 3"),
]


@pytest.mark.parametrize(("at", "how", "status", "says"), BAD)
def test_a_monitor_that_misbehaves_harms_itself_alone(
    place: Make, worker: Worker, at: str, how: str, status: str, says: str
) -> None:
    timeout = "1s" if how == "hang" else "30s"
    bad = {"name": "bad", "use": "bad", "timeout": timeout, "options": {"at": at, "how": how}}
    good = {"name": "feature-drift", "use": "ks"}
    here = place(monitors=[bad, good, {**good, "name": "after"}])
    here.append(draw(300, seed=2))
    result = cycle(here, ProcessEngine(here.config, worker))
    failed, first, after = result.outcomes
    assert failed.status == status
    assert says in (failed.error or "")
    assert (first.status, after.status) == ("ok", "ok")
    assert first.findings == after.findings
    assert len(first.findings) == 4
    assert json.loads(here.results.read(result.run_id) or b"")["monitors"][0]["status"] == status


def test_a_monitor_that_recovers_has_missed_nothing(place: Make, worker: Worker) -> None:
    bad = {"name": "bad", "use": "bad", "options": {"at": "summarise", "how": "raise"}}
    here = place(monitors=[{"name": "feature-drift", "use": "ks"}, bad])
    engine = ProcessEngine(here.config, worker)
    here.append(draw(300, seed=2))
    assert cycle(here, engine).outcomes[1].status == "failed"
    here.append(draw(50, seed=3))
    (here.folder / "healed").touch()
    result = cycle(here, engine)
    assert result.outcomes[1].findings == (Finding("rows", 350.0),)


def test_attachments_are_written_beside_the_result(place: Make) -> None:
    here = place(monitors=[{"name": "evidently", "use": "evidently_drift"}])
    here.append(draw(300, seed=2))
    result = cycle(here)
    (report,) = result.outcomes[0].reports
    page = (here.config.storage.reports / report).read_text()
    assert report == f"{result.run_id}-evidently-evidently_drift.html"
    assert "<html" in page[:2000].lower()
    # The next one is made on request only, for no verdict changed.
    assert cycle(here).outcomes[0].reports == ()
    assert len(cycle(here, reports=True).outcomes[0].reports) == 1


def test_a_report_that_cannot_be_written_costs_no_finding(place: Make) -> None:
    here = place(monitors=[{"name": "evidently", "use": "evidently_drift"}])
    here.append(draw(300, seed=2))
    here.config.storage.reports.parent.mkdir(parents=True, exist_ok=True)
    here.config.storage.reports.write_bytes(b"no folder")
    with capture_logs() as events:
        (outcome,) = cycle(here).outcomes
    assert (outcome.status, outcome.error, outcome.reports) == ("ok", None, ())
    assert len(outcome.findings) > 3
    (event,) = (each for each in events if each["event"] == "report_not_written")
    assert (event["monitor"], event["folder"]) == ("evidently", str(here.config.storage.reports))


def test_old_files_that_cannot_be_deleted_fail_no_cycle(
    place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place()
    here.append(draw(300, seed=2))

    def refuse(_self: Results, _limits: Limits) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "old.json")

    monkeypatch.setattr(Results, "prune", refuse)
    with capture_logs() as events:
        result = cycle(here)
    assert here.results.run_ids() == [result.run_id]
    assert [each["event"] for each in events if each["log_level"] != "info"] == ["retention_failed"]
    assert "cycle_completed" in [each["event"] for each in events]


def outcome(*findings: Finding, error: str | None = None) -> Outcome:
    return Outcome("m", "ks", "failed" if error else "ok", findings, 0.1, error)


def test_the_verdict_counts_features_and_not_the_score() -> None:
    summary = summarise_drift(
        [
            outcome(
                Finding("ks", 0.3, "a", drift=True),
                Finding("ks", 0.1, "b", drift=False),
                Finding("ks", 0.5, "probability", drift=True),
                Finding("excluded", None, "c", detail={"reason": "constant"}),
                Finding("excluded", None, "b", detail={"reason": "no values in the reference"}),
                Finding("rows", 3.0),
            )
        ],
        "m",
        0.5,
    )
    assert summary is not None
    assert summary.drifted_features == ("a",)
    assert (summary.num_features_evaluated, summary.drift_share) == (2, 0.5)
    assert summary.dataset_drift_detected is True
    assert summary.excluded_features == {"c": "constant"}


def test_there_is_no_verdict_when_its_monitor_failed_or_saw_nothing() -> None:
    assert summarise_drift([outcome(error="no")], "m", 0.5) is None
    assert summarise_drift([outcome()], "other", 0.5) is None
    empty = summarise_drift([outcome()], "m", 0.5)
    assert empty is not None
    assert empty.dataset_drift_detected is None


@pytest.mark.parametrize("chunked", [1, 7, 60])
def test_any_pace_of_cycles_gives_the_same_findings(place: Make, chunked: int) -> None:
    here = place(monitors=[{"name": "feature-drift", "use": "ks"}])
    rows = draw(420, seed=5)
    rows[::9, 1] = np.nan
    ends = datetime.now(UTC)
    engine = LocalEngine(here.config)
    step = 420 // chunked
    for start in range(0, 420, step):
        part = rows[start : start + step]
        here.append(part, ends=ends - timedelta(seconds=(420 - start - len(part))), seconds=1)
        engine.absorb(["feature-drift"], ends)
    result = cycle(here, engine)
    at_once = {f.column: f.value for f in result.outcomes[0].findings if f.measure == "ks"}
    expected = stats.ks_2samp(draw(1000, seed=1)[:, 1], rows[~np.isnan(rows[:, 1]), 1])
    assert at_once["income"] == pytest.approx(expected.statistic, abs=1e-12)


def test_a_cycle_that_is_stopped_blames_no_monitor(place: Make, worker: Worker) -> None:
    hang = {"name": "bad", "use": "bad", "options": {"how": "hang"}}
    here = place(monitors=[hang, {"name": "feature-drift", "use": "ks"}])
    here.append(draw(300, seed=2))
    stopping = threading.Event()

    def stop() -> None:
        stopping.set()
        worker.close()

    threading.Timer(6, stop).start()
    with pytest.raises(WorkerDied, match="closed"):
        cycle(here, ProcessEngine(here.config, worker), cancelled=stopping.is_set)
    assert here.results.count() == 0


def test_rows_of_a_clock_that_was_far_ahead_do_not_stay_in_the_window(place: Make) -> None:
    here = place()
    here.append(draw(100, seed=2), ends=datetime(2099, 1, 1, tzinfo=UTC))
    # An hour ahead is a clock that was set back: those rows count.
    here.append(draw(200, seed=3), ends=datetime.now(UTC) + timedelta(hours=1))
    assert cycle(here).window.rows == 200
