"""`check-plugin`: each law on each monitor and sink of a file, told so that one can act on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from click.testing import CliRunner, Result

from monitorkit import new_monitor, reference
from monitorkit.cli import main
from monitorkit.schema import Feature, FeatureSchema

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "share_below.py"

MONITOR = """
    from dataclasses import dataclass, field
    import threading
    import numpy as np
    from monitorkit import Finding, Judgement, Monitor, Options, Sink, hookimpl

    @dataclass(frozen=True)
    class Sum:
        rows: int
        total: float

    class Mine(Monitor[Options, Sum]):
        def summarise(self, chunk):
            return Sum(len(chunk), float(np.nansum(chunk.features[:, 0])))

        def merge(self, left, right):
            return Sum(left.rows + right.rows, left.total + right.total)

        def judge(self, timeline, previous):
            return Judgement([Finding("total", timeline.all().total)])

    @hookimpl
    def monitorkit_monitors():
        return {"mine": Mine}
"""
SINK = """
    class Once(Sink):
        delivered = set()

        def deliver(self, result, document):
            if result.run_id in self.delivered:
                raise FileExistsError(result.run_id)
            self.delivered.add(result.run_id)

    @hookimpl
    def monitorkit_sinks():
        return {"once": Once}
"""

Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check a file with the given content, or one that is there."""
    monkeypatch.chdir(tmp_path)

    def run(code: str | Path, *arguments: str) -> Result:
        path = code if isinstance(code, Path) else tmp_path / "mine.py"
        if isinstance(code, str):
            path.write_text(code)
        return CliRunner().invoke(main, ["check-plugin", str(path), *arguments])

    return run


def mine(*replacements: tuple[str, str]) -> str:
    code = dedent(MONITOR)
    for old, new in replacements:
        assert old in code
        code = code.replace(old, new)
    return code


def test_a_good_monitor_is_ok(check: Check) -> None:
    done = check(mine())
    assert (done.exit_code, done.output) == (0, "monitor mine: ok (9 laws)\n")


@pytest.mark.parametrize("rows", [3, 4, 9, 100, 299])
def test_the_window_that_shows_it_is_the_smallest(check: Check, rows: int) -> None:
    broken = "left.total + right.total"
    half = f"({broken}) / (1 if left.rows + right.rows < {rows} else 2)"
    done = check(mine((broken, half)))
    assert done.exit_code == 1
    assert f"the smallest window that shows it, {rows} of 300 rows" in done.output


def test_what_new_monitor_writes_is_ok(check: Check, tmp_path: Path) -> None:
    written = new_monitor.write("late_payers", tmp_path)
    done = check(written.plugin, "--options", written.options)
    assert (done.exit_code, done.output) == (0, "monitor late_payers: ok (9 laws)\n")
    options = 'late_payers = { column = "income", limit = 0.5 }'
    done = check(written.plugin, "--options", options, "--columns", "age, income")
    assert (done.exit_code, done.output) == (0, "monitor late_payers: ok (9 laws)\n")
    done = check(written.plugin, "--options", options, "--columns", "age")
    assert done.exit_code == 1
    assert "there is no column 'income'; there are: age" in done.output


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "left.total + right.total",
            "(left.total + right.total) / 2",
            ["BROKEN merge is associative", "the smallest window that shows it, ", "return a new"],
        ),
        (
            "timeline.all().total",
            "float(len(timeline.buckets))",
            ["BROKEN any split of the rows gives the same findings", "split 0 changes"],
        ),
        (
            "timeline.all().total)",
            "1.0, drift=True)",
            ["BROKEN the reference itself is no drift", "compare with what `self.reference` gives"],
        ),
        (
            "timeline.all().total",
            "np.float32(1)",
            ["BROKEN judge changes no summary, and a result can hold its findings", "no number as"],
        ),
        (
            "timeline.all().total)",
            '1.0, detail={"f": 1 / len(timeline.all().missing)})',
            ["it raised AttributeError"],
        ),
        ("@dataclass(frozen=True)", "@dataclass", ["is not a frozen dataclass", "frozen=True"]),
        (
            "return Sum(len(chunk)",
            "assert len(chunk) != 1\n        return Sum(len(chunk)",
            ["BROKEN constant, all-missing and single-row", "for one row", "excluded(column"],
        ),
        (
            "class Sum:",
            'class Sum:\n    def __reduce__(self):\n        raise TypeError("no")\n',
            ["BROKEN summaries and findings pickle", "do not pickle"],
        ),
    ],
)
def test_a_broken_law_is_named_with_what_to_do(
    check: Check, old: str, new: str, told: Sequence[str]
) -> None:
    done = check(mine((old, new)))
    assert done.exit_code == 1
    assert done.output.startswith("monitor mine: broken\n")
    for part in (*told, "what to do: "):
        assert part in done.output
    assert "Traceback" not in done.output


