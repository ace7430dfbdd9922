"""Rows that a review once found counted twice, missed or misjudged."""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitoring_place import Place, draw, own_id, store_model
from scipy import stats
from structlog.testing import capture_logs

from monitorkit import model, model_store, tables
from monitorkit.config import Config
from monitorkit.contracts import Chunk, RunResult
from monitorkit.counts import CountsMonitor
from monitorkit.errors import ModelNotFound, ModelRefused
from monitorkit.monitoring import summary
from monitorkit.monitoring.cycle import Selection, run_cycle
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.process_engine import ProcessEngine
from monitorkit.monitoring.protocol import Absorbed, Case
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.monitoring.store import FILE
from monitorkit.monitoring.timeline import Track
from monitorkit.prediction_log import Cursor, segment, sidecar
from monitorkit.reference import Reference
from monitorkit.worker import Worker

Make = Callable[..., Place]
ROWS = {"name": "rows", "use": "bad", "options": {"how": "ok"}}
KS = {"name": "feature-drift", "use": "ks"}
VERDICT = {"verdict": {"monitor": "rows"}}
AWAY = {"tracking_uri": "http://127.0.0.1:9"}


def cycle(here: Place, engine: LocalEngine | ProcessEngine | None = None, **options: Any) -> Any:
    engine = engine or LocalEngine(here.config)
    return run_cycle(here.config, engine, here.results, trigger="once", **options)


def with_(here: Place, **changes: Any) -> Place:
    return replace(here, config=here.config.model_copy(update=changes))


def old_and_new_rows(here: Place) -> None:
    now = datetime.now(UTC)
    here.append(draw(300, seed=2), ends=now - timedelta(hours=2))
    here.append(draw(300, seed=3), ends=now)


def test_rows_of_a_segment_that_was_edited_count_once(place: Make) -> None:
    """It is read from its beginning then, and so is everything else."""
    here = place(monitors=[ROWS], monitoring=VERDICT)
    engine = LocalEngine(here.config)
    here.append(draw(300, seed=2))
    assert cycle(here, engine).window.rows == 300
    path = here.config.storage.predictions / "predictions.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:100], *lines[101:]]))  # somebody is to be forgotten
    here.append(draw(50, seed=3))
    result = cycle(here, engine)
    assert (result.window.rows, result.outcomes[0].findings[0].value) == (349, 349.0)
    assert cycle(here, LocalEngine(here.config)).window.rows == 349


def without_first_row(path: Path) -> None:
    """As `sed -i 2d`: another file of the same name."""
    head, _, *others = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    path.write_bytes(b"".join([head, *others]))


@pytest.mark.parametrize("restarted", [False, True])
def test_rows_after_a_first_row_that_was_deleted_count_once(
    place: Make, *, restarted: bool
) -> None:
    """A segment is known by its first row, so what is left of it is one that nobody knows."""
    here = place(monitors=[ROWS, KS], monitoring=VERDICT)
    engine = LocalEngine(here.config)
    here.append(draw(300, seed=2), new_id=own_id)
    assert cycle(here, engine).window.rows == 300
    without_first_row(here.config.storage.predictions / "predictions.csv")
    here.append(draw(10, seed=3), new_id=own_id)
    engine = LocalEngine(here.config) if restarted else engine
    with capture_logs() as events:
        only = cycle(here, engine, selection=Selection(only=("rows",)))
        for again in (engine, LocalEngine(here.config)):
            result = cycle(here, again)
            assert result.window.rows == only.window.rows == 309
            assert [outcome.error for outcome in result.outcomes] == [None, None]
            assert result.outcomes[0].findings[0].value == 309
            assert result.outcomes[1].findings[0].detail["rows"] == 309
    told = [event for event in events if event["event"] == "prediction_log_read_again"]
    assert [Path(event["file"]).name for event in told] == ["predictions.csv"]


