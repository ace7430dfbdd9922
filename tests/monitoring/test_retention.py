"""Old segments that were monitored go, and verify-log knows it; results and reports go alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from monitorkit.config import Config
from monitorkit.monitoring.reports import Reports
from monitorkit.monitoring.retention import LogRetention
from monitorkit.prediction_log import Prediction, Reader, Writer, chain, sidecar
from monitorkit.prediction_log.compression import Compression
from monitorkit.prediction_log.log_file import LogFile
from monitorkit.prediction_log.verification import verify
from monitorkit.retention import Kept, Limits, surplus
from monitorkit.schema import Feature, FeatureSchema

SCHEMA = FeatureSchema((Feature("age"),))
DAYS = (9, 7, 5, 3, 0.01)


def identity(segment: int, row: int) -> str:
    return f"{segment:08d}-0000-7000-8000-{row:012d}"


async def fill(folder: Path) -> None:
    """Closed segments of two rows that many days old, and the open one."""
    writer = await Writer.open(folder, SCHEMA, durability="os", rotate_bytes=1)
    for number, days in enumerate((*DAYS, 0)):
        time = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        await writer.append(
            SCHEMA,
            [Prediction(identity(number, row), time, "1", 0, 0.5, [row]) for row in range(2)],
        )
    await writer.close()


def retention(root: Path, **limits: str) -> LogRetention:
    table = {"storage": {"root": root}, "log": {"retention": limits}}
    return LogRetention(Config.model_validate(table))


def cursor(folder: Path) -> Mapping[str, int]:
    return list(Reader(folder).read({}))[-1].cursor


def left(folder: Path) -> int:
    return len([*folder.glob("predictions-*.csv"), *folder.glob("predictions-*.parquet")])


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await fill(tmp_path / "predictions")
    return tmp_path / "predictions"


def pruned(logged: list[Any]) -> list[dict[str, Any]]:
    return [event for event in logged if event["event"] == "file_pruned"]


def test_a_segment_with_a_row_of_no_time_stays_and_the_others_go(folder: Path) -> None:
    read = cursor(folder)
    oldest = min(folder.glob("predictions-*.csv"))
    lines = oldest.read_bytes().split(b"\n")
    first, moment, *cells = lines[-2].split(b",")
    lines[-2] = b",".join((first, moment[:5] + b"13" + moment[7:], *cells))
    oldest.write_bytes(b"\n".join(lines))
    oldest.with_suffix(".json").unlink()
    with structlog.testing.capture_logs() as logged:
        assert retention(folder.parent, max_age="4d").run(read) == 2
    assert oldest.exists()
    [event] = [each for each in logged if each["event"] == "retention_failed"]
    assert event["folder"] == str(oldest)
    assert "which is no moment" in event["reason"]


def test_nothing_goes_by_default(folder: Path) -> None:
    assert retention(folder.parent).run(cursor(folder)) == 0
    assert left(folder) == 5


@pytest.mark.parametrize("compress", [False, True], ids=["csv", "parquet"])
def test_old_segments_go_and_verify_log_knows_that_it_was_us(folder: Path, compress: bool) -> None:
    read = cursor(folder)
    if compress:
        while Compression(folder).work(read, seconds=60):
            pass
    oldest = min(folder.glob("predictions-*.*"))
    with structlog.testing.capture_logs() as logged:
        assert retention(folder.parent, max_age="6d").run(read) == 2
    assert left(folder) == 3
    assert not list(folder.glob(f"{oldest.stem}.*"))
    told = pruned(logged)
    assert [event["log_level"] for event in told] == ["info", "info"]
    assert {(event["what"], event["reason"]) for event in told} == {
        ("segment", "older than 6 days, 0:00:00")
    }
    assert str(oldest.with_suffix("")) in {
        str(Path(event["file"]).with_suffix("")) for event in told
    }
    report = verify(folder)
    assert (report.findings, report.pruned, report.pruned_rows, report.rows) == ([], 2, 4, 8)


def test_one_that_somebody_else_removed_is_a_finding_beside_those_that_we_did(folder: Path) -> None:
    retention(folder.parent, max_age="6d").run(cursor(folder))
    removed = min(folder.glob("predictions-*.csv"))
    removed.unlink()
    report = verify(folder)
    assert [finding.file for finding in report.findings] == [str(removed)]
    assert report.pruned == 2


def test_what_came_again_after_it_was_deleted_and_is_gone_then_is_a_finding(folder: Path) -> None:
    """As an import does whose file is imported again."""
    oldest = min(folder.glob("predictions-*.csv"))
    content = oldest.read_bytes()
    (line,) = (
        record
        for record in (link.record for link in chain.read(folder / "predictions.chain"))
        if record is not None and record.segment == oldest.name
    )
    assert retention(folder.parent, max_age="8d").run(cursor(folder)) == 1
    oldest.write_bytes(content)
    chain.append(
        folder / "predictions.chain", "closed", segment=oldest.name, rows=line.rows,
        bytes=line.bytes, sha256=line.sha256, identity=line.identity,
    )  # fmt: skip
    assert verify(folder).findings == []
    oldest.unlink()
    assert [finding.file for finding in verify(folder).findings] == [str(oldest)]


def test_a_segment_that_is_deleted_while_a_service_counts_has_no_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sidecar.rows_of
    oldest = min(folder.glob("predictions-*.csv"))

    def counted(path: Path) -> int:
        if path == oldest:
            path.unlink()
        return real(path)

    monkeypatch.setattr(sidecar, "rows_of", counted)
    file = LogFile(folder, SCHEMA.names, sync=False, rotate_bytes=1)
    file.open()
    assert file.total_rows == 10
    file.close()


def test_what_no_cycle_has_read_stays(folder: Path) -> None:
    assert retention(folder.parent, max_age="6d").run({}) == 0
    read = dict(cursor(folder))
    read[list(read)[1]] -= 1  # of the oldest but one
    assert retention(folder.parent, max_age="6d").run(read) == 1
    assert left(folder) == 4


def test_what_has_rows_of_the_look_back_stays(folder: Path) -> None:
    assert retention(folder.parent, max_age="1s").run(cursor(folder)) == 4
    assert left(folder) == 1


def test_the_oldest_go_when_all_are_too_large(folder: Path) -> None:
    size = max(path.stat().st_size for path in folder.glob("predictions*.csv"))
    assert retention(folder.parent, max_size=f"{4 * size}B").run(cursor(folder)) == 2
    assert left(folder) == 3
    assert verify(folder).findings == []


def test_without_a_sidecar_the_rows_are_looked_at(folder: Path) -> None:
    for path in folder.glob("*.json"):
        path.unlink()
    assert retention(folder.parent, max_age="6d").run(cursor(folder)) == 2


def test_a_chain_that_cannot_be_told_keeps_the_segments(folder: Path) -> None:
    """Takes out: the chain is told before the file goes, in LogRetention._delete."""
    read = cursor(folder)
    (folder / "predictions.chain").rename(folder / "elsewhere")
    (folder / "predictions.chain").mkdir()
    with structlog.testing.capture_logs() as logged:
        assert retention(folder.parent, max_age="6d").run(read) == 0
    assert [event["event"] for event in logged] == ["retention_failed"]
    assert left(folder) == 5


def test_reports_go_by_number_size_and_age_with_an_event_each(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    for day in range(1, 6):
        reports.write(f"2026010{day}", "m", "r.html", b"x" * 10)
        at = (datetime.now(UTC) - timedelta(days=6 - day)).timestamp()
        os.utime(tmp_path / f"2026010{day}-m-r.html", (at, at))
    with structlog.testing.capture_logs() as logged:
        assert reports.prune(Limits(max_age=timedelta(days=3.5))) == 2
        assert reports.prune(Limits(max_size=25)) == 1
        assert reports.prune(Limits(keep=1)) == 1
    assert [Path(event["file"]).name[7] for event in pruned(logged)] == ["2", "1", "3", "4"]
    assert {event["what"] for event in logged} == {"report"}


def test_the_newest_always_stays() -> None:
    now = datetime.now(UTC)
    old = [Kept(Path(name), 10, now - timedelta(days=9)) for name in "ab"]
    for limits in (Limits(keep=0), Limits(max_size=1), Limits(max_age=timedelta(1))):
        assert [each.path.name for each, _ in surplus(old, limits, now)] == ["b"]
    assert list(surplus(old, Limits(), now)) == []


def test_a_chain_that_cannot_be_told_keeps_no_other_segments(folder: Path) -> None:
    """As one that root made, by an import: the service's own go all the same."""
    oldest = min(folder.glob("predictions-2*.csv"))
    theirs = oldest.with_name(f"predictions-import-{oldest.name.removeprefix('predictions-')}")
    read = cursor(folder)
    theirs.write_bytes(oldest.read_bytes().replace(b"-0000-7000-", b"-0001-7000-"))
    (folder / "predictions-import.chain").mkdir()
    read = {**read, **cursor(folder)}
    with structlog.testing.capture_logs() as logged:
        assert retention(folder.parent, max_age="6d").run(read) == 2
    failed = [event["folder"] for event in logged if event["event"] == "retention_failed"]
    assert failed == [str(theirs)]
    assert theirs.exists()
