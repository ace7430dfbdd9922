"""monitorkit calibrate: quiet days from the reference, and the smallest shifts that are found."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from monitoring_place import Place, draw

from monitorkit import tables
from monitorkit.config import Config
from monitorkit.errors import CalibrationError
from monitorkit.monitoring import calibration
from monitorkit.monitoring.calibration import HORIZONS, Calibration, Seen
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.engine import LocalEngine

Make = Callable[..., Place]
ANYTIME = {"name": "feature-drift", "use": "anytime_drift"}
HASTY = {"name": "hasty", "use": "ks", "options": {"false_alarm_rate": 0.9}}
HOURLY = {"interval": "1h", "bucket": "30m", "resolution": 8}


def calibrate(config: Config, **given: object) -> Calibration:
    arguments = {"monitor": None, "days": 1, "rows_a_day": 2400.0, "seed": 0, "output": None}
    return calibration.run(config, **{**arguments, **given})  # type: ignore[arg-type]


@pytest.fixture
def here(place: Make) -> Place:
    return place(monitors=[ANYTIME, HASTY], monitoring=HOURLY)


def test_a_quiet_day_has_no_alarm_of_ours_and_some_of_a_hasty_monitor(here: Place) -> None:
    ours, hasty = calibrate(here.config), calibrate(here.config, monitor="hasty", days=3)

    assert ours.monitor == "feature-drift"
    assert ours.cycles == 24
    assert ours.alarms == []
    assert ours.alarms_a_month() == pytest.approx((0, 30 * np.log(20)))
    assert len(hasty.alarms) > 0
    assert all(timedelta(0) < after <= timedelta(days=3) for after, _ in hasty.alarms)
    assert {column for _, column in hasty.alarms} <= {"age", "income", "late", "probability"}
    assert hasty.alarms_a_month()[0] == pytest.approx(10 * len(hasty.alarms))


def test_more_rows_see_smaller_shifts(here: Place) -> None:
    few, many = (calibrate(here.config, rows_a_day=rows) for rows in (1200.0, 12000.0))

    for column in ("age", "income"):
        hour, day, week = few.seen[column]
        assert day is not None
        assert week == day  # the look-back is a day
        assert hour is None or hour.distance > day.distance
        more = many.seen[column][1]
        assert more is not None
        assert 0.05 < more.distance < day.distance
        assert day.after > more.after > more.before


def test_the_same_seed_finds_the_same(here: Place) -> None:
    assert calibrate(here.config, seed=3) == calibrate(here.config, seed=3)


def test_the_traffic_is_that_of_the_newest_result(here: Place) -> None:
    with pytest.raises(CalibrationError, match=r"no result says yet .* give --rows-per-day"):
        calibrate(here.config, rows_a_day=None)

    here.append(draw(1500, seed=2), seconds=10)
    run_cycle(here.config, LocalEngine(here.config), here.results, trigger="once")
    found = calibrate(here.config, rows_a_day=None).rows_a_day
    assert found == pytest.approx(86400 / 10, rel=1e-3)


def test_rows_of_a_nightly_job_are_those_of_a_day(here: Place) -> None:
    ends = datetime.now(UTC) - timedelta(hours=10)
    here.append(draw(3000, seed=2), ends=ends, seconds=0.2)
    run_cycle(here.config, LocalEngine(here.config), here.results, trigger="once")
    found = calibrate(here.config, rows_a_day=None).rows_a_day
    assert found == pytest.approx(3000 * 24 / (10 + 1 / 6), rel=1e-2)


@pytest.mark.parametrize(
    ("lookback", "rows_a_day", "cycles"), [("1h", 2400.0, 24), ("48h", 150.0, 0)]
)
def test_the_gate_has_the_look_back_that_it_has_in_a_cycle(
    place: Make, lookback: str, rows_a_day: float, cycles: int
) -> None:
    """Of a day, whatever that of the monitor is; 200 rows are needed."""
    here = place(monitors=[{**ANYTIME, "lookback": lookback}], monitoring=HOURLY)
    if cycles:
        assert calibrate(here.config, rows_a_day=rows_a_day).cycles == cycles
    else:
        with pytest.raises(CalibrationError, match="no cycle had enough"):
            calibrate(here.config, rows_a_day=rows_a_day)


def test_another_monitor_is_one_that_is_configured(here: Place) -> None:
    with pytest.raises(CalibrationError, match="takes one of feature-drift, hasty"):
        calibrate(here.config, monitor="nope")


def test_it_is_shown_and_drawn(tmp_path: Path) -> None:
    seen = {"age": [None, Seen(HORIZONS[1], 0.2, 50.0, 55.25), Seen(HORIZONS[2], 0.1, 50.0, 52.0)]}
    late = timedelta(days=364, hours=3, minutes=5), "age"
    found = Calibration("feature-drift", 2400, 2, 576, [late], seen)
    printed = io.StringIO()
    calibration.show(found, tables.console(printed))
    text = printed.getvalue()

    assert "feature-drift at 2,400 rows a day: 1 false alarm in 2 quiet days (576 cycles)" in text
    assert "  364 days, 03:05: age" in text
    assert text.splitlines()[-1].split() == ["age", "50", "-", "55.25", "(0.2)", "52", "(0.1)"]
    calibration.draw(found, tmp_path / "seen.png")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CalibrationError, match="cannot be written"):
        calibration.draw(found, tmp_path)


def test_what_cannot_be_said_or_written_is_a_clear_error(here: Place) -> None:
    with pytest.raises(CalibrationError, match="10 rows a day are too few"):
        calibrate(here.config, rows_a_day=10.0)


@pytest.mark.parametrize("at", ["init", "summarise", "judge"])
def test_what_a_monitor_raises_is_told_as_its_own(place: Make, at: str) -> None:
    bad = {"name": "broken", "use": "bad", "options": {"at": at}}
    here = place(monitors=[ANYTIME, bad], monitoring=HOURLY)
    with pytest.raises(
        CalibrationError, match=r"monitor 'broken' failed: .*: see `monitorkit chec"
    ):
        calibrate(here.config, monitor="broken")


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("nowhere/seen.png", "there is no folder"),
        ("seen.foo", r"seen\.foo does not end in \.png, .* with --output"),
        ("seen", r"seen does not end in \.png"),
        ("a-folder.png", "cannot be written: Is a directory.* with --output"),
        ("a-file/seen.png", "cannot be written: Not a directory"),
        ("/proc/seen.PNG", "cannot be written: "),
    ],
)
def test_a_picture_that_cannot_be_written_is_found_out_before_the_work(
    here: Place, output: str, problem: str
) -> None:
    (here.folder / "a-folder.png").mkdir()
    (here.folder / "a-file").touch()
    before = sorted(here.folder.rglob("*"))
    with pytest.raises(CalibrationError, match=problem):  # the work would find too few rows
        calibrate(here.config, output=here.folder / output, rows_a_day=10.0)
    assert sorted(here.folder.rglob("*")) == before


def test_one_of_something_is_told_as_one() -> None:
    printed = io.StringIO()
    found = Calibration("hasty", 2400, 1, 1, [(timedelta(days=1), "age")], {})
    calibration.show(found, tables.console(printed))
    assert "1 false alarm in 1 quiet day (1 cycle)," in printed.getvalue()
    assert "  1 day, 00:00: age" in printed.getvalue()


def test_horizons_are_an_hour_a_day_and_a_week() -> None:
    assert [within / timedelta(hours=1) for within in HORIZONS] == [1, 24, 168]
