"""`verify-log` as a command: its exit code, a clear line for each finding, and its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from monitorkit.prediction_log import Prediction, Writer
from monitorkit.schema import Feature, FeatureSchema

SCHEMA = FeatureSchema((Feature("age"),))


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    """A folder with a configuration and a log of three closed segments and an open one."""
    writer = await Writer.open(
        tmp_path / "monitoring" / "predictions", SCHEMA, durability="os", rotate_bytes=1
    )
    for number in range(4):
        time = f"2026-01-02T03:04:0{number}.000000Z"
        made = [Prediction(f"{number}-{n}", time, "1", 0, 0.5, [n]) for n in range(number + 1)]
        await writer.append(SCHEMA, made)
    await writer.close()
    return tmp_path


def verify_log(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitorkit", "verify-log", *options],
        capture_output=True,
        check=False,
        text=True,
        cwd=place,
    )


def segment(place: Path, number: int) -> Path:
    return sorted((place / "monitoring" / "predictions").glob("predictions-*.csv"))[number]


def test_a_sound_log_is_counted_and_ends_with_0(place: Path) -> None:
    done = verify_log(place)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[1:2] for line in lines if "predictions-2026" in line] == [
        ["1"],
        ["2"],
        ["3"],
    ]
    assert "10 rows in 4 segments." in lines
    assert "All is sound; of open segments only the form can be checked." in lines
    chain = (place / "monitoring/predictions/predictions.chain").read_bytes().splitlines()
    head = json.loads(chain[-1])["sha256"]
    assert any(line.endswith(f": 3 lines, head {head}") for line in lines)


async def test_one_of_a_thing_is_no_plural(tmp_path: Path) -> None:
    folder = tmp_path / "monitoring" / "predictions"
    writer = await Writer.open(folder, SCHEMA, durability="os", rotate_bytes=1 << 20)
    time = "2026-01-02T03:04:05.000000Z"
    await writer.append(SCHEMA, [Prediction("1", time, "1", 0, 0.5, [1.0])])
    await writer.close()
    assert "1 row in 1 segment." in verify_log(tmp_path).stdout.splitlines()


def test_each_finding_is_a_line_with_its_place_and_remedy_and_the_end_is_1(place: Path) -> None:
    edited, removed = segment(place, 1), segment(place, 2)
    edited.write_bytes(edited.read_bytes().replace(b",0.5,", b",0.4,"))
    removed.unlink()
    with (place / "monitoring" / "predictions" / "predictions.csv").open("ab") as file:
        file.write(b"junk\n")
    done = verify_log(place)
    assert done.returncode == 1
    told = [line for line in done.stdout.splitlines() if line.startswith("monitoring/")]
    assert [line.split(": ")[0] for line in told] == [
        f"monitoring/predictions/{edited.name}",
        "monitoring/predictions/predictions.csv, line 6",
        f"monitoring/predictions/{removed.name}",
    ]
    assert "Restore the file from a backup" in told[0]
    assert "it was edited after it was closed" in told[0]
    assert "this is no row: it has too few fields" in told[1]
    assert "this closed segment of 3 rows was removed" in told[2]
    assert "3 findings: the log is not sound." in done.stdout


def test_json_is_one_document(place: Path) -> None:
    done = verify_log(place, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert (document["schema_version"], document["sound"], document["rows"]) == (1, True, 10)
    assert [each["state"] for each in document["segments"]] == ["sealed"] * 3 + ["open"]
    segment(place, 0).unlink()
    done = verify_log(place, "--json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert set(finding) == {"file", "line", "problem", "remedy"}


def test_seal_takes_in_what_no_chain_speaks_of(place: Path) -> None:
    (place / "monitoring" / "predictions" / "predictions.chain").unlink()
    assert verify_log(place).returncode == 1
    done = verify_log(place, "--seal")
    assert done.returncode == 0
    assert done.stdout.count("sealed as it is now: ") == 3
    assert verify_log(place).returncode == 0


def test_a_log_that_cannot_be_read_is_a_refusal_with_a_remedy(place: Path) -> None:
    (place / "config").mkdir()
    (place / "config" / "monitorkit.toml").write_text('[log]\narchives = ["nope://a"]\n')
    segment(place, 0).unlink()
    done = verify_log(place)
    assert done.returncode == 1
    assert "[log] archives" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_log_that_is_not_there_is_not_sound(tmp_path: Path) -> None:
    done = verify_log(tmp_path)
    assert done.returncode == 1
    assert "there is no such folder" in done.stdout
