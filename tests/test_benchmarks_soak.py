"""The soak's evidence and trends: what is lost, doubled, half or growing is seen."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.evidence import LogEvidence, results
from benchmarks.soak import ANY_TIME, EARLY, FIRST_PART, schedule
from benchmarks.soak_report import MIB, Sample, Soaked, report

HEAD = "prediction_id,timestamp,age\n"


def rows(number: int) -> list[str]:
    return [f"{uuid.uuid4()},2026-01-01T00:00:00.000000Z,{n}\n" for n in range(number)]


def ids(lines: list[str]) -> list[str]:
    return [line.split(",")[0] for line in lines]


def test_what_is_lost_doubled_or_half_is_seen(tmp_path: Path) -> None:
    lines = rows(4)
    current, closed = tmp_path / "predictions.csv", tmp_path / "predictions-20260101.csv"
    closed.write_text(HEAD + "".join(lines[:2]))
    current.write_text(HEAD + "".join(lines[2:]) + "half a li")
    log = LogEvidence(tmp_path)
    assert log.check(ids(lines)) == Counter(ids(lines))
    with pytest.raises(AssertionError, match=r"1 answered rows are lost.*0 are there twice"):
        log.check([*ids(lines), "somebody"])
    current.write_text(HEAD + "".join(lines[1:]))
    with pytest.raises(AssertionError, match=r"0 answered rows are lost.*1 are there twice"):
        log.check(ids(lines))
    current.write_text(HEAD + "short,row\n")
    with pytest.raises(AssertionError, match=r"line 2 of predictions\.csv is no whole row"):
        log.ids()
    current.write_text(HEAD)
    closed.write_text(HEAD + "".join(lines[:1]))
    with pytest.raises(AssertionError, match=r"closed segment predictions-20260101\.csv changed"):
        log.ids()
    closed.unlink()
    with pytest.raises(AssertionError, match="gone"):
        log.ids()


def test_a_result_that_is_not_strict_json_is_seen(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"run_id": "1"}')
    assert results(tmp_path) == [{"run_id": "1"}]
    (tmp_path / "2.json").write_text('{"value": NaN}')
    with pytest.raises(ValueError, match="NaN"):
        results(tmp_path)


def test_the_schedule_is_the_seeds_and_leaves_one_long_life() -> None:
    moments = schedule(7)
    assert moments == schedule(7) != schedule(8)
    assert moments == sorted(moments)
    assert Counter(what for _, what in moments) == Counter(EARLY | ANY_TIME)
    assert max(at for at, what in moments if what in EARLY) < FIRST_PART
    assert all(0 < at < 1 for at, _ in moments)


def soaked(*, bytes_a_second: float = 0.0, files_a_minute: float = 0.0) -> Soaked:
    found = Soaked(10, 7, starts=[4.0, 5.0], faults=[(30.0, "kill"), (90.0, "reload")])
    for second in range(600):
        noise = (second * 7919 % 13 - 6) * 0.1 * MIB
        rss = int(200 * MIB + noise + bytes_a_second * second)
        files = int(40 + files_a_minute * second / 60)
        life = 1 if second < 30 else 2
        found.samples.append(Sample(float(second), life, rss, 3 * rss, files, second * 100))
    return found


def test_growth_is_told_from_noise() -> None:
    assert soaked().flat
    assert not soaked(bytes_a_second=0.1 * MIB).flat
    assert not soaked(files_a_minute=1).flat
    leak = soaked(bytes_a_second=0.1 * MIB).trend("rss")
    assert leak.growth == pytest.approx(0.1 * MIB * leak.seconds, rel=0.05)
    assert leak.interval[0] <= leak.growth <= leak.interval[1]


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    found = soaked(files_a_minute=1)
    found.answered, found.logged = 12_345, 12_350
    report(found, tmp_path)
    text = (tmp_path / "soak.md").read_text()
    assert "| rows answered | 12,345 |" in text
    assert "in 10 minutes" in text
    assert "| kill | 1 |" in text
    assert text.count("| yes |") == 2
    assert text.count("| **no** |") == 1
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