def test_an_import_after_retention_costs_one_reading_at_most(place: Make) -> None:
    """It may be an edit of what is gone, so it is read as one; afterwards nothing is gone."""
    here = place(monitors=[ROWS], monitoring=VERDICT)
    log, now = here.config.storage.predictions, datetime.now(UTC)
    engine = LocalEngine(here.config)
    for minutes, name in ((50, "predictions-20260101T000000.000000Z.csv"), (0, None)):
        here.append(draw(300, seed=2), new_id=own_id, ends=now - timedelta(minutes=minutes))
        if name is not None:
            (log / "predictions.csv").rename(log / name)
    cycle(here, engine)
    (log / "predictions-20260101T000000.000000Z.csv").unlink()
    (log / "predictions.csv").rename(here.folder / "away.csv")
    here.append(draw(100, seed=3), ends=now - timedelta(minutes=20))
    (log / "predictions.csv").rename(log / "predictions-import-20260101T000000.000000Z.csv")
    (here.folder / "away.csv").rename(log / "predictions.csv")
    read = [engine.absorb(["rows"], datetime.now(UTC)) for _ in range(3)]
    assert [(each.window.rows, each.rows_read) for each in read] == [(400, 400), (400, 0), (400, 0)]


def test_rows_of_a_clock_that_was_ahead_do_not_hide_the_next_version(place: Make) -> None:
    here = place(monitors=[ROWS], monitoring=VERDICT)
    store_model(here.config, "2")
    now = datetime.now(UTC)
    engine = LocalEngine(here.config)
    here.append(draw(10, seed=2), version="1", ends=now + timedelta(hours=9))
    first = engine.absorb(["rows"], now)
    assert (first.window.model_version, first.window.rows) == ("1", 10)  # there is no other
    here.append(draw(300, seed=3), version="2", ends=now)
    result = cycle(here, engine)
    assert (result.window.model_version, result.window.rows) == ("2", 300)
    assert result.outcomes[0].findings[0].value == 300


def test_a_damaged_copy_of_an_old_version_stops_nobody(place: Make) -> None:
    here = place(monitors=[ROWS], monitoring=VERDICT, registry=AWAY)
    store_model(here.config, "2")
    engine = LocalEngine(here.config)
    here.append(draw(300, seed=2), version="1")
    here.append(draw(300, seed=3), version="2")
    assert cycle(here, engine).window.model_version == "2"
    card = damage(here, "1")
    here.append(draw(10, seed=4), version="2")
    with capture_logs() as events:
        for each in (engine, engine, LocalEngine(here.config)):
            result = cycle(here, each)
            assert (result.window.rows, result.outcomes[0].error) == (310, None)
    told = {event["event"]: event for event in events if event["log_level"] == "warning"}
    assert told["model_versions_reused"]["model_versions"] == ["1"]
    assert str(card) in told["stored_model_damaged"]["reason"]
    assert len([event for event in events if event["log_level"] == "warning"]) == 2


def test_a_damaged_copy_of_the_version_that_is_judged_is_told_of(place: Make) -> None:
    here = place(monitors=[KS], registry=AWAY)
    engine = LocalEngine(here.config)
    here.append(draw(300, seed=2))
    cycle(here, engine)
    card = damage(here, "1")
    for _ in range(2):
        with pytest.raises(ModelRefused, match=rf"{card}.*model.json cannot be read.*Delete this"):
            cycle(here, engine)
    card.joinpath(model.CARD_FILE).rename(card / "damaged.json")
    shutil.copy(card / "whole.json", card / model.CARD_FILE)
    assert cycle(here, engine).window.rows == 300


def damage(here: Place, version: str) -> Path:
    """Cut the card of a stored version; returns its folder."""
    config = here.config
    folder = model_store.folder(model_store.address(config), config.storage.models, version)
    shutil.copy(folder / model.CARD_FILE, folder / "whole.json")
    (folder / model.CARD_FILE).write_bytes((folder / "whole.json").read_bytes()[:100])
    return folder