def test_the_example_is_the_smallest_window(check: Check) -> None:
    broken = "1 / 0 if timeline.all().rows >= 3 else 1.0"
    done = check(mine(("timeline.all().total", broken)))
    assert "it raised ZeroDivisionError" in done.output
    assert "the smallest window that shows it, 3 of 300 rows:\n      a=" in done.output


def test_the_rows_are_those_of_the_frozen_reference(check: Check, tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("age"), Feature("income", nullable=True)))
    ages = np.random.default_rng(0).integers(18, 90, (500, 2)).astype(np.float64)
    folder = tmp_path / "monitoring" / "reference"
    reference.freeze(folder, ages, schema, source="test", model_version="1")
    good = 'share_below = { column = "age", limit = 18, at_most = 0.01 }'
    assert check(EXAMPLE, "--options", good).exit_code == 0
    loud = 'share_below = { column = "age", limit = 50 }'
    done = check(EXAMPLE, "--options", loud)
    assert done.exit_code == 1
    assert "BROKEN the reference itself is no drift" in done.output


def test_options_come_from_the_configuration(check: Check, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text(
        f'[monitoring]\nplugin_files = ["{EXAMPLE}"]\n[monitoring.verdict]\nmonitor = "low"\n'
        '[[monitors]]\nname = "low"\nuse = "share_below"\n'
        'options = { column = "b", limit = -99.0 }\n'
    )
    assert check(EXAMPLE, "--config", str(config)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "`options.column`: field required"),
        (["--options", "share_below = { colum = 'a' }"], "unknown key `options.colum`"),
        (["--options", "share_belo = {}"], "no kind 'share_belo'; there are: share_below"),
        (["--options", "share_below = 3"], "share_below is no table"),
        (["--options", "share_below {"], "write 'kind = { key = 1 }'"),
    ],
)
def test_options_that_do_not_fit_are_told(check: Check, arguments: list[str], reason: str) -> None:
    done = check(EXAMPLE, *arguments)
    assert done.exit_code == 1
    assert reason in done.output


def test_a_sink_that_delivers_once_only_is_broken(check: Check) -> None:
    done = check(mine() + dedent(SINK))
    assert done.exit_code == 1
    assert "monitor mine: ok (9 laws)\nsink once: broken\n" in done.output
    assert "the second delivery of one result raised FileExistsError" in done.output
    good = dedent(SINK).replace("raise FileExistsError(result.run_id)", "return")
    assert check(mine() + good).output == "monitor mine: ok (9 laws)\nsink once: ok (1 law)\n"


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "def broken(:",
        "1 / 0",
        "from monitorkit import hookimpl\n@hookimpl\ndef monitorkit_monitors():\n    return {}",
    ],
)
def test_a_file_that_is_no_plugin_is_refused(check: Check, code: str) -> None:
    done = check(code)
    assert done.exit_code == 1
    assert "mine.py" in done.output
    assert "Traceback" not in done.output
