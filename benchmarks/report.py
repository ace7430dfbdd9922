"""What the serving benchmark found, as ratios with their targets and as one table."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.load import Load, Measured
from benchmarks.machine import facts
from benchmarks.servers import MODELS
from benchmarks.targets import RATIOS, Target

RATE = 2_000
BATCH_ROWS = 10_000
ONE, SOME, MANY, OPEN = Load(1), Load(32), Load(256), Load(256, RATE)
OS, FSYNC = "monitorkit, os", "monitorkit, fsync"
BETWEEN, CYCLES = "monitorkit, os, 1 M rows", "monitorkit, os, 1 M rows, cycles"
BATCH = "monitorkit, batches of 10,000"
BARE = "Starlette + pydantic"


@dataclass
class Results:
    """What was measured: by round, model, server and load; and what is wrong with any of it."""

    runs: dict[tuple[str, str, Load], dict[int, Measured]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    rows: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    cycles: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


HEAD = """# Serving

Made by `python -m benchmarks.serving`; what it measures and how stands in `benchmarks/serving.py`.
Every request carries one row, 2,000 different ones in turn, and is answered with 200 unless a note
says otherwise. A forest scores with one thread everywhere but in the pandas service, which keeps
the `n_jobs=-1` that tutorials train it with. With and without cycles is measured in turn on one
service whose log has a million rows, several times a round; each pair gives a ratio, and every
other one begins with cycles.
"""
TABLE = """
## Everything

Medians over the rounds. Times in milliseconds; CPU is processor time for each request over all
processes of the server, memory their proportional set size. A load that a server cannot keep up
with is left out.

| server | model | load | requests/s | p50 | p99 | p99.9 | CPU us | MiB | rows - answers |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|"""
COLUMNS = ("per_second", "p50", "p99", "p999", "cpu", "memory")


def targets(results: Results) -> list[Target]:
    """The ratios of issue and README, round by round."""
    found: list[Target] = []

    def ratios(
        model: str, over: tuple[str, Load], under: tuple[str, Load], what: str = "per_second"
    ) -> list[float]:
        above = results.runs.get((over[0], model, over[1]), {})
        below = results.runs.get((under[0], model, under[1]), {})
        return [
            getattr(above[n], what) / getattr(below[n], what)
            for n in sorted(set(above) & set(below))
            if getattr(below[n], what)
        ]

    bounds = dict(zip(MODELS, (0.75, 0.70, 0.60), strict=True))
    found += [
        Target(
            f"requests/s at 32 connections, {model} / {BARE}",
            bounds[model],
            above=True,
            values=ratios(model, (OS, SOME), (BARE, SOME)),
        )
        for model in MODELS
    ]
    for peer, bound in (("mlflow models serve", 40), ("LitServe, batching", 8), ("BentoML", 20)):
        found += [
            Target(
                f"requests/s at 32 connections, {model} / {peer}",
                bound,
                above=True,
                values=ratios(model, (OS, SOME), (peer, SOME)),
            )
            for model in MODELS
        ]
    append = "FastAPI + pandas append"
    for model, bound in zip(MODELS, (20, 20, 300), strict=True):
        values = ratios(model, (OS, SOME), (append, SOME))
        what = f"requests/s at 32 connections, {model} / {append}"
        found.append(Target(what, bound, above=True, values=values))
    for model in MODELS:
        found += [
            Target(
                f"p99 at 32 connections, {model} / {BARE}",
                2,
                above=False,
                values=ratios(model, (OS, SOME), (BARE, SOME), "p99"),
            ),
            Target(
                f"p50 of a single connection, {model} / {BARE}",
                2.5,
                above=False,
                values=ratios(model, (OS, ONE), (BARE, ONE), "p50"),
            ),
            Target(
                f"p99 at 32 connections, {model}, cycles back to back on 1 M rows / without",
                1.5,
                above=False,
                values=ratios(model, (CYCLES, SOME), (BETWEEN, SOME), "p99"),
            ),
            Target(
                f"p99 at {RATE:,} requests/s, {model}, cycles back to back / without",
                1.5,
                above=False,
                values=ratios(model, (CYCLES, OPEN), (BETWEEN, OPEN), "p99"),
            ),
            Target(
                f"requests/s at 256 connections, {model}, fsync / os",
                0.5,
                above=True,
                values=ratios(model, (FSYNC, MANY), (OS, MANY)),
            ),
            Target(
                f"rows/s in batches of 10,000, one client / single rows at 32 connections, {model}",
                10,
                above=True,
                values=[BATCH_ROWS * value for value in ratios(model, (BATCH, ONE), (OS, SOME))],
            ),
        ]
    # Ours alone: a slow peer may log rows for which the generator no longer waited.
    ours = [
        counts for (server, _), counts in results.rows.items() if server.startswith("monitorkit")
    ]
    worst = [float(max(abs(n) for counts in ours for n in counts))] if ours else []
    what = "rows in monitorkit's log - answers given, any run"
    found.append(Target(what, 0, above=False, values=worst))
    return found


def report(results: Results, rounds: int, seconds: float) -> str:
    """The result as Markdown."""
    lines = [HEAD, *(f"- {fact}" for fact in facts())]
    lines.append(f"- {rounds} round(s) of {seconds:g} s for each line")
    lines.append(f"- cycles completed while the service was driven: {sum(results.cycles)}")
    lines.append(RATIOS)
    lines += [target.row() for target in targets(results)]
    lines.append(TABLE)
    for (server, model, load), measured in results.runs.items():
        runs = list(measured.values())
        numbers = [statistics.median(getattr(m, name) for m in runs) for name in COLUMNS]
        missing = results.rows.get((server, model))
        rows = "-" if missing is None else ", ".join(sorted({str(n) for n in missing}))
        speed, p50, p99, p999, cpu, memory = numbers
        lines.append(
            f"| {server} | {model} | {load} | {speed:,.0f} | {p50:.2f} | {p99:.2f} | {p999:.2f} "
            f"| {cpu:,.0f} | {memory / 2**20:,.0f} | {rows} |"
        )
    if results.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in results.notes)]
    return "\n".join(lines) + "\n"
