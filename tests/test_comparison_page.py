"""docs/comparison.md: each cell about another project has its source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
SOURCES = dict(re.findall(r"^\[([a-z-]+)\]: (\S+)$", PAGE, flags=re.MULTILINE))
PROJECTS = {"Evidently", "NannyML", "whylogs", "MLServer", "BentoML", "`mlflow models serve`"}
PLACES = (
    "https://github.com/",
    "https://docs.evidentlyai.com/",
    "https://docs.seldon.ai/",
    "https://docs.bentoml.com/",
    "https://mlflow.org/docs/",
    "../benchmarks/results/",
)


def tables() -> list[list[list[str]]]:
    """Rows of cells of each table that has monitorkit in its head."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", PAGE, flags=re.MULTILINE)
    split = [[row.strip("|\n").split("|") for row in block.splitlines()] for block in blocks]
    whole = [[[cell.strip() for cell in row] for row in table] for table in split]
    return [table for table in whole if "monitorkit" in table[0]]


CELLS = [
    pytest.param(cell, id=f"{row[0][:40]} / {name}")
    for table in tables()
    for row in table[2:]
    for name, cell in zip(table[0], row, strict=True)
    if name in PROJECTS
]


def test_every_project_is_compared() -> None:
    assert {name for table in tables() for name in table[0]} >= PROJECTS
    assert len(tables()) == 6
    assert "**2026-11-26**" in PAGE


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_has_a_source(cell: str) -> None:
    named = re.findall(r"\]\[([a-z-]+)\]", cell)
    assert named or cell == "-", cell
    assert set(named) <= set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_used_and_is_a_project_s_own_place_or_a_result_of_ours(name: str) -> None:
    assert SOURCES[name].startswith(PLACES)
    assert f"][{name}]" in PAGE
    if SOURCES[name].startswith(".."):
        assert (ROOT / "docs" / SOURCES[name]).exists()


def test_figures_are_those_of_the_results() -> None:
    """Needs the rows of requests/s, seconds and memory to be the ones of the committed runs."""
    serving = (ROOT / "benchmarks/results/serving.md").read_text(encoding="utf-8")
    for model, begins in (
        ("logistic_regression", "| requests/s, single rows, 32 connections, logistic regression"),
        ("random_forest", "| the same with a random forest"),
    ):
        (told,) = [line for line in PAGE.splitlines() if line.startswith(begins)]
        shown = re.findall(r"\[([\d,]+?)(?:, [a-z ]+)?\]\[serving\]", told)
        measured = [
            re.findall(
                rf"^\| {server} \| {model} \| 32 connections \| ([\d,]+)", serving, re.MULTILINE
            )
            for server in ("BentoML", "mlflow models serve", "monitorkit, os")
        ]
        assert [[number] for number in shown] == measured
    monitoring = (ROOT / "benchmarks/results/monitoring.md").read_text(encoding="utf-8")
    (seconds,) = [line for line in PAGE.splitlines() if line.startswith("| a million rows of ten")]
    (memory,) = [line for line in PAGE.splitlines() if line.startswith("| memory for that")]
    took = re.findall(r"\[([\d.]+)[^\]]*\]\[monitoring\]", seconds)
    needed = re.findall(r"\[([\d,]+)\]\[monitoring\]", memory)
    for tool, told, megabytes in zip(
        ("Evidently", "NannyML", "whylogs", "process"), took, needed, strict=True
    ):
        (row,) = re.findall(
            rf"^\| {tool} \| the whole log \| 10 \| 1,000,000 \|.*$", monitoring, re.MULTILINE
        )
        cells = [cell.strip() for cell in row.split("|")]
        assert float(cells[5]) == pytest.approx(float(told), rel=0.05)
        assert cells[8] == megabytes