def test_a_version_too_long_for_a_folder_is_told_of_and_passed_over(place: Make) -> None:
    """Somebody appended a line; a path cannot be so long, and no registry has such a version."""
    here = place(monitors=[ROWS], monitoring=VERDICT, registry=AWAY)
    engine = LocalEngine(here.config)
    here.append(draw(300, seed=2))
    here.append(draw(1, seed=3), version="9" * 3000)
    with capture_logs() as events:
        for each in (engine, LocalEngine(here.config)):
            with pytest.raises(
                ModelNotFound, match=r"version 9{40}… \(3,000 characters\) of model"
            ):
                cycle(here, each)
        here.append(draw(10, seed=4))
        for each in (engine, LocalEngine(here.config)):
            result = cycle(here, each)
            assert (result.window.model_version, result.window.rows) == ("1", 310)
            assert result.outcomes[0].error is None
    told = [event for event in events if event["event"] == "model_version_not_judged"]
    assert told
    assert all("(3,000 characters)" in event["model_version"] for event in told)
    assert all(len(event["reason"]) < 300 for event in told)


def test_a_full_disk_that_keeps_an_old_version_away_does_not_stop_the_newest(
    place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(monitors=[ROWS], monitoring=VERDICT, registry=AWAY)
    store_model(here.config, "2")
    here.append(draw(300, seed=2), version="1")
    here.append(draw(300, seed=3), version="2")

    def scored(config: Config, reference: Reference, version: str) -> Chunk:
        if version == "1":
            raise OSError(errno.ENOSPC, "No space left on device")
        return scored_reference(config, reference, version)

    with monkeypatch.context() as patch:
        patch.setattr("monitorkit.monitoring.scoring.scored_reference", scored)
        result = cycle(here)
    assert (result.window.model_version, result.window.rows) == ("2", 300)
    here.append(draw(10, seed=4), version="1")
    result = cycle(here)
    assert (result.window.model_version, result.window.rows) == ("1", 310)
    assert result.outcomes[0].findings[0].value == 310


def test_a_longer_look_back_brings_its_rows_back(place: Make) -> None:
    here = place(monitors=[ROWS], monitoring={"lookback": "1h", **VERDICT})
    old_and_new_rows(here)
    assert cycle(here).window.rows == 300
    day = here.config.monitoring.model_copy(update={"lookback": timedelta(hours=24)})
    result = cycle(with_(here, monitoring=day))
    assert (result.window.rows, result.outcomes[0].findings[0].value) == (600, 600.0)


def test_a_new_monitor_with_a_longer_look_back_of_its_own_sees_all_of_it(place: Make) -> None:
    here = place(monitors=[KS], monitoring={"lookback": "1h"})
    old_and_new_rows(here)
    cycle(here)
    longer = here.config.monitors[0].model_copy(
        update={"name": "long", "lookback": timedelta(hours=24)}
    )
    result = cycle(with_(here, monitors=(*here.config.monitors, longer)))
    rows = [outcome.findings[0].detail["rows"] for outcome in result.outcomes]
    assert rows == [300, 600]


def test_a_clock_that_jumped_ahead_and_back_costs_no_rows(place: Make) -> None:
    here = place(monitors=[ROWS], monitoring=VERDICT)
    here.append(draw(300, seed=2))
    engine = LocalEngine(here.config)
    now = datetime.now(UTC)
    engine.absorb(["rows"], now)
    assert engine.absorb(["rows"], now + timedelta(days=3)).window.rows == 0
    assert engine.absorb(["rows"], now).window.rows == 300


def test_a_segment_that_was_away_for_a_while_is_not_counted_twice(place: Make) -> None:
    here = place(monitors=[ROWS], monitoring=VERDICT)
    engine = LocalEngine(here.config)
    log = here.config.storage.predictions
    closed, away = log / "predictions-20260101T000000.000000Z.csv", here.folder / "away.csv"
    here.append(draw(300, seed=2))
    (log / "predictions.csv").rename(closed)
    here.append(draw(10, seed=3))
    cycle(here, engine)
    closed.rename(away)
    here.append(draw(10, seed=4))
    assert cycle(here, engine).window.rows == 320
    away.rename(closed)
    result = cycle(here, engine)
    assert (result.window.rows, result.outcomes[0].findings[0].value) == (320, 320.0)


def test_a_new_monitor_is_judged_though_a_segment_is_gone(place: Make) -> None:
    here = place(monitors=[KS])
    log = here.config.storage.predictions
    here.append(draw(300, seed=2))
    (log / "predictions.csv").rename(log / "predictions-20260101T000000.000000Z.csv")
    here.append(draw(250, seed=3))
    cycle(here)
    (log / "predictions-20260101T000000.000000Z.csv").unlink()
    new = here.config.monitors[0].model_copy(update={"name": "new", "use": "missing_and_range"})
    result = cycle(with_(here, monitors=(*here.config.monitors, new)))
    assert [outcome.error for outcome in result.outcomes] == [None, None]


def test_a_log_that_was_busy_for_a_moment_is_read_in_the_next_cycle(
    place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(monitors=[KS, ROWS])
    here.append(draw(300, seed=2))
    engine = LocalEngine(here.config)
    cycle(here, engine, selection=Selection(only=("feature-drift",)))
    sizes = iter([segment.settled_size, lambda *_, **__: None])
    real = segment.settled_size

    def busy(fd: int, *, seconds: float) -> int | None:
        return next(sizes, real)(fd, seconds=seconds)

    with monkeypatch.context() as patch:
        patch.setattr(segment, "settled_size", busy)
        assert "do not reach the end" in cycle(here, engine).outcomes[1].error
    here.append(draw(10, seed=3))
    assert cycle(here, engine).outcomes[1].findings[0].value == 310


def test_a_version_number_that_means_another_model_is_judged_with_that_model(place: Make) -> None:
    here = place(monitors=[KS])
    here.append(draw(300, seed=2))
    cycle(here)
    # A registry that was deleted counts from one again.
    store, address = here.config.storage.models, model_store.address(here.config)
    store_model(here.config, "50")
    folder = model_store.folder(address, store, "1")
    shutil.rmtree(folder)
    shutil.copytree(model_store.folder(address, store, "50"), folder)
    card = json.loads((folder / model.CARD_FILE).read_text())
    (folder / model.CARD_FILE).write_text(json.dumps({**card, "version": "1"}))
    new = model.load(folder, here.config.registry.trust)
    replace(here, model=new).append(draw(300, seed=3))
    result = cycle(here)
    found = {finding.column: finding.value for finding in result.outcomes[0].findings}
    logged = [here.model.scores(draw(300, seed=2)), new.scores(draw(300, seed=3))]
    expected = stats.ks_2samp(new.scores(draw(1000, seed=1)), np.concatenate(logged))
    assert found["probability"] == pytest.approx(expected.statistic, abs=1e-12)


class Forgetful(ProcessEngine):
    """A worker whose timeline cannot be written any more."""

    def absorb(
        self, names: Sequence[str], now: datetime, *, until: Cursor | None = None
    ) -> Absorbed:
        path: Path = self._config.storage.state / FILE
        before = path.read_bytes() if path.exists() else None
        absorbed = super().absorb(names, now, until=until)
        if before is not None:
            path.write_bytes(before)
        return absorbed


def test_after_a_crash_no_old_window_is_judged_as_the_new_one(place: Make, worker: Worker) -> None:
    die = {"name": "die", "use": "bad", "options": {"how": "exit"}}
    here = place(monitors=[die, ROWS], monitoring=VERDICT)
    engine = Forgetful(here.config, worker)
    here.append(draw(300, seed=2))
    cycle(here, engine)
    here.append(draw(100, seed=3))
    result = cycle(here, engine)
    assert result.window.rows == 400
    assert "do not reach the end" in result.outcomes[1].error


PLAIN = """
from monitorkit import Judgement, Monitor, hookimpl

class Plain(Monitor):
    def summarise(self, chunk): return {"rows": len(chunk)}
    def merge(self, left, right): return {"rows": left["rows"] + right["rows"]}
    def judge(self, timeline, previous): return Judgement([])

@hookimpl
def monitorkit_monitors(): return {"plain": Plain}
"""


def test_a_summary_that_cannot_be_kept_fails_its_own_monitor(place: Make, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    plain = {"name": "plain", "use": "plain"}
    here = place(monitors=[KS, plain], monitoring={"plugin_files": ["plain.py"]})
    here.append(draw(300, seed=2))
    result = cycle(here)
    assert [outcome.status for outcome in result.outcomes] == ["ok", "failed"]
    assert "cannot be kept" in result.outcomes[1].error


def test_an_older_version_that_cannot_be_had_does_not_stop_the_newest(place: Make) -> None:
    here = place(registry={"tracking_uri": "http://127.0.0.1:9"})
    here.append(draw(300, seed=2), version="0")
    here.append(draw(300, seed=3), version="1")
    result = cycle(here)
    assert isinstance(result, RunResult)
    assert (result.window.model_version, result.window.rows) == ("1", 300)
    assert result.outcomes[0].error is None


def test_a_version_whose_rows_are_all_too_old_is_not_the_newest(place: Make) -> None:
    """Their bucket was in the look-back; the longer one that it became a part of begins before."""
    here = place(
        monitors=[ROWS],
        monitoring={"lookback": "1h", "bucket": "1m", "resolution": 4, **VERDICT},
    )
    now = datetime(2026, 1, 1, 0, 5, 30, tzinfo=UTC)
    here.append(draw(1, seed=2), ends=now)
    engine = LocalEngine(here.config)
    assert engine.absorb(["rows"], now).window.rows == 1
    for each in (engine, LocalEngine(here.config)):
        window = each.absorb(["rows"], now + timedelta(minutes=55)).window
        assert (window.rows, window.model_version) == (0, None)


def test_what_was_made_for_a_version_goes_when_its_rows_are_too_old(place: Make) -> None:
    here = place(monitors=[KS])
    store_model(here.config, "2")
    now = datetime.now(UTC)
    here.append(draw(300, seed=2), version="1", ends=now - timedelta(hours=23))
    here.append(draw(300, seed=3), version="2", ends=now)
    engine = LocalEngine(here.config)
    engine.absorb(["feature-drift"], now)
    monitors = engine._monitors
    assert set(monitors._made) == {("1", "feature-drift"), ("2", "feature-drift")}
    engine.absorb(["feature-drift"], now + timedelta(hours=2))
    assert set(monitors._made) == {("2", "feature-drift")}
    assert set(monitors.references._chunks) == set(monitors.references._models) == {"2"}


def test_a_new_monitor_is_judged_though_an_old_segment_came_and_no_row(place: Make) -> None:
    here = place(monitors=[KS, ROWS], monitoring={"lookback": "1h"})
    now = datetime.now(UTC)
    log = here.config.storage.predictions
    here.append(draw(300, seed=2), ends=now)
    known = here.config.monitors[0]
    cycle(with_(here, monitors=(known,)))
    (log / "predictions.csv").rename(here.folder / "away.csv")
    here.append(draw(300, seed=3), ends=now - timedelta(hours=5))
    old = log / "predictions-20260101T000000.000000Z.csv"
    (log / "predictions.csv").rename(old)
    assert sidecar.rows_of(old) == 300  # leaves word beside it of how old its rows are
    (here.folder / "away.csv").rename(log / "predictions.csv")
    for _ in range(2):
        result = cycle(here)
        assert [outcome.error for outcome in result.outcomes] == [None, None]


def test_a_new_monitor_is_judged_though_an_instance_was_stopped_for_long(place: Make) -> None:
    """Its open file is the last one of all, and every row in it too old."""
    here = place(monitors=[KS, ROWS], monitoring={"lookback": "1h"})
    known = with_(here, monitors=here.config.monitors[:1])
    then = datetime.now(UTC) - timedelta(hours=5)
    log = here.config.storage.predictions
    here.append(draw(300, seed=2), ends=then)
    (log / "predictions.csv").rename(log / "predictions-b.csv")
    assert sidecar.rows_of(log / "predictions-b.csv") == 300
    here.append(draw(300, seed=3), ends=then)
    assert LocalEngine(known.config).absorb(["feature-drift"], then).rows_read == 600
    here.append(draw(300, seed=4))
    cycle(known)
    for _ in range(2):
        result = cycle(here)
        assert [outcome.error for outcome in result.outcomes] == [None, None]


def test_previous_findings_survive_cycles_without_that_monitor(place: Make) -> None:
    here = place(monitors=[KS, {"name": "evidently", "use": "evidently_drift"}])
    here.append(draw(300, seed=2))
    engine = LocalEngine(here.config)
    cycle(here, engine)
    cycle(here, engine, selection=Selection(only=("feature-drift",)))
    assert cycle(here, engine).outcomes[1].reports == ()  # no verdict changed


def test_an_error_is_shown_as_it_is(place: Make) -> None:
    here = place()
    here.append(draw(300, seed=2))
    result = cycle(here)
    text = "PluginError: [/tmp] and [schema]"
    failed = replace(result.outcomes[0], status="failed", error=text)
    out = io.StringIO()
    summary.show(here.config, replace(result, outcomes=(failed,)), tables.console(out, 200))
    assert text in out.getvalue()


def test_a_drift_is_told_in_a_sentence_and_a_column_once(place: Make) -> None:
    here = place(monitors=[{"name": "feature-drift", "use": "anytime_drift"}])
    here.append(draw(2000, seed=2, shift=(40, 0, 0)), seconds=0.1)
    out = io.StringIO()
    summary.show(here.config, cycle(here), tables.console(out, 200))
    (row,) = (line for line in out.getvalue().splitlines() if line.startswith("feature-drift"))

    assert row.count("age ") == 1
    assert "age: drifted since " in out.getvalue()
    assert "values are higher: median " in out.getvalue()


def test_a_number_that_is_no_distance_is_named_beside_those_that_are(place: Make) -> None:
    here = place(monitors=[{"name": "feature-drift", "use": "anytime_drift"}])
    rows = draw(3000, seed=2, shift=(40, 0, 0))
    lowest = np.quantile(draw(1000, seed=1)[:, 1], 0.05)  # the share of what is below falls to 0
    here.append(rows[rows[:, 1] > lowest][:2500], seconds=0.1)
    out = io.StringIO()
    summary.show(here.config, cycle(here), tables.console(out, 200))
    (row,) = (line for line in out.getvalue().splitlines() if line.startswith("feature-drift"))

    assert re.search(r"\bage 0\.\d+", row)
    assert re.search(r"\bincome share 0\b", row)


def test_numbers_of_one_kind_are_not_named(place: Make) -> None:
    monitors = [{"name": "each", "use": "psi"}, {"name": "shares", "use": "missing_and_range"}]
    here = place(monitors=monitors, monitoring={"verdict": {"monitor": "each"}})
    rows = draw(2000, seed=2, shift=(40, 0, 0))
    rows[::2, 1] = np.nan
    here.append(rows, seconds=0.1)
    out = io.StringIO()
    summary.show(here.config, cycle(here), tables.console(out, 200))
    lines = {line.split()[0]: line for line in out.getvalue().splitlines() if line.strip()}

    assert re.search(r"\bage \d", lines["each"])
    assert re.search(r"\bincome missing share 0\.5", lines["shares"])


def test_a_track_that_only_passes_over_old_segments_is_kept_for_who_judges(place: Make) -> None:
    """A monitor that was left out meanwhile, and no new row: another process judges it, too."""
    here = place(monitors=[ROWS, KS], monitoring=VERDICT)
    folder = here.config.storage.predictions
    now = datetime.now(UTC)
    here.append(draw(300, seed=2), ends=now - timedelta(hours=23))
    closed = folder / f"predictions-{now:%Y%m%dT%H%M%S.%fZ}.csv"
    (folder / "predictions.csv").rename(closed)
    sidecar.rows_of(closed)
    aside = closed.rename(here.folder / closed.name)
    here.append(draw(300, seed=3), ends=now)
    engine = LocalEngine(here.config)
    engine.absorb(["rows", "feature-drift"], now)
    aside.rename(closed)
    assert engine.absorb(["rows"], now).rows_read == 300
    later = now + timedelta(hours=2)
    engine.absorb(["rows"], later)
    absorbed = engine.absorb(["rows", "feature-drift"], later)
    assert absorbed.rows_read == 0
    case = Case("feature-drift", "1", later, (), absorbed.cursor, reports=False)
    judgement = LocalEngine(here.config).judge(case)
    assert {finding.measure for finding in judgement.findings} == {"ks"}


def test_versions_that_take_turns_are_summed_up_together(
    place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of champion and challenger: by itself each row would be a block, at a millisecond each."""
    here = place(monitors=[KS, {"name": "sure", "use": "anytime_drift"}])
    store_model(here.config, "2")
    now = datetime.now(UTC)
    for number in range(400):
        version = str(1 + number % 2)
        here.append(draw(1, seed=number), version=version, ends=now - timedelta(seconds=number % 7))
    calls = []
    real = Track.add

    def counted(*given: Any) -> None:
        calls.append(given)
        real(*given)

    monkeypatch.setattr(Track, "add", counted)
    names = ["feature-drift", "sure"]
    together = LocalEngine(here.config)
    found = together.absorb(names, now)
    assert (found.rows_read, found.window.rows) == (400, 200)
    assert len(calls) <= 6  # of two versions, by two or three tracks
    monkeypatch.setattr("monitorkit.monitoring.engine.TOGETHER_ROWS", 0)
    for path in here.config.storage.state.iterdir():
        path.unlink()
    apart = LocalEngine(here.config)
    assert apart.absorb(names, now) == found
    for name in names:
        case = Case(name, "2", now, (), found.cursor, reports=False)
        assert apart.judge(case) == together.judge(case)


def test_a_monitor_that_fails_of_one_version_counts_no_row_of_the_other_twice(
    place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was summed up of the first version is thrown away with what the second one raised."""
    here = place(monitors=[ROWS, KS], monitoring=VERDICT)
    store_model(here.config, "2")
    now = datetime.now(UTC)
    for number in range(60):
        here.append(draw(1, seed=number), version=str(1 + number % 2), ends=now)
    real = Track.add

    def frail(
        track: Track, version: str, parts: Any, ladder: Any, summarise: Any, merge: Any
    ) -> Any:
        if version == "2" and isinstance(getattr(summarise, "__self__", None), CountsMonitor):
            raise ValueError("no good")
        return real(track, version, parts, ladder, summarise, merge)

    engine = LocalEngine(here.config)
    with monkeypatch.context() as patch:
        patch.setattr(Track, "add", frail)
        first = engine.absorb(["rows", "feature-drift"], now)
    assert first.failures == {"feature-drift": "ValueError: no good"}
    second = engine.absorb(["rows", "feature-drift"], now)
    assert second.failures == {}
    assert second.window.rows == 30
    for track in engine._tracks.values():
        assert {version: each.rows() for version, each in track.versions.items()} == {
            "1": 30,
            "2": 30,
        }
