"""What a person reads after an import."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from monitorkit import tables
from monitorkit.importing import report
from monitorkit.importing.backfill import Reason, Summary

SUMMARY = Summary(
    file=Path("theirs.csv"),
    dry_run=False,
    rows=11_988,
    present=0,
    rejected=0,
    first="2026-01-02T03:04:05.123456Z",
    last="2026-01-03T00:00:00.000000Z",
    segments=[Path("log/a.csv")],
    reasons=[],
    rejects=None,
)


def shown(summary: Summary) -> str:
    text = io.StringIO()
    report.show(summary, tables.console(file=text, width=60))
    return text.getvalue()


def test_a_clean_import_is_two_lines() -> None:
    assert shown(SUMMARY) == (
        "Imported 11,988 rows of theirs.csv, 2026-01-02 03:04:05 to 2026-01-03 00:00:00 UTC.\n"
        "Segment: log/a.csv\n"
    )


def test_reasons_are_told_with_their_first_line() -> None:
    reasons = [Reason(f"reason [{n}]", 20 - n, n, "7" if n else None) for n in range(12)]
    told = shown(replace(SUMMARY, rejected=100, reasons=reasons, rejects=Path("x.rejects.csv")))
    assert "Rejected: 100 rows.\n" in told
    assert "20  reason [0] (first on line 0)\n" in told
    assert "19  reason [1] (first on line 1: 7)\n" in told
    assert "and 2 other reasons\n" in told
    assert "Rejects: x.rejects.csv\n" in told


def test_what_was_made_and_what_was_left_is_told() -> None:
    told = shown(replace(SUMMARY, made=["prediction_id"], unused=["request_id", "host"]))
    assert "Made, since the file has none: prediction_id.\n" in told
    assert "Columns that nothing uses: request_id, host.\n" in told


def test_what_was_there_is_told() -> None:
    again = replace(SUMMARY, rows=0, present=1, first=None, last=None, segments=[])
    assert shown(again) == "Nothing new in theirs.csv.\nAlready in the log: 1 row.\n"


def test_a_dry_run_says_so() -> None:
    dry = replace(SUMMARY, dry_run=True, segments=[Path(f"{n}") for n in range(5)])
    assert shown(dry).startswith("Would import 11,988 rows")
    assert "and 2 more segments" in shown(dry)
