"""What the monitoring benchmark says is what its trials found, and trials measure what they say."""

from __future__ import annotations

import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth, trials
from benchmarks.exactness import quantile_cuts
from benchmarks.histories import Material, append
from benchmarks.monitoring_report import (
    EVIDENTLY,
    FULL,
    LOCAL,
    NANNYML,
    PYARROW,
    QUICK,
    Results,
    Run,
    report,
    series,
    targets,
)
from benchmarks.trials import Part, Trial, TrialFailed
from benchmarks.workspaces import PEER, monitors
from monitorkit import config
from monitorkit.prediction_log import Reader
from monitorkit.schema import Feature, FeatureSchema

SCHEMA = FeatureSchema((Feature("age"), Feature("income", nullable=True)))
BASE, OLD, HUGE = FULL.base, FULL.old, FULL.huge


def trial(memory: int = 100, lasted: float = 0.0, **parts: float) -> Trial:
    made = {
        name.replace("_", "-"): Part(seconds, seconds, round(seconds * 1e6))
        for name, seconds in parts.items()
    }
    return Trial(made, memory * 2**20, lasted)


def results() -> Results:
    found = Results(FULL)
    for number, (ours, theirs) in enumerate([(1.0, 28.0), (2.0, 30.0), (1.0, 25.0)]):
        found.trials[Run(LOCAL, "cycle", BASE)][number] = trial(120, warm_up=9, cycle=9 * ours)
        found.trials[Run(LOCAL, "running", BASE)][number] = trial(120, warm_up=9, cycle=ours)
        found.trials[Run(LOCAL, "busy", BASE)][number] = trial(90, warm_up=9, cycle=ours / 2)
        evidently = trial(800, imports=5, reading=2, work=theirs)
        found.trials[Run(EVIDENTLY, "cycle", BASE)][number] = evidently
        found.trials[Run(EVIDENTLY, "busy", BASE)][number] = evidently
    found.trials[Run(NANNYML, "cycle", BASE)][0] = trial(500, reading=2, work=1.1)
    found.trials[Run(LOCAL, "arrays, features", BASE)][0] = trial(300, work=0.5)
    found.trials[Run(LOCAL, "cycle", OLD)][0] = trial(130, cycle=10)
    found.trials[Run(LOCAL, "cycle", HUGE)][0] = trial(150, cycle=30)
    found.trials[Run(PYARROW, "parsing", OLD)][0] = trial(90, parsing=4)
    found.trials[Run(PYARROW, "sharing", OLD)][0] = trial(99, alone=4, together=5)
    for rows, every in ((OLD, [0.3, 0.02, 0.03]), (0, [0.02, 0.02, 0.02])):
        made = trial(cycle=0.02)
        found.trials[Run(LOCAL, "again", rows)][0] = Trial(
            made.parts, made.memory, made.lasted, {"every": every}
        )
    kept = trial(lasted=2.5, cycle=0.4)
    found.trials[Run(LOCAL, "restart", OLD)][0] = Trial(
        kept.parts, kept.memory, kept.lasted, {"importing": 1.5}
    )
    exact = {"ks": 0.0, "psi": 3e-15, "jensen_shannon": 2e-12, "chi_square": 0.0}
    found.trials[Run(LOCAL, "exactness", BASE)][0] = Trial({}, 0, 0.0, exact)
    return found


EXPECTED = {
    "Evidently's preset, rows in memory": "| ≥ 20 | 25.00 (15.00-28.00) | yes |",
    "Evidently's preset with reading": "| ≥ 20 | 27.00 (16.00-30.00) | yes |",
    "peak memory of our cycle / Evidently's": "| ≤ 0.25 | 0.15 (0.15-0.15) | yes |",
    "NannyML's KS + JS": "| ≥ 1.5 | 2.20 | yes |",
    "whylogs' profile / all": "| ≥ 10 | - | not measured |",
    "cycle with 1,500 new rows after 10,000,000 / after none, local": "| ≤ 1.2 | 1.50 | **no** |",
    "peak memory of a cycle over 30,000,000": "| ≤ 1.2 | 1.25 (1.25-1.25) | **no** |",
    "rows/s per core": "| ≥ 0.3 | 0.40 | yes |",
    "rows/s, Dask": "| ≥ 1.7 | - | not measured |",
    "the same of two processes that just parse": "| ≥ 1.7 | 1.60 | **no** |",
    "seconds from a restart after 10,000,000": "| ≤ 2 | 2.50 | **no** |",
    "the same without import statements": "| ≤ 2 | 1.00 | yes |",
    "largest difference from scipy or numpy on the rows, Jensen": "| ≤ 1e-12 | 2.0e-12 | **no** |",
    "largest difference from scipy or numpy on the rows, Kol": "| ≤ 1e-12 | 0.0e+00 | yes |",
}


@pytest.mark.parametrize(("what", "ending"), EXPECTED.items())
def test_every_target_is_a_ratio_within_a_round(what: str, ending: str) -> None:
    found = [target.row() for target in targets(results()) if target.what.startswith(what)]
    assert found[0].endswith(ending.replace("1.25 (1.25-1.25)", "1.25"))


