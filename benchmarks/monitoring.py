"""What monitoring costs, from a thousand to thirty million rows, beside its peers.

`python -m benchmarks.monitoring` (about an hour; `--quick` takes some minutes) writes prediction
logs as the service does and runs one thing after the other over them, each in a process of its own:
our engines, and Evidently, NannyML and whylogs from virtual environments that are made on demand.
It writes `benchmarks/results/monitoring.md` and the plot beside it. Absolute numbers depend on the
machine and its neighbours; ratios are taken within a round, in which what is compared runs right
after each other on the same log, and the median round counts. What no ratio needs is measured in
the first round only: a hundred columns, and peers beyond a million rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import environments, growth, trials
from benchmarks.engines import ENGINES, why_not
from benchmarks.machine import say
from benchmarks.monitoring_report import (
    EVIDENTLY,
    FULL,
    LOCAL,
    NANNYML,
    PROCESS,
    PYARROW,
    QUICK,
    WHYLOGS,
    Results,
    Run,
    report,
    series,
)
from benchmarks.servers import PEERS
from benchmarks.trials import Trial, TrialFailed
from benchmarks.workspaces import HUNDRED, NEW_ROWS, NEW_SPAN, TEN, History, Workspace

RESULT = Path(__file__).with_name("results") / "monitoring.md"
OURS = (sys.executable, "-m", "benchmarks.cycles")


@dataclass(frozen=True, slots=True)
class Peer:
    """A library that is compared: its script, and what has to be installed for it."""

    script: str
    requirements: tuple[str, ...]


LIBRARIES = {
    EVIDENTLY: Peer("evidently_preset.py", ("evidently>=0.7.14,<0.8", "pandas<3.1")),
    NANNYML: Peer("nannyml_univariate.py", ("nannyml==0.13.1", "statsmodels")),
    WHYLOGS: Peer("whylogs_profile.py", ("whylogs==1.6.4", "numpy<2", "pandas<3", "scipy")),
}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is repeated")
    parser.add_argument("--max-rows", type=int, help="no history has more rows")
    parser.add_argument("--quick", action="store_true", help="one round with few rows")
    parser.add_argument("--output", type=Path, default=RESULT, help="the Markdown file to write")
    parser.add_argument(
        "--environments",
        type=Path,
        default=environments.FOLDER,
        help="where the peers are installed, each in its own virtual environment",
    )
    given = parser.parse_args()
    sizes, rounds = (QUICK, 1) if given.quick else (FULL, given.rounds)
    results = Results(sizes.upto(given.max_rows) if given.max_rows else sizes)
    peers = installed(given.environments.resolve(), results)
    with tempfile.TemporaryDirectory(prefix="monitorkit-benchmark-") as name:
        bench = Bench(Path(name).resolve(), peers, results)
        text = ""
        for number in range(rounds):
            bench.measure(number)
            given.output.parent.mkdir(exist_ok=True)
            plot = given.output.with_suffix(".png")
            growth.draw(series(results), plot)
            text = report(results, number + 1, plot.name)
            given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(f"\n{text}")


def installed(folder: Path, results: Results) -> dict[str, Path]:
    """The Python of each peer; those that do not install are told of."""
    found: dict[str, Path] = {}
    for name, peer in LIBRARIES.items():
        say(f"installing {name}")
        made = environments.make(folder / name.lower(), peer.requirements)
        if isinstance(made, Path):
            found[name] = made / "bin" / "python"
        else:
            results.notes.append(f"{name} did not install: {made}")
    return found


class Bench:
    """Workspaces, peers, and what was found."""

    def __init__(self, folder: Path, peers: Mapping[str, Path], results: Results) -> None:
        self._folder = folder
        self._peers = peers
        self._results = results
        self._engines = []
        for engine in ENGINES:
            reason = why_not(engine)
            if reason is None:
                self._engines.append(engine)
            else:
                say(f"{engine} is left out: {reason}")
                results.notes.append(f"{engine} was left out: {reason}.")
        self._workspaces: dict[int, Workspace] = {}
        self._warm: dict[int, History] = {}
        for columns in (TEN, HUNDRED) if results.sizes.wide else (TEN,):
            say(f"training a model of {columns} columns")
            workspace = Workspace(folder / str(columns), columns)
            self._workspaces[columns] = workspace

    def measure(self, number: int) -> None:
        """One round of everything; wide tables in the first one only."""
        for columns, workspace in self._workspaces.items():
            if columns != TEN and number:
                continue
            self._warm[columns] = workspace.history(NEW_ROWS, "warm")
            sizes = self._results.sizes
            for rows in sizes.rows if columns == TEN else sizes.wide:
                say(f"round {number + 1}: writing {rows:,} rows of {columns} columns")
                history = workspace.history(rows)
                self._engines_over(history, rows, columns, number)
                self._peers_over(history, rows, columns, number)
                history.remove()
                if columns == TEN and rows == sizes.base:
                    self._of_minutes(number)
        self._after_none(number)

    def _of_minutes(self, number: int) -> None:
        """As many rows as came between two cycles of a busy service."""
        rows = self._results.sizes.base
        say(f"round {number + 1}: writing {rows:,} rows of five minutes")
        history, warm = self._workspaces[TEN].history(rows, "busy", NEW_SPAN), self._warm[TEN]
        for engine in self._engines:
            if engine in (LOCAL, PROCESS):
                for each in (history, warm):
                    each.forget()
                run = Run(engine, "busy", rows)
                self._ours(run, number, "running", engine, history.config, warm.config)
        self._compared(history, Run("", "busy", rows), number)
        history.remove()

    def _engines_over(self, history: History, rows: int, columns: int, number: int) -> None:
        sizes = self._results.sizes
        for engine in self._engines:
            warm = self._warm[columns]
            compared = columns == TEN and rows in (sizes.base, sizes.old)
            for task in ("running", "cycle") if compared else ("cycle",):
                for each in (history, warm):
                    each.forget()
                run = Run(engine, task, rows, columns)
                done = self._ours(run, number, task, engine, history.config, warm.config)
                if done is not None and done.facts["rows"] != history.rows:
                    note = f"{run}: {done.facts['rows']:,} rows were judged, not {history.rows:,}."
                    self._results.notes.append(note)
            if columns == TEN and rows == sizes.base and engine == LOCAL:
                self._in_detail(history, number)
            if columns == TEN and rows == sizes.old and engine in (LOCAL, PROCESS):
                history.add_new()
                restart = Run(engine, "restart", rows)
                self._ours(restart, number, "restart", engine, history.config)
                self._again(history, Run(engine, "again", rows), number)
        if columns == TEN and rows == sizes.old:
            for task in ("parsing", "sharing"):
                self._ours(Run(PYARROW, task, rows), number, task, history.config)

    def _in_detail(self, history: History, number: int) -> None:
        """What is measured on one history only."""
        for which in ("features", "all"):
            run = Run(LOCAL, f"arrays, {which}", history.rows)
            self._ours(run, number, "arrays", history.config, which)
        run = Run(LOCAL, "exactness", history.rows)
        self._ours(run, number, "exactness", history.config)

    def _again(self, history: History, run: Run, number: int) -> None:
        material = self._folder / "new.npz"
        history.material.save(material, NEW_ROWS)
        done = self._ours(run, number, "again", run.engine, history.config, material)
        if done is not None:
            history.rows += NEW_ROWS * len(done.facts["every"])

    def _after_none(self, number: int) -> None:
        """New rows where there were none but a first handful."""
        for engine in self._engines:
            if engine in (LOCAL, PROCESS):
                history = self._workspaces[TEN].history(0, "empty")
                history.add_new()
                self._again(history, Run(engine, "again", 0), number)
                history.remove()

    def _peers_over(self, history: History, rows: int, columns: int, number: int) -> None:
        sizes = self._results.sizes
        base = sizes.base * TEN // columns
        if rows > sizes.peers * TEN // columns or (rows > base and number):
            return
        self._compared(history, Run("", "cycle", rows, columns), number)

    def _compared(self, history: History, run: Run, number: int) -> None:
        """What the peers make of a history."""
        for name, python in self._peers.items():
            command = [str(python), str(PEERS / LIBRARIES[name].script)]
            command += [str(history.predictions), str(history.reference)]
            done = self._run(replace(run, engine=name), number, command)
            if done is not None:
                self._results.versions[name] = done.facts["version"]
                if done.facts["rows"] != history.rows:
                    note = f"{name}: {done.facts['rows']:,} rows were read, not {history.rows:,}."
                    self._results.notes.append(note)

    def _ours(self, run: Run, number: int, task: str, *arguments: object) -> Trial | None:
        return self._run(run, number, [*OURS, task, *map(str, arguments)])

    def _run(self, run: Run, number: int, command: list[str]) -> Trial | None:
        what = f"{run.engine}, {run.task}, {run.rows:,} rows of {run.columns} columns"
        try:
            done = trials.run(command, self._folder / "answer.json")
        except TrialFailed as error:
            say(f"{what}: {error}")
            self._results.notes.append(f"{what}: {error}")
            return None
        self._results.trials[run][number] = done
        say(f"round {number + 1}: {what}: {done.seconds:.3f} s, {done.memory / 2**20:,.0f} MiB")
        return done


if __name__ == "__main__":
    main()
