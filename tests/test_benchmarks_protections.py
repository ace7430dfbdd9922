"""The list of protections stays true, and its runner tells a test that sees one from others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.protected import ROOT, Change, Protection, is_slow, listed
from benchmarks.protections import report
from benchmarks.taken_out import Verdict, judged, read_report, run

ALL = listed()
ROWS = {
    "SIGKILL", "SIGTERM", "power loss", "full disk, lost log", "odd lines",
    "schema or version changes", "clock", "plugins", "MLflow", "model files", "reference",
    "two processes", "soak", "verify-log", "retention", "bad input", "slow and many clients",
    "keys and names", "pages", "paths and links", "events and secrets",
}  # fmt: skip


@pytest.mark.parametrize("protection", ALL, ids=lambda each: each.name)
def test_what_is_taken_out_and_what_must_fail_are_there(
    protection: Protection, tmp_path: Path
) -> None:
    for change in protection.changes:
        copy = tmp_path / change.file
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / change.file).read_bytes())
        change.apply(tmp_path)
        assert copy.read_bytes() != (ROOT / change.file).read_bytes()
    for test in protection.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test
    assert protection.place(ROOT)


def test_every_row_of_the_table_has_one() -> None:
    assert {protection.row for protection in ALL} == ROWS


def test_a_text_that_is_not_there_once_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    with pytest.raises(ValueError, match=r"a\.py has 2 times"):
        Change("a.py", "x = 1", "x = 2").apply(tmp_path)
    with pytest.raises(ValueError, match=r"a\.py has 0 times"):
        Change("a.py", "y = 1", "x = 2").apply(tmp_path)
    with pytest.raises(ValueError, match="no Python any more"):
        Change("a.py", "x = 1\nx = 1", "x = = 2").apply(tmp_path)


def test_the_place_is_the_class_and_function_around_it() -> None:
    (protection,) = [each for each in ALL if each.name == "torn-line"]
    assert protection.place(ROOT) == "`monitorkit/prediction_log/log_file.py`, `LogFile._recover`"
    assert is_slow(protection.tests[1])
    assert not is_slow(protection.tests[0])


SUITE = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_a(n):
    assert n < {limit}

def test_b():
    raise {error}
"""


@pytest.mark.parametrize(
    ("limit", "error", "test", "fails"),
    [
        (3, "ValueError('no good')", "test_a", "no"),
        (2, "ValueError('no good')", "test_a", "yes"),
        (3, "TimeoutError('too long')", "test_b", "yes"),
        (3, "ValueError('no good')", "test_b", "broken"),
        (3, "NameError('nothing')", "test_b", "broken"),
        (3, "pytest.skip.Exception('not here')", "test_b", "broken"),
        ("(", "x", "test_a", "broken"),
    ],
)
def test_a_verdict_is_what_pytest_said(
    tmp_path: Path, limit: object, error: str, test: str, fails: str
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(SUITE.format(limit=limit, error=error))
    ran = run(tmp_path, [f"test_it.py::{test}"], seconds=60)
    verdict = judged(ran, count=2 if test == "test_a" else 1, cause="")
    assert verdict.fails == fails, verdict
    if "no good" in error and test == "test_b":
        assert judged(ran, count=1, cause="no good").fails == "yes"


def test_a_test_that_takes_too_long_is_ended_and_sees_it(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text("import time\n\ndef test_a():\n    time.sleep(60)\n")
    ran = run(tmp_path, ["test_it.py"], seconds=3)
    assert (ran.timed_out, judged(ran, count=1, cause="").fails) == (True, "yes")
    assert ran.seconds < 30


def test_cases_are_counted_by_the_name_of_their_test(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(SUITE.format(limit=2, error="ValueError()"))
    ran = run(tmp_path, ["test_it.py"], seconds=60, all_of_them=True)
    found = read_report(ran)
    assert {name: len(cases) for name, cases in found.items()} == {
        "test_it.py::test_a": 2,
        "test_it.py::test_b": 1,
    }


def test_the_report_says_what_was_run_and_what_was_not() -> None:
    some = ALL[:2]
    first = some[0].tests[0]
    found = {(some[0].name, first): Verdict("no", "it passed", 4.6)}
    text = "\n".join(report(some, found))
    assert f"`{first.rpartition('::')[2]}`" in text
    assert "| **no**: it passed | 5 |" in text
    assert "| not run | - |" in text
    assert f"0 of {sum(len(each.tests) for each in some)} tests fail" in text
    assert "1 do not" in text
