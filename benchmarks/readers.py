"""What it takes to parse a segment of the log: pyarrow as monitorkit uses it, polars and pandas.

`python -m benchmarks.readers` (some minutes; `tox -e readers` brings polars) writes a million rows
of ten columns as the service does, and lets each reader of `benchmarks.csv_readers` parse them, in
a process of its own and on one thread. The readers take turns, so that a neighbour who keeps the
machine busy harms all of them; ratios are taken within a round, and the median round counts. One
that is far behind in the first round is not asked again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import trials
from benchmarks.csv_readers import READERS
from benchmarks.histories import Material, append
from benchmarks.machine import facts, say
from benchmarks.trials import Trial
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.training import synthetic

RESULT = Path(__file__).with_name("results") / "readers.md"
SMALL_ROWS = 10_000
MATERIAL_ROWS = 100_000
FAR_BEHIND = 4.0
"""Times the processor time of the first reader."""

LIBRARIES = ("numpy", "pyarrow", "polars", "pandas")

HEAD = """# Reading the log

Made by `python -m benchmarks.readers`: {rows:,} rows of ten features ({size:.0f} MB) of a segment
of the log, parsed by each reader on one thread, in a process of its own, in {rounds} interleaved
rounds; one that was far behind in the first round was not asked again. Times are those of the first
reader, which is monitorkit's way, in processor seconds and in seconds of the clock; below 1 is
faster. Memory is the peak of the process, libraries included. `differ` counts the doubles of
{small:,} rows that were not read to the last bit as they were written.

| reader | rounds | CPU, times | clock, times | CPU s | MiB | differ |
|---|---:|---:|---:|---:|---:|---:|
"""


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=RESULT, help="the Markdown file to write")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="monitorkit-benchmark-") as name:
        folder = Path(name).resolve()
        say(f"writing {given.rows:,} rows")
        segment = write(folder / "all", given.rows)
        small = write(folder / "small", SMALL_ROWS)
        found: dict[str, list[Trial]] = {reader: [] for reader in READERS}
        given.output.parent.mkdir(exist_ok=True)
        for _ in range(given.rounds):
            measure(segment, small, found)
            text = report(found, given.rows, segment.stat().st_size / 1e6)
            given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(given.output.read_text(encoding="utf-8"))


def write(folder: Path, rows: int) -> Path:
    """A segment by the writer of the log; its scores have all the digits that doubles have."""
    columns, _ = synthetic.applicants(min(rows, MATERIAL_ROWS), 7)
    schema = FeatureSchema(tuple(Feature(name, nullable=True) for name in columns))
    scores = np.random.default_rng(7).random(min(rows, MATERIAL_ROWS))
    material = Material.of(schema, np.column_stack(list(columns.values())), scores)
    append(folder, material, rows, datetime.now(UTC), timedelta(hours=1))
    (segment,) = folder.glob("predictions*.csv")
    return segment


def measure(segment: Path, small: Path, found: Mapping[str, list[Trial]]) -> None:
    """One round: adds what each reader takes to what was found before."""
    ours = next(iter(found.values()))
    for name, before in found.items():
        if before and before[0].cpu > FAR_BEHIND * ours[0].cpu:
            continue
        command = [sys.executable, "-m", "benchmarks.csv_readers", name]
        done = trials.run([*command, str(segment), str(small)], segment.parent / "answer.json")
        say(f"{name}: {done.cpu:.2f} s of CPU, {done.seconds:.2f} s")
        before.append(done)


def report(found: Mapping[str, Sequence[Trial]], rows: int, size: float) -> str:
    """The result.

    Args:
        found: what each reader took, round by round from the first one on; the first reader is the
            measure, and was there in all of them.
        rows: that there were.
        size: of them, in MB.

    Raises:
        ValueError: a reader did not find all rows.
    """
    ours = next(iter(found.values()))
    lines = []
    for name, theirs in found.items():
        if any(trial.facts["rows"] != rows for trial in theirs):
            raise ValueError(f"{name} did not read {rows:,} rows")
        pairs = list(zip(theirs, ours, strict=False))
        cpu = statistics.median(trial.cpu / beside.cpu for trial, beside in pairs)
        clock = statistics.median(trial.seconds / beside.seconds for trial, beside in pairs)
        seconds = statistics.median(trial.cpu for trial in theirs)
        memory = statistics.median(trial.memory for trial in theirs) / 2**20
        differ = theirs[0].facts["differing"]
        times = f"{len(theirs)} | {cpu:.2f} | {clock:.2f} | {seconds:.2f}"
        lines.append(f"| {name} | {times} | {memory:,.0f} | {differ:,} |")
    head = HEAD.format(rows=rows, size=size, rounds=len(ours), small=SMALL_ROWS)
    there = [name for name in LIBRARIES if find_spec(name)]
    measured_on = "\n".join(f"- {fact}" for fact in facts(there))
    return f"{head}{chr(10).join(lines)}\n\n{measured_on}\n"


if __name__ == "__main__":
    main()
