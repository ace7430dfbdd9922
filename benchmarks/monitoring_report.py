"""What the monitoring benchmark found: ratios with their targets, growth, and everything."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

from benchmarks.growth import Series
from benchmarks.machine import facts
from benchmarks.targets import RATIOS, Target
from benchmarks.trials import Trial
from benchmarks.workspaces import HUNDRED, NEW_ROWS, TEN, monitors

LIBRARIES = ("numpy", "pyarrow", "scipy", "distributed")
LOCAL, PROCESS = "local", "process"
DASK_1, DASK_2 = "dask, 1 worker", "dask, 2 workers"
EVIDENTLY, NANNYML, WHYLOGS = "Evidently", "NannyML", "whylogs"
PYARROW = "pyarrow"
SERIES = (LOCAL, PROCESS, DASK_1, DASK_2, EVIDENTLY, NANNYML, WHYLOGS)
EXACT = {
    "ks": "Kolmogorov-Smirnov",
    "psi": "population stability",
    "jensen_shannon": "Jensen-Shannon",
    "chi_square": "chi-square",
}

HEAD = """# Monitoring

Made by `python -m benchmarks.monitoring`; what it measures and how stands in
`benchmarks/monitoring.py`. A cycle reads the whole log, sums it up, judges with the monitors of the
default configuration but Evidently's ({monitors}; chi_square with `min_expected = 0`, so that its
categories are scipy's) and commits its result. Where all of it is new to an engine that runs, this
has judged 1,500 other rows before, as a service has; a new engine loads the reference first. Peers
have that, too, before their time begins; they read the log's features
with pandas and then work on rows in memory. What is imported once is in no time, but all of it is
in the memory. All rows lie within the look-back of a day, most logs' all over it; what a busy
service finds between two cycles came within five minutes.
"""
TASKS = {
    "again": f"{NEW_ROWS:,} new rows",
    "cycle": "the whole log",
    "running": "the whole log, new to an engine that runs",
    "busy": "a log of five minutes, new to an engine that runs",
}
NO_ROW = ("exactness", "sharing")
GROWTH = """
## Growth

The slope of log(cost) over log(rows) in the largest decade of rows that was measured: 1 is
proportional to rows, 0 constant.

| engine | columns | rows | time | peak memory | bytes read |
|---|---:|---:|---:|---:|---:|"""
TABLE = """
## Everything

Medians over the rounds; a hundred columns, and peers beyond a million rows, have one. `seconds`
is the work with its reading, `in memory` the work alone where the two can be told apart. Memory is
the peak of resident memory, summed over the processes of a run, interpreter and libraries included;
MB read are those of every read of a file (`rchar`) in that time.

