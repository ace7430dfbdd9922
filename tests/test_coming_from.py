"""docs/coming-from.md: its configurations are read, its program does what it says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from documented import LANGUAGES, fences

from monitorkit import plugin_manager
from monitorkit.config import Config

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
TABLES = [text for language, text in fences(PAGE) if language == "toml"]


def test_every_block_says_what_it_is() -> None:
    assert {language for language, _ in fences(PAGE)} <= set(LANGUAGES)
    assert len(TABLES) == 3


@pytest.mark.parametrize("text", TABLES)
def test_a_configuration_is_one(text: str) -> None:
    config = Config(**tomllib.loads(text))
    plugin_manager.checked(config)
    if config.monitors:
        assert config.monitoring.verdict.monitor in {entry.name for entry in config.monitors}


def test_the_program_turns_lines_of_bentoml_into_a_table(tmp_path: Path) -> None:
    (program,) = [text for language, text in fences(PAGE) if language == "python"]
    (tmp_path / "bento_log.py").write_text(program, encoding="utf-8")
    rows = [
        {"age": 47 + n, "p": 0.1 + 0.2 * n, "timestamp": "2024-03-05T03:33:59.490137"}
        | {"request_id": f"1464274363429374316{n}"}
        for n in range(3)
    ]
    logs = [tmp_path / "data.1.log", tmp_path / "data.log"]
    for log, some in zip(logs, (rows[:1], rows[1:]), strict=True):
        log.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    command = [sys.executable, "bento_log.py", *(log.name for log in logs)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with (tmp_path / "bento.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["request_id"] for row in read] == [row["request_id"] for row in rows]
    assert [row["timestamp"] for row in read] == [row["timestamp"] for row in rows]
    assert [float(row["p"]) for row in read] == pytest.approx([row["p"] for row in rows])
