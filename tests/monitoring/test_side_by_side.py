"""What a person sees of a replay on a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from monitorkit import tables
from monitorkit.monitoring.comparison import Agreement, Compared, Seen
from monitorkit.monitoring.side_by_side import Report

NOW = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
OK = Seen("ok", 250, {}, {})
INCOME = Seen("flagged", 250, {"feature-drift": ["income"], "psi": ["income"]}, {})
MANY = Seen("drift", 250, {"feature-drift": list("abcdef")}, {})
SKIPPED = Seen("skipped", 3, {}, {}, "3 rows in the look-back, 200 are needed")


def cycle(
    minutes: int, recorded: Seen | None, replayed: Seen, agreement: Agreement, **more: Any
) -> Compared:
    now = NOW + timedelta(minutes=minutes)
    run_id = None if recorded is None else "x"
    fields: dict[str, Any] = {"differing": [], "notes": [], **more}
    return Compared(now, "1", run_id, recorded, replayed, agreement, **fields)


def shown(*cycles: Compared, left: int = 0, late: int = 0) -> list[str]:
    file = io.StringIO()
    report = Report(len(cycles) + left, late, tables.console(file=file, width=110))
    for each in cycles:
        report.add(each)
    report.finish()
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_only_cycles_with_something_to_see_are_in_the_table() -> None:
    lines = shown(
        cycle(0, OK, OK, "same"),
        cycle(5, INCOME, INCOME, "same"),
        cycle(10, OK, MANY, "different", differing=["psi"]),
        cycle(15, None, OK, "unrecorded"),
        cycle(20, None, SKIPPED, "unrecorded"),
        cycle(25, None, INCOME, "unrecorded"),
        cycle(30, INCOME, OK, "incomparable", notes=["9 rows are gone"]),
    )
    assert lines == [
        "time (UTC)           rows  recorded        replayed",
        "2026-01-02 03:10:00   250  flagged income  flagged income",
        "2026-01-02 03:15:00   250  ok              drift a, b, c, d and 2 more  differs: psi",
        "2026-01-02 03:30:00   250  no record       flagged income",
        "2026-01-02 03:35:00   250  flagged income  ok                           9 rows are gone",
        "7 cycles: 4 recorded, 3 without a record; 1 skipped for too few rows.",
        "Flagged: 1 in both, 1 only in the record, 1 only in the replay, 1 without a record.",
        "Findings: 2 the same, 1 different.",
        "1 cycle cannot be compared; the first: 9 rows are gone.",
    ]


def test_the_reason_is_that_of_a_cycle_that_cannot_be_compared() -> None:
    lines = shown(
        cycle(0, None, OK, "unrecorded", notes=["rows may be missing"]),
        cycle(5, OK, OK, "incomparable", notes=["recorded against another reference"]),
    )
    assert lines[-1] == (
        "1 cycle cannot be compared; the first: recorded against another reference."
    )


def test_a_drift_that_lasts_is_two_lines() -> None:
    lines = shown(
        *(cycle(5 * n, INCOME, INCOME, "same") for n in range(40)),
        cycle(200, INCOME, OK, "different", differing=["psi"]),
        cycle(205, INCOME, OK, "different", differing=["psi"]),
        cycle(210, OK, OK, "same"),
        cycle(215, INCOME, INCOME, "same"),
    )
    assert [line.split(maxsplit=2)[1:] for line in lines[1:6]] == [
        ["03:05:00", "250  flagged income  flagged income"],
        ["06:20:00", "250  flagged income  flagged income  the last of 40 in a row"],
        ["06:25:00", "250  flagged income  ok              differs: psi"],
        ["06:30:00", "250  flagged income  ok              differs: psi"],
        ["06:40:00", "250  flagged income  flagged income"],
    ]
    assert lines[6].startswith("44 cycles: 44 recorded")


def test_a_monitor_that_fails_is_told_of_once_with_how_often() -> None:
    failed = Seen("ok", 250, {}, {"bad": "ValueError: no [good]"})
    lines = shown(cycle(0, OK, failed, "same"), cycle(5, OK, failed, "same"))
    assert lines[-1] == "Monitor 'bad' failed in 2 cycles; at first: ValueError: no [good]"
    assert lines[1].endswith("failed: bad")


def test_a_cycle_that_fails_is_told_of() -> None:
    failed = Seen("failed", None, {}, {}, "ModelNotFound: version 7 is not there")
    lines = shown(cycle(0, OK, failed, "different"))
    assert lines[1] == "2026-01-02 03:05:00        ok        failed    differs"
    assert (
        "1 cycle could not be replayed; the first: ModelNotFound: version 7 is not there" in lines
    )


def test_nothing_to_replay_is_said() -> None:
    assert shown() == ["Nothing to replay: there are neither results nor rows of that time."]


def test_rows_that_were_held_back_are_told_of() -> None:
    assert "7 rows stand behind later ones" in shown(cycle(0, None, OK, "unrecorded"), late=7)[-1]


def test_a_replay_that_was_stopped_says_how_far_it_came() -> None:
    assert shown(cycle(0, OK, OK, "same"), left=9)[0] == "1 of 10 cycles were replayed."