| engine | what | columns | rows | seconds | in memory | CPU s | MiB | MB read |
|---|---|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows.

    Attributes:
        rows: of each history of ten columns, and `wide` of each one of a hundred.
        base: where peers are compared in every round.
        old: that were there before a cycle with new rows.
        huge: the most.
        peers: peers see no more; more than `base` in the first round only.
    """

    rows: tuple[int, ...]
    wide: tuple[int, ...]
    base: int
    old: int
    huge: int
    peers: int

    def upto(self, most: int) -> Sizes:
        """The same without histories of more rows."""
        rows = tuple(number for number in self.rows if number <= most) or self.rows[:1]
        wide = tuple(number for number in self.wide if number <= most)
        base, old, huge, peers = (
            min(number, rows[-1]) for number in (self.base, self.old, self.huge, self.peers)
        )
        return Sizes(rows, wide, base, old, huge, peers)


FULL = Sizes(
    rows=(1_000, 10_000, 100_000, 1_000_000, 10_000_000, 30_000_000),
    wide=(1_000, 10_000, 100_000, 1_000_000),
    base=1_000_000,
    old=10_000_000,
    huge=30_000_000,
    peers=10_000_000,
)
QUICK = Sizes(
    rows=(1_000, 10_000, 100_000, 1_000_000),
    wide=(1_000, 10_000),
    base=100_000,
    old=1_000_000,
    huge=1_000_000,
    peers=100_000,
)


@dataclass(frozen=True, slots=True)
class Run:
    """What was run: an engine or a peer, its task, and on how much."""

    engine: str
    task: str
    rows: int
    columns: int = TEN


@dataclass
class Results:
    """What was measured, by run and round; the versions of peers; and what went wrong."""

    sizes: Sizes
    trials: dict[Run, dict[int, Trial]] = field(default_factory=lambda: defaultdict(dict))
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def values(self, run: Run, value: Callable[[Trial], float]) -> dict[int, float]:
        """A number of each round of a run."""
        return {number: value(trial) for number, trial in self.trials.get(run, {}).items()}

    def ratios(
        self,
        over: Run,
        under: Run,
        value: Callable[[Trial], float],
        below: Callable[[Trial], float] | None = None,
    ) -> list[float]:
        """A number of one run by a number of another one, of the same round."""
        above, beneath = self.values(over, value), self.values(under, below or value)
        both = sorted(set(above) & set(beneath))
        return [above[number] / beneath[number] for number in both if beneath[number]]


def in_memory(trial: Trial) -> float:
    """Seconds of the work on rows that are in memory."""
    return trial.parts["work"].seconds


def one_of_many(trial: Trial) -> float:
    """The median of the cycles of `again`."""
    return float(statistics.median(trial.facts["every"]))


def scaling(trial: Trial) -> float:
    """How much more two that share the machine do together than one of them alone."""
    return 2 * trial.parts["alone"].seconds / trial.parts["together"].seconds


def seconds(trial: Trial) -> float:
    """Of the work with its reading."""
    return trial.seconds


def memory(trial: Trial) -> float:
    """The peak in bytes."""
    return float(trial.memory)


def targets(results: Results) -> list[Target]:
    """The ratios of the issue, round by round."""
    sizes, base = results.sizes, Run(LOCAL, "cycle", results.sizes.base)
    evidently, nannyml, whylogs = (
        Run(peer, "cycle", sizes.base) for peer in (EVIDENTLY, NANNYML, WHYLOGS)
    )
    rows, old = f"{sizes.base:,} rows", f"{sizes.old:,}"
    found = [
        Target(
            f"NannyML's KS + JS / ours, rows in memory for both, {rows}",
            1.5,
            above=True,
            values=results.ratios(nannyml, Run(LOCAL, "arrays, features", sizes.base), in_memory),
        ),
        Target(
            f"whylogs' profile / all our statistics, rows in memory for both, {rows}",
            10,
            above=True,
            values=results.ratios(whylogs, Run(LOCAL, "arrays, all", sizes.base), in_memory),
        ),
    ]
    for engine in (LOCAL, PROCESS):
        found += [*_new_rows(results, engine, "running"), *_new_rows(results, engine, "busy")]
        found += [
            Target(
                f"peak memory of our cycle / Evidently's, {rows}, {engine}",
                0.25,
                above=False,
                values=results.ratios(Run(engine, "cycle", sizes.base), evidently, memory),
            ),
        ]
    found += [
        Target(
            f"cycle with {NEW_ROWS:,} new rows after {old} / after none, {engine}",
            1.2,
            above=False,
            values=results.ratios(
                Run(engine, "again", sizes.old), Run(engine, "again", 0), one_of_many
            ),
        )
        for engine in (LOCAL, PROCESS)
    ]
    if sizes.huge > sizes.base:
        huge = Run(LOCAL, "cycle", sizes.huge)
        what = f"peak memory of a cycle over {sizes.huge:,} rows / over {rows}"
        values = results.ratios(huge, base, memory)
        found.append(Target(what, 1.2, above=False, values=values))
    many = Run(LOCAL, "cycle", sizes.old)
    parsing = Run(PYARROW, "parsing", sizes.old)
    found += [
        Target(
            f"rows/s per core, our cycle / pyarrow that just parses, {old} rows",
            0.3,
            above=True,
            values=results.ratios(parsing, many, lambda trial: trial.cpu),
        ),
        Target(
            f"rows/s, Dask with 2 workers / with 1, {old} rows",
            1.7,
            above=True,
            values=results.ratios(
                Run(DASK_1, "running", sizes.old), Run(DASK_2, "running", sizes.old), seconds
            ),
        ),
        Target(
            f"the same of two processes that just parse {old} rows each, and of one",
            1.7,
            above=True,
            values=list(results.values(Run(PYARROW, "sharing", sizes.old), scaling).values()),
        ),
    ]
    for engine in (LOCAL, PROCESS):
        restarts = results.values(Run(engine, "restart", sizes.old), lambda t: t.lasted)
        what = (
            f"seconds from a restart after {old} rows to a cycle with {NEW_ROWS:,} more, {engine}"
        )
        found.append(Target(what, 2, above=False, values=list(restarts.values())))
    without = results.values(
        Run(LOCAL, "restart", sizes.old), lambda t: t.lasted - t.facts["importing"]
    )
    what = f"the same without import statements, {LOCAL}"
    found.append(Target(what, 2, above=False, values=list(without.values())))
    exact = results.trials.get(Run(LOCAL, "exactness", sizes.base), {})
    found += [
        Target(
            f"largest difference from scipy or numpy on the rows, {name}",
            1e-12,
            above=False,
            values=[trial.facts[measure] for trial in exact.values()],
            form=".1e",
        )
        for measure, name in EXACT.items()
    ]
    return found


def _new_rows(results: Results, engine: str, task: str) -> list[Target]:
    """Our cycle that finds rows to be new beside what peers make of the same rows."""
    base = results.sizes.base
    ours, log = Run(engine, task, base), "cycle" if task == "running" else task
    evidently, whylogs = (Run(peer, log, base) for peer in (EVIDENTLY, WHYLOGS))
    came = "a whole day's" if task == "running" else "five minutes'"
    cycle = f"our cycle that finds them new, from the log to the result, {base:,} rows, {came}"
    return [
        Target(
            f"Evidently's preset, rows in memory / {cycle}, {engine}",
            20,
            above=True,
            values=results.ratios(evidently, ours, in_memory, seconds),
        ),
        Target(
            f"Evidently's preset with reading the log / {cycle}, {engine}",
            20,
            above=True,
            values=results.ratios(evidently, ours, seconds),
        ),
        Target(
            f"whylogs' profile with reading the log / {cycle}, {engine}",
            10,
            above=True,
            values=results.ratios(whylogs, ours, seconds),
        ),
    ]


def series(results: Results) -> list[Series]:
    """What each engine and peer took, by rows."""
    found = []
    for columns in (TEN, HUNDRED):
        for engine in SERIES:
            points = {
                run.rows: (
                    _median(trials, seconds),
                    _median(trials, memory) / 2**20,
                    _median(trials, lambda trial: trial.bytes_read) / 1e6,
                )
                for run, trials in results.trials.items()
                if (run.engine, run.task, run.columns) == (engine, "cycle", columns)
            }
            if points:
                found.append(Series(engine, columns, points))
    return found


def report(results: Results, rounds: int, plot: str) -> str:
    """The result as Markdown, with the plot of that file name."""
    libraries = [name for name in LIBRARIES if find_spec(name)]
    names = ", ".join(entry["use"] for entry in monitors())
    lines = [HEAD.format(monitors=names), f"![Seconds and memory over rows]({plot})", ""]
    lines += [f"- {fact}" for fact in facts(libraries)]
    peers = ", ".join(f"{name} {version}" for name, version in sorted(results.versions.items()))
    lines.append(f"- beside it: {peers or 'no peers'}")
    lines.append(f"- {rounds} round(s)")
    lines.append(RATIOS)
    lines += [target.row() for target in targets(results)]
    lines.append(GROWTH)
    for each in series(results):
        largest = max(each.points)
        smallest = min(rows for rows in each.points if rows * 10 >= largest)
        slopes = " | ".join(_shown(each.exponent(which)) for which in range(3))
        lines.append(f"| {each.name} | {each.columns} | {smallest:,}-{largest:,} | {slopes} |")
    lines.append(TABLE)
    lines += [_row(run, trials) for run, trials in _ordered(results) if run.task not in NO_ROW]
    if results.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in results.notes)]
    return "\n".join(lines) + "\n"


def _ordered(results: Results) -> list[tuple[Run, dict[int, Trial]]]:
    tasks = list(dict.fromkeys(run.task for run in results.trials))
    names = (*SERIES, PYARROW)
    return sorted(
        results.trials.items(),
        key=lambda item: (
            item[0].columns,
            tasks.index(item[0].task),
            names.index(item[0].engine),
            item[0].rows,
        ),
    )


def _row(run: Run, trials: dict[int, Trial]) -> str:
    many = all("every" in trial.facts for trial in trials.values())
    took = _median(trials, one_of_many if many else seconds)
    split = all("work" in trial.parts for trial in trials.values())
    alone = _shown(_median(trials, in_memory), 3) if split else "-"
    what = TASKS.get(run.task, run.task)
    cpu, peak = _median(trials, lambda trial: trial.cpu), _median(trials, memory) / 2**20
    read = _median(trials, lambda trial: trial.bytes_read) / 1e6
    return (
        f"| {run.engine} | {what} | {run.columns} | {run.rows:,} | {took:.3f} | {alone} "
        f"| {cpu:.2f} | {peak:,.0f} | {read:,.1f} |"
    )


def _median(trials: dict[int, Trial], value: Callable[[Trial], float]) -> float:
    return statistics.median(value(trial) for trial in trials.values())


def _shown(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
