"""A replay finds what the cycles found, or would have found, and says so when it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from history import History, essence, start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitoring_place import SCHEMA, Place, draw, store_model

from monitorkit import reference
from monitorkit.config import Config, to_toml
from monitorkit.contracts import RunResult, Skipped
from monitorkit.errors import ConfigError, ReferenceMissing
from monitorkit.importing.backfill import Options, import_file
from monitorkit.monitoring import replay as replay_
from monitorkit.monitoring.cycle import Selection, run_cycle
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.instants import Span, plan
from monitorkit.monitoring.protocol import Engine
from monitorkit.monitoring.scratch import scratch_engine
from monitorkit.prediction_log.compression import Compression
from monitorkit.results import Results
from monitorkit.retention import Limits
from monitorkit.settings import Log

Make = Callable[..., Place]

MONITORS = [
    {"name": "feature-drift", "use": "ks"},
    {"name": "psi", "use": "psi", "lookback": "20m"},
    {"name": "proxy", "use": "proxy_metrics"},
    {"name": "sure", "use": "anytime_drift"},  # its alarms go on from cycle to cycle
]
SETTINGS = {"lookback": "1h", "interval": "5m", "min_rows": 50, "resolution": 4}


def eventful(here: Place) -> History:
    """Two hours with skipped cycles, late rows, a rotation, drift, another version, a restart."""
    history = History(here, start())
    store_model(here.config, "2")
    for step in range(24):
        end = 5 * (step + 1)
        if step != 15:
            shift = (12.0, 0.0, 0.0) if 8 <= step < 12 else (0.0, 0.0, 0.0)
            version = "2" if step >= 14 else "1"
            history.rows(20, until=end - 0.1, seed=step, shift=shift, version=version)
        if step == 6:
            history.rows(15, until=end - 17, seed=99)  # late
        if step in (5, 13):
            history.rotate()
        if step == 10:
            history.restart()
        history.cycle(end + 0.01 * (step % 3))
    return history


def test_the_same_configuration_finds_the_same(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = eventful(here)
    recorded = [outcome for outcome in history.found if isinstance(outcome, RunResult)]
    assert len(recorded) < len(history.found)
    assert any(outcome.status == "drift" for result in recorded for outcome in result.outcomes)
    assert {result.window.model_version for result in recorded} == {"1", "2"}
    beside = history.replay()
    again = [outcome for compared, outcome in beside if compared.recorded is not None]
    assert [essence(outcome) for outcome in again] == [essence(result) for result in recorded]
    assert {c.agreement for c, _ in beside if c.recorded is not None} == {"same"}


def test_from_the_middle_it_finds_the_same(place: Make) -> None:
    history = eventful(place(monitors=MONITORS, monitoring=SETTINGS))
    recorded = [outcome for outcome in history.found if isinstance(outcome, RunResult)]
    part = [result for result in recorded if history.at(60) <= result.started_at <= history.at(90)]
    beside = history.replay(since=60, until=90)
    again = [outcome for compared, outcome in beside if compared.recorded is not None]
    assert [essence(outcome) for outcome in again] == [essence(result) for result in part]


def test_nothing_that_exists_is_touched(place: Make) -> None:
    history = eventful(place(monitors=MONITORS, monitoring=SETTINGS))

    def everything() -> dict[Path, tuple[int, bytes]]:
        paths = [path for path in history.here.folder.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    before = everything()
    history.replay()
    assert everything() == before


def test_a_service_that_runs_is_not_held_up(place: Make) -> None:
    """A cycle in the middle of a replay finds its lock free, and its own timeline."""
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = eventful(here)
    config = here.config
    span = Span(None, history.at(200), history.at(200))
    todo = plan(config, here.results, span, timedelta(hours=1))
    for number, _ in enumerate(replay_.replay(config, Selection(), todo)):
        if number == 3:
            here.append(draw(300, seed=5), version="2")
            live = LocalEngine(config)
            run_cycle(config, live, here.results, trigger="once", patience=0.1)
            assert live.absorb(["feature-drift"], datetime.now(UTC)).rows_read == 0


def test_another_configuration_flags_other_things(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = eventful(here)
    strict = here.config.monitors[0].model_copy(update={"options": {"false_alarm_rate": 0.99}})
    nothing = here.config.monitors[0].model_copy(update={"options": {"false_alarm_rate": 1e-300}})
    for entry, flagged in ((strict, True), (nothing, False)):
        other = here.config.model_copy(update={"monitors": (entry,)})
        beside = [(c, o) for c, o in history.replay(config=other) if c.recorded is not None]
        assert {bool(compared.replayed.flagged) for compared, _ in beside} == {flagged}
        assert {tuple(o.name for o in outcome.outcomes) for _, outcome in beside} == {
            ("feature-drift",)
        }


def test_thresholds_alone_are_no_difference(place: Make) -> None:
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(200, until=4)
    history.cycle(5)
    milder = here.config.monitors[0].model_copy(update={"options": {"false_alarm_rate": 1e-9}})
    other = here.config.model_copy(update={"monitors": (milder,)})
    ((compared, _),) = history.replay(config=other)
    assert compared.agreement == "same"


def test_where_no_cycle_was_recorded_there_is_one_every_interval(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = History(here, start())
    for step in range(20):
        history.rows(30, until=5 * step + 4, seed=step)
        if not 5 <= step < 12:
            history.cycle(5 * step + 5)
    beside = history.replay()
    unrecorded = [compared.now for compared, _ in beside if compared.recorded is None]
    # The first one had too few rows, so it left no record either.
    assert unrecorded == [history.at(5), *(history.at(minutes) for minutes in range(30, 61, 5))]
    # A cycle that was recorded knows nothing of those that were not.
    assert {c.agreement for c, _ in beside if c.recorded is not None} == {"same"}


def test_without_any_record_the_log_is_enough(place: Make) -> None:
    history = eventful(place(monitors=MONITORS, monitoring=SETTINGS))
    shutil.rmtree(history.here.results.folder)
    beside = history.replay()
    assert [compared.now for compared, _ in beside][:3] == [history.at(5 * n) for n in (1, 2, 3)]
    assert {compared.agreement for compared, _ in beside} == {"unrecorded"}
    assert beside[-1][0].now == history.at(120)


def test_a_log_and_no_rows_is_nothing_to_replay(place: Make) -> None:
    assert History(place(), start()).replay() == []


def test_missing_rows_are_no_other_findings(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = eventful(here)
    first, *_ = sorted(here.config.storage.predictions.glob("predictions-*.csv"))
    first.unlink()
    beside = [compared for compared, _ in history.replay() if compared.recorded is not None]
    incomparable = [compared for compared in beside if compared.agreement == "incomparable"]
    assert len(incomparable) > 5
    assert all("1 segment of the log is gone" in compared.notes[0] for compared in incomparable)
    assert "rows are missing" in incomparable[3].notes[0]
    # An hour after its last row nobody misses it.
    late = [compared for compared in beside if compared.now > history.at(95)]
    assert len(late) > 3
    assert {compared.agreement for compared in late} == {"same"}
    assert "different" not in {compared.agreement for compared in beside}


def test_after_missing_rows_it_goes_on_from_what_was_recorded(place: Make) -> None:
    """Else the change per hour of the first whole window would be one since an incomplete one."""
    here = place(monitors=MONITORS, monitoring={**SETTINGS, "lookback": "30m"})
    history = History(here, start())
    for step in range(18):
        history.rows(60, until=5 * step + 4, seed=step)
        history.cycle(5 * step + 5)
        if step == 3:
            history.rotate()
    next(here.config.storage.predictions.glob("predictions-*.csv")).unlink()
    beside = [(c.now, c.agreement) for c, _ in history.replay()]
    assert len(beside) == 18
    assert {agreement for now, agreement in beside if now < history.at(45)} == {"incomparable"}
    assert {agreement for now, agreement in beside if now > history.at(60)} == {"same"}
    assert "different" not in dict(beside).values()


def test_the_oldest_result_that_is_kept_may_have_known_of_another(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = History(here, start())
    for step in range(6):
        history.rows(60, until=5 * step + 4, seed=step)
        history.cycle(5 * step + 5)
    here.results.prune(Limits(4))
    beside = [compared for compared, _ in history.replay() if compared.recorded is not None]
    assert [c.agreement for c in beside] == ["incomparable", "same", "same", "same"]
    assert beside[0].differing == ["proxy"]
    assert beside[0].notes == ["it may have known of a result that is not kept any more"]


def test_where_another_look_back_may_miss_rows_that_is_said(place: Make) -> None:
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    for step in range(36):
        history.rows(20, until=5 * step + 4, seed=step)
        history.cycle(5 * step + 5)
        if step == 2:
            history.rotate()
    next(here.config.storage.predictions.glob("predictions-*.csv")).unlink()
    longer = here.config.monitoring.model_copy(update={"lookback": timedelta(hours=2)})
    other = here.config.model_copy(update={"monitoring": longer})
    notes = {c.now: c.notes for c, _ in history.replay(config=other) if c.recorded is not None}
    gone = ["rows may be missing: 1 segment of the log is gone"]
    assert notes[history.at(60)] == gone
    assert notes[history.at(130)] == gone
    assert notes[history.at(150)] == []


def test_another_reference_is_said_and_not_compared(place: Make) -> None:
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(100, until=4)
    result = history.cycle(5)
    assert isinstance(result, RunResult)
    here.config.storage.reference.rename(here.folder / "old")
    reference.freeze(
        here.config.storage.reference, draw(900, seed=77), SCHEMA, source="x", model_version="1"
    )
    ((compared, _),) = history.replay()
    assert compared.agreement == "incomparable"
    assert compared.notes == [f"recorded against another reference ({result.reference_hash[:12]})"]


def test_a_monitor_left_out_by_hand_is_left_out_again(place: Make) -> None:
    """Else the next change per hour would be measured from that cycle on."""
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = History(here, start())
    for step in range(6):
        history.rows(60, until=5 * step + 4, seed=step)
        if step % 2:
            history.cycle(5 * step + 5, trigger="once", selection=Selection(skip=("proxy",)))
        else:
            history.cycle(5 * step + 5)
    beside = history.replay()
    assert [essence(outcome) for _, outcome in beside] == [essence(o) for o in history.found]


@pytest.mark.parametrize("how", ["raise", "exit", "nan"])
def test_a_monitor_that_misbehaves_harms_itself_alone(place: Make, how: str) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = History(here, start())
    for step in range(4):
        history.rows(60, until=5 * step + 4, seed=step)
        history.cycle(5 * step + 5)
    bad = here.config.monitors[0].model_copy(
        update={"name": "bad", "use": "bad", "options": {"how": how}}
    )
    more = here.config.model_copy(update={"monitors": (bad, *here.config.monitors)})
    beside = history.replay(config=more, engine=scratch_engine)
    assert [list(compared.replayed.failures) for compared, _ in beside] == [["bad"]] * 4
    assert [compared.agreement for compared, _ in beside] == ["same"] * 4


def test_a_cycle_that_fails_does_not_end_the_replay(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = History(here, start())
    history.rows(60, until=4)
    history.rows(60, until=9, version="7")  # nobody has this model
    history.rows(60, until=14)
    verdicts = [compared.replayed.verdict for compared, _ in history.replay()]
    assert [verdict == "failed" for verdict in verdicts] == [False, True, False]


def test_only_and_skip_choose_what_is_compared(place: Make) -> None:
    history = eventful(place(monitors=MONITORS, monitoring=SETTINGS))
    beside = history.replay(selection=Selection(only=("psi",)))
    recorded = [compared for compared, _ in beside if compared.recorded is not None]
    assert {compared.agreement for compared in recorded} == {"same"}
    assert {name for c in recorded if c.recorded for name in c.recorded.flagged} <= {"psi"}


def test_a_segment_that_was_put_there_later_counts_in_its_own_time(place: Make) -> None:
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(60, until=184)
    history.cycle(185)
    folder = here.config.storage.predictions
    (folder / "predictions.csv").rename(folder / "aside")
    history.rows(60, until=4)
    history.rows(60, until=9)
    history.rotate()
    (folder / "aside").rename(folder / "predictions.csv")
    beside = history.replay()
    first = [(compared.now, compared.replayed.rows) for compared, _ in beside[:2]]
    assert first == [(history.at(5), 60), (history.at(10), 120)]
    # The cycle that was recorded did not know of it.
    (recorded,) = [compared for compared, _ in beside if compared.recorded is not None]
    assert recorded.agreement == "same"


def test_an_import_into_a_gap_is_watched_there_whatever_cycles_came_later(place: Make) -> None:
    """Another service answered while this one was down; records after it know of the import."""
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(100, until=124, shift=(60, 0, 0))
    theirs = here.folder / "theirs.csv"
    (here.config.storage.predictions / "predictions.csv").rename(theirs)
    history.rows(60, until=4)
    history.cycle(5)
    history.rows(60, until=304)
    history.cycle(305)
    assert import_file(here.config, theirs, Options()).rows == 100
    for _ in range(2):
        rows = {compared.now: compared.replayed.rows for compared, _ in history.replay()}
        assert rows[history.at(125)] == 100
        assert rows[history.at(305)] == 60  # it was recorded so
        history.rows(60, until=309)
        history.cycle(310)


def test_history_that_was_imported_before_the_first_record_stays_there(place: Make) -> None:
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(100, until=4)
    theirs = here.folder / "theirs.csv"
    (here.config.storage.predictions / "predictions.csv").rename(theirs)
    history.rows(60, until=184)
    history.cycle(185)
    import_file(here.config, theirs, Options())
    history.rows(60, until=189)
    history.cycle(190)
    beside = [compared for compared, _ in history.replay()]
    assert (beside[0].now, beside[0].replayed.rows) == (history.at(5), 100)
    assert [c.now for c in beside if c.recorded is not None] == [history.at(185), history.at(190)]


def test_where_no_monitor_is_the_same_nothing_is_compared(place: Make) -> None:
    history = eventful(place(monitors=MONITORS, monitoring=SETTINGS))
    config = history.here.config
    psi = next(entry for entry in config.monitors if entry.use == "psi")
    another = psi.model_copy(update={"name": "another-name"})
    verdict = config.monitoring.verdict.model_copy(update={"monitor": another.name})
    monitoring = config.monitoring.model_copy(update={"verdict": verdict})
    other = config.model_copy(update={"monitors": (another,), "monitoring": monitoring})
    beside = history.replay(config=other)
    recorded = [compared for compared, _ in beside if compared.recorded is not None]
    assert {compared.agreement for compared in recorded} == {"incomparable"}
    assert "the record has none of these monitors" in recorded[0].notes


def test_a_time_stamp_in_the_future_holds_nothing_back(place: Make) -> None:
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(60, until=4)
    history.rows(1, until=60 * 24 * 365)
    history.rows(60, until=9)
    assert [compared.replayed.rows for compared, _ in history.replay()] == [60, 120]


def test_compressed_and_archived_segments_are_read_as_they_were(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = eventful(here)
    folder = here.config.storage.predictions
    before = [essence(outcome) for _, outcome in history.replay()]
    newest = here.results.latest()
    assert newest is not None
    compression = Compression(folder)
    while compression.work(newest.cursor, seconds=1.0):
        pass
    first, second = sorted(folder.glob("*.parquet"))
    archive = here.folder / "archive"
    archive.mkdir()
    first.rename(archive / first.name)
    config = here.config.model_copy(update={"log": Log(archives=(str(archive),))})
    beside = history.replay(config=config)
    assert [essence(outcome) for _, outcome in beside] == before
    assert {c.agreement for c, _ in beside if c.recorded is not None} == {"same"}
    # Without a record, rows are found by their time stamps all the same.
    shutil.rmtree(here.results.folder)
    assert [c.now for c, _ in history.replay(config=config)] == [
        history.at(5 * (number + 1)) for number in range(24)
    ]
    assert second.exists()


def test_an_imported_log_is_watched_as_if_it_had_been_at_the_time(place: Make) -> None:
    here = place(monitors=MONITORS[:1], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(100, until=4)
    history.rows(100, until=14, shift=(60, 0, 0))
    theirs = here.folder / "theirs.csv"
    (here.config.storage.predictions / "predictions.csv").rename(theirs)
    imported = import_file(here.config, theirs, Options())
    assert imported.rejected == 0
    beside = [compared for compared, _ in history.replay()]
    assert [(c.now, c.replayed.rows) for c in beside] == [
        (history.at(5), 100),
        (history.at(10), 100),
        (history.at(15), 200),
    ]
    assert "age" in beside[-1].replayed.columns
    assert "age" not in beside[0].replayed.columns


Came = list[tuple[int, int, str, int, bool]]
CAME = st.lists(
    st.tuples(
        st.sampled_from([1, 20, 61, 299, 301, 900, 5000]),  # seconds since the last ones
        st.integers(1, 5),  # rows
        st.sampled_from(["1", "1", "1", "2"]),
        st.sampled_from([0, 0, 0, 70, 1000]),  # seconds by which some come late, behind others
        st.booleans(),  # the segment is closed
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(came=CAME)
def test_a_cycle_that_was_not_recorded_finds_what_a_live_one_finds(
    came: Came, two_versions: Place
) -> None:
    here = two_versions
    for folder in (here.config.storage.predictions, here.config.storage.state):
        shutil.rmtree(folder, ignore_errors=True)
    history = History(here, start(24))
    seconds = 0
    live: dict[Any, Any] = {}
    earlier = 0
    for passed, count, version, late, closed in came:
        seconds += passed
        for number in range(earlier // 300 + 1, (seconds - 1) // 300 + 1):
            live[history.at(number * 5)] = history.cycle(number * 5, record=False)
        history.rows(count, until=seconds / 60, version=version, seconds=0.001)
        if late:
            history.rows(count, until=(seconds - late) / 60, version=version, seconds=0.001)
        if closed:
            history.rotate()
        earlier = (seconds - 1) // 300 * 300
    number = -(-seconds // 300)
    live[history.at(number * 5)] = history.cycle(number * 5, record=False)
    for compared, outcome in history.replay():
        assert essence(outcome) == essence(live.pop(compared.now))
    assert all(isinstance(o, Skipped) and o.window.rows == 0 for o in live.values())


@pytest.fixture
def two_versions(place: Make) -> Place:
    monitors = [MONITORS[0], {"name": "missing", "use": "missing_and_range", "lookback": "30m"}]
    made = place(monitors=monitors, monitoring={**SETTINGS, "min_rows": 1})
    store_model(made.config, "2")
    return made


def test_results_of_a_replay_are_kept_on_request(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    history = eventful(here)
    output = here.folder / "replayed"
    replay_.run(here.config, Selection(), output=output)
    kept = [Results(output).result(run_id) for run_id in Results(output).run_ids()]
    expected = [essence(o) for _, o in history.replay() if isinstance(o, RunResult)]
    assert [essence(found) for found in kept if found is not None] == expected
    with pytest.raises(ConfigError, match="holds something"):
        replay_.run(here.config, Selection(), output=output)


def test_reports_that_nobody_can_look_at_are_not_kept(place: Make) -> None:
    here = place(monitors=[{"name": "e", "use": "evidently_drift"}], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(60, until=4)
    history.cycle(5)
    (live,) = history.found
    assert isinstance(live, RunResult)
    assert len(live.outcomes[0].reports) == 1
    left: list[list[Path]] = []

    @contextmanager
    def aside(config: Config) -> Iterator[tuple[Config, Engine]]:
        with scratch_engine(config) as (there, engine):
            yield there, engine
            left.append(list(there.storage.reports.glob("*")))

    ((_, found),) = history.replay(engine=aside)
    assert isinstance(found, RunResult)
    assert found.outcomes[0].error is None
    assert found.outcomes[0].reports == ()
    assert left == [[]]


def test_results_that_cannot_be_kept_are_a_clear_error(place: Make) -> None:
    here = place(monitors=MONITORS, monitoring=SETTINGS)
    eventful(here)
    (here.folder / "file").touch()
    with pytest.raises(ConfigError, match=r"--output: .*cannot be written"):
        replay_.run(here.config, Selection(), output=here.folder / "file" / "replayed")


def test_what_cannot_be_is_refused(place: Make) -> None:
    here = place()
    with pytest.raises(ConfigError, match="no monitor is called 'x'"):
        replay_.run(here.config, Selection(only=("x",)))
    name = here.config.monitors[0].name
    with pytest.raises(ConfigError, match="together they leave no monitor"):
        replay_.run(here.config, Selection(only=(name,), skip=(name,)))
    with pytest.raises(ConfigError, match="later than"):
        replay_.run(here.config, Selection(), since=start(1), until=start(2))
    here.config.storage.reference.rename(here.folder / "moved")
    with pytest.raises(ReferenceMissing):
        replay_.run(here.config, Selection())


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_summary_and_leaves_nothing_behind(place: Make) -> None:
    hang = {"name": "bad", "use": "bad", "options": {"how": "hang"}}
    here = place(monitors=[*MONITORS, hang], monitoring=SETTINGS)
    history = History(here, start())
    history.rows(100, until=4)
    (here.folder / "hang.toml").write_text(to_toml(here.config))
    temporary = here.folder / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "monitorkit", "replay", "--config", "hang.toml"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if json.loads(line)["event"] == "replay_started":
            break
    deadline = time.monotonic() + 30
    while not any(temporary.glob("*/state/active")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    events = [json.loads(line)["event"] for line in (*lines, *out.splitlines())]
    assert events[-2:] == ["replay_summary", "interrupted"]
    assert (process.returncode, err) == (130, "")
    assert list(temporary.iterdir()) == []
