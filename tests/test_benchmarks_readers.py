"""The benchmark of readers: all read the same rows, and what it reports is what they took."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import readers
from benchmarks.csv_readers import READERS, differing
from benchmarks.trials import Part, Trial

INEXACT = "pandas C, chunks"
HERE = [name for name in READERS if not name.startswith("polars") or find_spec("polars")]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return readers.write(tmp_path_factory.mktemp("log"), 2_000)


@pytest.mark.parametrize("name", HERE)
def test_every_reader_reads_all_rows_and_tells_whether_it_is_exact(
    name: str, segment: Path
) -> None:
    assert sum(len(table) for table in READERS[name](segment)) == 2_000
    assert (differing(READERS[name], segment) > 0) == (name == INEXACT)


def trial(cpu: float, seconds: float, *, rows: int = 100) -> Trial:
    parts = {"imports": Part(9, 9, 0), "reading": Part(seconds, cpu, 0)}
    return Trial(parts, 100 * 2**20, 20.0, {"rows": rows, "differing": 3})


def test_ratios_are_taken_within_a_round_and_the_median_counts() -> None:
    found = {
        "ours": [trial(1, 2), trial(2, 4), trial(1, 1)],
        "theirs": [trial(2, 2), trial(2, 2), trial(1.5, 3)],
    }
    text = readers.report(found, 100, 12.0)
    assert "| ours | 3 | 1.00 | 1.00 | 1.00 | 100 | 3 |" in text
    assert "| theirs | 3 | 1.50 | 1.00 | 2.00 | 100 | 3 |" in text
    found["slow"] = [trial(9, 8)]
    assert "| slow | 1 | 9.00 | 4.00 | 9.00 | 100 | 3 |" in readers.report(found, 100, 12.0)
    with pytest.raises(ValueError, match="ours did not read 101 rows"):
        readers.report(found, 101, 12.0)
