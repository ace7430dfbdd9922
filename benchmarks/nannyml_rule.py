"""NannyML itself beside its rule in `alarms.md`: `python -m benchmarks.nannyml_rule`, some minutes.

`benchmarks.alarms` asks NannyML's rule, three deviations above the mean of chunks of the reference,
of the counts that it has for all the others: Jensen-Shannon over tenths of the reference. Here both
that and the package, which has bins of its own, see the same rows: chunks of 200, of streams
without a change and after one. The package lives in an environment of its own, made when needed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import environments
from benchmarks.alarm_streams import (
    CHUNK_ROWS,
    DAYS,
    DELAY_RATE,
    LONGEST_DELAY,
    SOURCES,
    SPLITS,
    drawn_rows,
    scored,
    tallies_of,
    three_deviations,
)
from benchmarks.alarms_report import RATES, delay_of, share_of
from benchmarks.detectors import Windows
from benchmarks.machine import facts, say
from benchmarks.streams import CHANGES, by_cycle, quiet

RESULT = Path(__file__).with_name("results") / "nannyml.md"
PEER = Path(__file__).with_name("peers") / "nannyml_chunks.py"
REQUIREMENTS = ("nannyml==0.13.1", "statsmodels")  # which it imports and does not ask for

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Rows that both see.

    Attributes:
        name: of the stream.
        reference, rows: (rows, columns) each.
        ours: rows until the rule of `alarms.md` has an alarm; None: it has none.
    """

    name: str
    reference: Floats
    rows: Floats
    ours: int | None


def main() -> None:
    """Draw, ask, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nannyml_rule", description=__doc__)
    parser.add_argument("--quiet", type=int, default=8, help="streams without a change, each rate")
    parser.add_argument("--changes", type=int, default=20, help="streams of each change")
    parser.add_argument("--output", type=Path, default=RESULT, help="the Markdown file to write")
    given = parser.parse_args()
    environment = environments.make(environments.FOLDER / "nannyml", REQUIREMENTS)
    if isinstance(environment, str):
        sys.exit(f"NannyML does not install: {environment}")
    lines = [
        "# NannyML itself",
        "",
        "Made by `python -m benchmarks.nannyml_rule`, in which stands how: alarms of the package",
        "(univariate drift, Jensen-Shannon, mean and three deviations, chunks of 200 rows), and",
        "those of its rule as [alarms.md](alarms.md) has it.",
        "",
        *(f"- {fact}" for fact in facts(("numpy",))),
        f"- {', '.join(REQUIREMENTS)}",
        "",
        f"Share of streams of {DAYS} days without a change that have an alarm; median / 90 % of",
        "the rows after a change until there is one (streams with none in a day):",
        "",
        "| rows | stream | the package | its rule in alarms.md |",
        "|---|---|---:|---:|",
    ]
    for source in (name for name, make in SOURCES.items() if make() is not None):
        for rate in RATES:
            say(f"{source}, {rate} rows a cycle")
            both = ask(environment, quiet_streams(source, rate, given.quiet))
            lines.append(_line(source, f"quiet, {rate} a cycle", both, share_of_alarms))
        for change in CHANGES:
            say(f"{source}, {change}")
            both = ask(environment, changed_streams(source, change, given.changes))
            lines.append(_line(source, change, both, delay_of))
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


Both = Sequence[tuple[int | None, int | None]]
"""Of each stream, rows until the package has an alarm, and until the rule has one."""


def share_of_alarms(first: Sequence[int | None]) -> str:
    """Of streams, with the number of them and the upper bound."""
    return share_of([each is not None for each in first])


def _line(source: str, what: str, both: Both, shown: Callable[[Sequence[int | None]], str]) -> str:
    package, rule = zip(*both, strict=True)
    return f"| {source} | {what} | {shown(package)} | {shown(rule)} |"


def quiet_streams(source: str, rate: int, streams: int) -> Iterator[Stream]:
    """Those of `benchmarks.alarms`, of so many rows in a cycle."""
    for seed in range(streams):
        split = seed % SPLITS
        reference, population = scored(source, split)
        tallies = tallies_of(source, split)
        rows = drawn_rows(tallies, "quiet", rate, seed)
        ours = _first(source, split, by_cycle(tallies.rows, rows, rate), rate, None)
        yield Stream(f"quiet-{seed}", reference, population[rows], ours)


def changed_streams(source: str, change: str, streams: int) -> Iterator[Stream]:
    """A day of rows after a change, of the column that changed."""
    column_name, changed = CHANGES[change]
    for seed in range(streams):
        split = seed % SPLITS
        tallies = tallies_of(source, split)
        column = tallies.source.columns.index(column_name)
        random = np.random.default_rng([seed, 1000])
        population = tallies.source.changed(changed, seed)
        rows = quiet(len(tallies.rows), LONGEST_DELAY * DELAY_RATE, random)
        counted = by_cycle(tallies.of(population), rows, DELAY_RATE)
        ours = _first(source, split, counted, DELAY_RATE, column)
        reference = tallies.source.reference[:, [column]]
        yield Stream(f"change-{seed}", reference, population[rows][:, [column]], ours)


def _first(
    source: str, split: int, counted: NDArray[np.int64], rate: int, column: int | None
) -> int | None:
    """Rows until a chunk is beyond three deviations, in one column or in any."""
    length = max(CHUNK_ROWS // rate, 1)
    ends, chunks = Windows(tallies_of(source, split)).statistics(counted, length, every=length)
    beyond = chunks["js"] > three_deviations(source, split)
    alarms = beyond.any(axis=1) if column is None else beyond[:, column]
    return int(ends[np.argmax(alarms)]) * rate if alarms.any() else None


def ask(environment: Path, streams: Iterator[Stream]) -> Both:
    """The package, of all streams."""
    ours: dict[str, int | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for stream in streams:
            ours[stream.name] = stream.ours
            file = Path(folder) / f"{stream.name}.npz"
            np.savez(file, reference=stream.reference, values=stream.rows)
        answer = Path(folder) / "answer.json"
        python = environment / "bin" / "python"
        command = [str(each) for each in (python, PEER, folder, CHUNK_ROWS, answer)]
        switched_off = {"NML_DISABLE_USAGE_LOGGING": "1"}
        subprocess.run(command, check=True, env={**os.environ, **switched_off})
        found: Mapping[str, int | None] = json.loads(answer.read_text(encoding="utf-8"))["found"]
    return [(found[name], first) for name, first in ours.items()]


if __name__ == "__main__":
    main()
