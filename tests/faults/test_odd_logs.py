"""Lines that are no rows, in closed segments and in the one that grows: told of, and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import log_bytes
import pytest
from service_process import Service, run_command

from benchmarks.evidence import results

pytestmark = pytest.mark.slow

SLOW = {"MONITORKIT_MONITORING__INTERVAL": "1h"}  # cycles come when the test asks for one

# What stands between two good rows, and why it is none; None: it is one.
LINES: dict[str, tuple[Callable[[bytes], bytes], str | None]] = {
    "NUL bytes": (lambda row: row[:60] + bytes(8) + row[68:], "NUL bytes"),
    "only NUL bytes": (lambda row: bytes(len(row) - 1) + b"\n", "NUL bytes"),
    "bad UTF-8": (lambda row: row.replace(b",1,0,", b",\xff\xfe,0,"), "not UTF-8"),
    "fewer columns": (lambda row: row.rsplit(b",", 2)[0] + b"\n", "too few fields"),
    "more columns": (lambda row: row[:-1] + b",1,2,3\n", "columns"),
    "another schema's header": (
        lambda _: log_bytes.FIXED + b",height,weight\n",
        "too few fields",
    ),
    "text for a number": (lambda row: row.replace(b",0.0625,", b",high,"), "high"),
    "infinite": (lambda row: row.replace(b",0.0625,", b",inf,"), "finite"),
    "a leap second": (
        lambda row: row[:37] + b"2016-12-31T23:59:60.000000Z" + row[64:],
        "23:59:60",
    ),
    "no timestamp": (lambda row: row[:37] + row[64:], "timestamp"),
    "an empty line": (lambda _: b"\n", "empty"),
    "CRLF": (lambda row: row[:-1] + b"\r\n", None),
    "a lone carriage return": (lambda row: row[:50] + b"\r" + row[50:], "carriage return"),
    "a quote without its end": (lambda row: row[:37] + b'"' + row[37:], "columns"),
}
TORN = b"00000000-0000-0000-0000-0000000fffff,2026-01-0"


def segment(folder: Path, name: str) -> tuple[int, dict[int, tuple[bytes, str]]]:
    """Write one with every line; returns the good rows, and the bad lines by offset."""
    head = log_bytes.header(folder)
    lines: list[bytes] = log_bytes.rows(folder, 5)
    good, bad = 5, {}
    for spoil, reason in LINES.values():
        line = spoil(log_bytes.rows(folder, 1)[0])
        if reason is None:
            good += 1
        else:
            bad[len(head) + sum(map(len, lines))] = line, reason
        lines += [line, *log_bytes.rows(folder, 2)]
        good += 2
    bad[len(head) + sum(map(len, lines))] = TORN, "end"
    log_bytes.write(folder / "monitoring/predictions" / name, head, [*lines, TORN])
    return good, bad


def test_every_line_that_is_no_row_is_told_of_with_file_and_offset_and_harms_no_other(
    folder: Path, start: Callable[..., Service]
) -> None:
    """Needs `parsing.parse` (around the lines that pyarrow refuses), `Reader._skip`,
    `LocalFolder._look` for headers, and `LogFile._recover` for the end of the open segment.
    """
    predictions = folder / "monitoring/predictions"
    closed, current = "predictions-20260101T000000.000000Z.csv", "predictions.csv"
    foreign = "predictions-20260102T000000.000000Z.csv"
    good = 0
    expected: dict[tuple[str, int], tuple[bytes, str]] = {}
    for name in (closed, current):
        rows, bad = segment(folder, name)
        good += rows
        expected |= {(name, offset): line for offset, line in bad.items()}
    log_bytes.write(predictions / foreign, b"id,score\n", [b"7,0.5\n"])
    content = (predictions / current).read_bytes()

    events = run_command(folder, "monitor", "--once")
    (result,) = results(folder / "monitoring/metrics/monitoring_results")
    assert result["window"]["rows"] == good
    assert {entry["error"] for entry in result["monitors"]} == {None}
    found = told(events)
    # The end of the open segment may be a row that is being written: it is waited for.
    del expected[current, len(content) - len(TORN)]
    assert set(found) == set(expected)
    for where, (line, reason) in expected.items():
        name, offset = where
        assert (predictions / name).read_bytes()[offset:].startswith(line)
        assert reason in found[where], (line, found[where])
    unknown = {e["file"] for e in events if e["event"] == "prediction_log_header_unknown"}
    assert [Path(file).name for file in unknown] == [foreign]

    # A second time nothing is read twice, and a service begins behind the torn line.
    run_command(folder, "monitor", "--once")
    assert results(folder / "monitoring/metrics/monitoring_results")[-1]["window"]["rows"] == good
    service = start(folder, env=SLOW)
    torn = service.wait_for("prediction_log_torn_line")
    assert (torn["offset"], torn["bytes"]) == (len(content) - len(TORN), len(TORN))
    assert (folder / torn["kept_in"]).read_bytes() == TORN + b"\n"
    with service.client() as client:
        assert client.post("/monitoring/run").json()["result"]["window"]["rows"] == good
    assert (predictions / current).read_bytes() == content[: -len(TORN)]
    assert service.stop() == 0


def test_a_current_file_that_is_no_log_is_kept_and_another_is_begun(
    folder: Path, start: Callable[..., Service], applicant: dict[str, Any]
) -> None:
    """Needs `recovery.set_aside`."""
    predictions = folder / "monitoring/predictions"
    log_bytes.write(predictions / "predictions.csv", b"id,score\r\n", [b"7,0.5\r\n"])
    events = run_command(folder, "monitor", "--once")
    assert "cycle_skipped" in [event["event"] for event in events]
    service = start(folder, env=SLOW)
    event = service.wait_for("prediction_log_header_unknown")
    assert (folder / event["kept_in"]).read_bytes() == b"id,score\r\n7,0.5\r\n"
    with service.client() as client:
        assert client.post("/predict", json=applicant).status_code == 200
        assert client.get("/health").json()["predictions_logged"] == 1
    assert service.stop() == 0
    assert json.dumps(service.events).count('"level": "error"') == 0


def told(events: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    """The reasons of skipped lines, by file and offset.

    A line after the last row may be told of again by a cycle that reads on.
    """
    found: dict[tuple[str, int], str] = {}
    for event in events:
        if event["event"] == "prediction_log_row_skipped":
            where = Path(event["file"]).name, event["offset"]
            assert found.setdefault(where, event["reason"]) == event["reason"]
    return found
