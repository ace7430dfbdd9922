"""What a soak found: trends of memory and open files, counts, and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import theilslopes

from benchmarks.machine import facts

MIB = 2**20
SETTLE_SHARE = 1 / 3
"""Of a life: libraries are loaded, the first cycles run, the allocator finds its size."""

GROWTH = 0.05
"""More of the median in what is left of the life is a leak."""

FILES = 3.0
HEAD = """Made by `python -m benchmarks.soak`, in which stands how: a day's cycles, reloads,
restarts and faults in {:g} minutes, without Evidently. Trends are those of the longest life after
its first third: the Theil-Sen slope times the time, with its 95 % interval."""

COLOURS = {
    "kill": "tab:red",
    "stop": "tab:orange",
    "reload": "tab:green",
    "disk full": "tab:purple",
    "registry away": "tab:brown",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service.

    Attributes:
        at: seconds since the beginning.
        life: which start of it.
        rss: bytes of the service process.
        tree: bytes of it and its workers.
        files: open descriptors of the service process.
        answered: rows so far.
    """

    at: float
    life: int
    rss: int
    tree: int
    files: int
    answered: int


@dataclass(frozen=True, slots=True)
class Trend:
    """A quantity in the longest life, after it has settled.

    Attributes:
        median: of it.
        growth: the Theil-Sen slope times the time, in the quantity's unit.
        interval: 95 % of that.
        seconds: how long that was.
    """

    median: float
    growth: float
    interval: tuple[float, float]
    seconds: float


@dataclass
class Soaked:
    """What was found."""

    minutes: float
    seed: int
    small_disk: bool = False
    samples: list[Sample] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    run_ids: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    delivered: list[str] = field(default_factory=list)
    answered: int = 0
    logged: int = 0
    cut: int = 0
    checks: int = 0
    segments: int = 0

    def count_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """By name."""
        for event in events:
            self.events[event["event"]] += 1

    def trend(self, what: str) -> Trend:
        """Of `rss`, `tree` or `files`."""
        lives = Counter(sample.life for sample in self.samples)
        longest = lives.most_common(1)[0][0]
        ours = [sample for sample in self.samples if sample.life == longest]
        ours = ours[int(len(ours) * SETTLE_SHARE) :]
        at = np.array([sample.at for sample in ours])
        values = np.array([float(getattr(sample, what)) for sample in ours])
        slope, _, low, high = theilslopes(values, at)
        seconds = float(at[-1] - at[0])
        return Trend(
            float(np.median(values)),
            float(slope) * seconds,
            (float(low) * seconds, float(high) * seconds),
            seconds,
        )

    @property
    def flat(self) -> bool:
        """Whether neither memory nor open files grow."""
        rss, tree, files = (self.trend(what) for what in ("rss", "tree", "files"))
        return (
            rss.growth < GROWTH * rss.median
            and tree.growth < GROWTH * tree.median
            and files.growth < FILES
        )


def report(soaked: Soaked, folder: Path) -> None:
    """Write soak.md and soak.png."""
    picture(soaked).savefig(folder / "soak.png", dpi=110)
    (folder / "soak.md").write_text("\n".join(text(soaked)) + "\n", encoding="utf-8")


def text(soaked: Soaked) -> list[str]:
    """The result as Markdown lines."""
    faults = Counter(what for _, what in soaked.faults)
    statuses = ", ".join(f"{n:,} x {status}" for status, n in sorted(soaked.statuses.items()))
    full = "" if soaked.small_disk else " (no small disk could be mounted here)"
    lines = [
        "# The soak",
        "",
        HEAD.format(soaked.minutes),
        "",
        *(f"- {fact}" for fact in facts()),
        f"- seed {soaked.seed}",
        "",
        "| | |",
        "|---|---:|",
        f"| rows answered | {soaked.answered:,} |",
        f"| rows in the log | {soaked.logged:,} |",
        "| answered rows lost | 0 |",
        "| rows there twice | 0 |",
        f"| checks of all that | {soaked.checks} |",
        f"| answers by status | {statuses} |",
        f"| requests cut off by a kill, or while it was starting | {soaked.cut:,} |",
        *(f"| {what}{full if what == 'disk full' else ''} | {faults[what]} |" for what in COLOURS),
        f"| models loaded | {soaked.events['model_loaded']} |",
        f"| segments | {soaked.segments} |",
        f"| cycles with a result | {soaked.events['cycle_completed']} |",
        f"| cycles that failed | {soaked.events['cycle_failed']} |",
        f"| results delivered to MLflow | {soaked.events['result_delivered']} |",
        f"| deliveries that failed and were made up for | {soaked.events['sink_failed']} |",
        f"| starts, longest | {len(soaked.starts)}, {max(soaked.starts):.1f} s |",
        "",
        "| in the longest life | median | trend over it | 95 % | seconds | flat |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for what, name, unit, limit in (
        ("rss", "memory of the service, MiB", MIB, None),
        ("tree", "memory with its workers, MiB", MIB, None),
        ("files", "open files of the service", 1, FILES),
    ):
        trend = soaked.trend(what)
        most = GROWTH * trend.median if limit is None else limit
        lines.append(
            f"| {name} | {trend.median / unit:.1f} | {trend.growth / unit:+.2f} | "
            f"{trend.interval[0] / unit:+.2f} to {trend.interval[1] / unit:+.2f} | "
            f"{trend.seconds:.0f} | {'yes' if trend.growth < most else '**no**'} |"
        )
    lines += [
        "",
        f"Flat: less than {GROWTH:.0%} of the median, and less than {FILES:g} files.",
        "",
        "![memory, open files and answered rows over time](soak.png)",
    ]
    return lines


def picture(soaked: Soaked) -> Figure:
    """Memory, open files and answered rows over time, with what happened."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    memory, files, rows = figure.subplots(3, sharex=True)
    at = [sample.at / 60 for sample in soaked.samples]
    memory.plot(at, [s.tree / MIB for s in soaked.samples], label="service and workers", lw=1)
    memory.plot(at, [s.rss / MIB for s in soaked.samples], label="service", lw=1)
    memory.set_ylabel("resident memory, MiB")
    memory.set_ylim(bottom=0)
    memory.legend(loc="lower right")
    files.plot(at, [s.files for s in soaked.samples], lw=1)
    files.set_ylabel("open files")
    files.set_ylim(bottom=0)
    rows.plot(at, [s.answered / 1000 for s in soaked.samples], lw=1)
    rows.set_ylabel("answered rows, thousands")
    rows.set_xlabel("minutes")
    known: set[str] = set()
    for moment, what in soaked.faults:
        for axes in (memory, files, rows):
            label = what if axes is rows and what not in known else None
            axes.axvline(moment / 60, color=COLOURS[what], lw=0.7, alpha=0.6, label=label)
        known.add(what)
    if known:
        rows.legend(loc="upper left", ncols=len(known))
    figure.suptitle(f"A day in {soaked.minutes:g} minutes, seed {soaked.seed}")
    return figure
