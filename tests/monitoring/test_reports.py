"""Reports are written whole and pruned from the oldest on."""

from __future__ import annotations

from pathlib import Path

from monitorkit.monitoring.reports import Reports
from monitorkit.retention import Limits


def test_a_report_is_named_after_its_result_and_monitor(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "new" / "folder")
    path = reports.write("20260102T030405Z-0a0a0a0a", "evidently", "drift.html", b"<p>")
    assert path == "20260102T030405Z-0a0a0a0a-evidently-drift.html"
    assert (reports.folder / path).read_bytes() == b"<p>"
    assert len(list(reports.folder.iterdir())) == 1


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    for day in range(1, 6):
        reports.write(f"2026010{day}", "m", "r.html", b"x")
    assert reports.prune(Limits(2, max_size=1000)) == 3
    assert sorted(path.name[:8] for path in tmp_path.iterdir()) == ["20260104", "20260105"]


def test_the_oldest_go_when_they_are_too_large_but_the_newest_stays(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    for day, size in ((1, 10), (2, 10), (3, 10)):
        reports.write(f"2026010{day}", "m", "r.html", b"x" * size)
    assert reports.prune(Limits(10, max_size=25)) == 1
    assert reports.prune(Limits(10, max_size=5)) == 1
    assert [path.name[:8] for path in tmp_path.iterdir()] == ["20260103"]


def test_there_is_nothing_to_prune_without_a_folder(tmp_path: Path) -> None:
    assert Reports(tmp_path / "none").prune(Limits(1, max_size=1)) == 0
