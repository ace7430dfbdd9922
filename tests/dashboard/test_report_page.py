"""The report of one result: small, whole, and in need of nothing."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_history import make_history
from PIL import Image

from monitorkit.cli import main
from monitorkit.contracts import RunResult
from monitorkit.dashboard import picture, report
from monitorkit.results import Results
from monitorkit.testing import make_chunk


def test_it_says_what_the_result_says_and_needs_nothing_else(history: list[RunResult]) -> None:
    html = report.html(history[-1]).decode()
    for told in ("1 of 3 features drifted", "income", "proxy-metrics", history[-1].run_id):
        assert told in html
    assert re.findall(r"(?:src|href)=|url\(|@import|<script|https?://", html) == []


def test_a_hundred_features_are_less_than_300_kilobytes() -> None:
    names = [f"a_feature_with_a_rather_long_name_{number:03}" for number in range(100)]
    reference = make_chunk(300, names, missing=0.02)
    (result,) = make_history(reference, 1, last=datetime(2026, 1, 2, tzinfo=UTC), rows=400)
    html = report.html(result)
    assert html.count(b'<svg class="plot overlay"') == 101
    assert len(html) < 300_000
    assert len(picture.png(result)) < 300_000


def test_a_result_without_anything_is_a_report_too(history: list[RunResult]) -> None:
    from dataclasses import replace  # noqa: PLC0415 - here alone

    empty = replace(history[0], outcomes=(), drift=None)
    assert b"Not judged" in report.html(empty)
    assert picture.png(empty).startswith(b"\x89PNG")


def test_the_command_writes_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: list[RunResult]
) -> None:
    monkeypatch.chdir(tmp_path)
    results = Results(Path("monitoring/metrics/monitoring_results"))
    for result in history:
        results.commit(result)
    done = CliRunner().invoke(main, ["report", "latest", "--output", "r.html", "--png", "r.png"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "r.html").read_bytes() == report.html(history[-1])
    with Image.open(io.BytesIO((tmp_path / "r.png").read_bytes())) as image:
        assert image.size[0] == 1320
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24) or ()) > 20
    done = CliRunner().invoke(main, ["report", history[0].run_id])
    assert (tmp_path / f"{history[0].run_id}.html").read_bytes() == report.html(history[0])
    written = sorted(tmp_path.glob("*.[hj]*"))
    for wrong in (["report", "nothing"], ["report", "latest", "--png", "no/folder/r.png"]):
        done = CliRunner().invoke(main, wrong)
        assert done.exit_code == 1
        assert json.loads(done.output.splitlines()[-1])["error"] == "ReportError"
    done = CliRunner().invoke(main, ["report", "latest", "--output", "2.html", "--png", "r.jpg"])
    told = json.loads(done.output.splitlines()[-1])
    assert (done.exit_code, told["error"]) == (1, "ReportError")
    assert told["reason"].startswith("r.jpg does not end in .png")
    done = CliRunner().invoke(main, ["report", "latest", "--output", "s.png", "--png", "s.png"])
    assert (done.exit_code, (tmp_path / "s.png").exists()) == (1, False)
    assert sorted(tmp_path.glob("*.[hj]*")) == written