def test_rows_of_minutes_are_compared_as_those_of_a_day_are() -> None:
    found = {target.what: target.row() for target in targets(results())}
    cycle = "our cycle that finds them new, from the log to the result, 1,000,000 rows"
    day = found[f"Evidently's preset with reading the log / {cycle}, a whole day's, local"]
    minutes = found[f"Evidently's preset with reading the log / {cycle}, five minutes', local"]
    assert day.endswith("| ≥ 20 | 27.00 (16.00-30.00) | yes |")
    assert minutes.endswith("| ≥ 20 | 54.00 (32.00-60.00) | yes |")


def test_the_report_tells_imports_from_work_and_what_went_wrong() -> None:
    found = results()
    found.notes.append("whylogs did not install: no space left")
    text = report(found, 3, "monitoring.png")
    assert f"| Evidently | the whole log | 10 | {BASE:,} | 30.000 | 28.000 |" in text
    assert f"| local | the whole log | 10 | {BASE:,} | 9.000 | - | 9.00 | 120 | 9.0 |" in text
    new = "the whole log, new to an engine that runs"
    assert f"| local | {new} | 10 | {BASE:,} | 1.000 | - | 1.00 | 120 | 1.0 |" in text
    assert "| local | 1,500 new rows | 10 | 10,000,000 | 0.030 |" in text
    assert "](monitoring.png)" in text
    assert "- whylogs did not install: no space left" in text
    assert "| local | 10 | 10,000,000-30,000,000 | 1.00 |" in text


def test_growth_is_the_slope_of_the_largest_decade() -> None:
    assert growth.exponent([1_000, 10_000], [0.5, 0.5]) == pytest.approx(0.0)
    assert growth.exponent([10, 100, 1_000], [1, 10, 100]) == pytest.approx(1.0)
    assert growth.exponent([10], [1]) is None
    points = {1: (9.0, 1, 1), 100: (1.0, 1, 1), 1_000: (10.0, 1, 1)}
    assert growth.Series("local", 10, points).exponent(0) == pytest.approx(1.0)


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    growth.draw(series(results()), tmp_path / "made" / "plot.png")
    assert (tmp_path / "made" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_fewer_rows_make_every_size_smaller() -> None:
    small = QUICK.upto(10_000)
    assert (small.rows, small.base, small.old, small.huge) == ((1_000, 10_000), *[10_000] * 3)
    assert QUICK.upto(1).rows == (1_000,)


def test_a_history_is_a_log_of_the_service(tmp_path: Path) -> None:
    features = np.array([[30.0, 2_000.0], [41.0, np.nan], [52.5, 0.1]])
    material = Material.of(SCHEMA, features, np.array([0.1, 0.5, 0.9]))
    material.save(tmp_path / "kept.npz", rows=2)
    assert Material.load(tmp_path / "kept.npz").rows == material.rows[:2]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    append(tmp_path / "log", material, 10, start, timedelta(seconds=10))
    append(tmp_path / "log", material, 3, start + timedelta(seconds=10), timedelta(seconds=3))
    chunks = [block.chunk for block in Reader(tmp_path / "log").read({})]
    times = np.concatenate([chunk.times for chunk in chunks])
    assert np.array_equal(
        times, np.datetime64("2026-01-01T00:00:00", "us") + np.arange(13) * np.timedelta64(1, "s")
    )
    rows = np.concatenate([chunk.features for chunk in chunks])
    assert np.array_equal(rows[:10], features[np.arange(10) % 3], equal_nan=True)
    assert len(np.unique(np.concatenate([chunk.ids for chunk in chunks]))) == 13


MEASURING = """
import subprocess, sys
from pathlib import Path
from benchmarks.meter import Meter

meter = Meter(Path(sys.argv[2]))
with meter.part("imports"):
    Path(sys.argv[1]).read_bytes()
reader = "import sys; open(sys.argv[1], 'rb').read(); print('read', flush=True); input()"
child = subprocess.Popen(
    [sys.executable, "-c", reader, sys.argv[1]],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
)
with meter.part("work"):
    child.stdout.readline()
    kept = bytearray(64 * 2**20)
meter.write({"rows": 3})
child.communicate("\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads Linux's /proc")
def test_a_trial_measures_its_children_and_leaves_imports_out(tmp_path: Path) -> None:
    (tmp_path / "measuring.py").write_text(MEASURING)
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    command = [sys.executable, str(tmp_path / "measuring.py"), str(tmp_path / "file")]
    found = trials.run(command, tmp_path / "answer.json")
    assert found.facts == {"rows": 3}
    assert found.bytes_read >= 3_000_000
    assert found.parts["imports"].bytes_read >= 3_000_000
    assert found.seconds == found.parts["work"].seconds
    assert found.lasted > found.seconds
    assert found.memory > 64 * 2**20


def test_a_trial_that_fails_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise ValueError('no such engine')"]
    with pytest.raises(TrialFailed, match="ValueError: no such engine"):
        trials.run(command, tmp_path / "answer.json")


def test_a_value_that_is_a_tenth_of_all_has_a_bin_of_its_own() -> None:
    after, ahead = quantile_cuts(np.array([0.0] * 6 + [1, 2, 3, 4]), bins=4)
    assert (after.tolist(), ahead.tolist()) == ([0.0, 2.0], [0.0])


def test_what_is_measured_is_the_default_but_the_peer() -> None:
    table = tomllib.loads(config.default_text())
    defaults = [entry["name"] for entry in table["monitors"] if entry["use"] != PEER]
    assert [entry["name"] for entry in monitors()] == defaults
    assert table["monitoring"]["verdict"]["monitor"] in defaults
    assert len(defaults) == len(table["monitors"]) - 1
