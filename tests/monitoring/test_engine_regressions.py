"""Rows that a review once found counted twice, missed or misjudged."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitoring_place import Place, draw, store_model
from rich.console import Console
from scipy import stats

from monitorkit import model, model_store
from monitorkit.contracts import RunResult
from monitorkit.monitoring import summary
from monitorkit.monitoring.cycle import Selection, run_cycle
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.process_engine import ProcessEngine
from monitorkit.monitoring.protocol import Absorbed
from monitorkit.monitoring.store import FILE
from monitorkit.prediction_log import Cursor, segment, sidecar
from monitorkit.worker import Worker

Make = Callable[..., Place]
ROWS = {"name": "rows", "use": "bad", "options": {"how": "ok"}}
KS = {"name": "feature-drift", "use": "ks"}
VERDICT = {"verdict": {"monitor": "rows"}}


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
    summary.show(here.config, replace(result, outcomes=(failed,)), Console(file=out, width=200))
    assert text in out.getvalue()


def test_a_drift_is_told_in_a_sentence_and_a_column_once(place: Make) -> None:
    here = place(monitors=[{"name": "feature-drift", "use": "anytime_drift"}])
    here.append(draw(2000, seed=2, shift=(40, 0, 0)), seconds=0.1)
    out = io.StringIO()
    summary.show(here.config, cycle(here), Console(file=out, width=200))
    (row,) = (line for line in out.getvalue().splitlines() if line.startswith("feature-drift"))

    assert row.count("age ") == 1
    assert "age: drifted since " in out.getvalue()
    assert "values are higher: median " in out.getvalue()
