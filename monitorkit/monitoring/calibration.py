"""What a monitor can see before it sees anything: quiet days from the reference, and small shifts.

Rows are drawn from the frozen reference at the rate of the real traffic and go through the same
ladder, summaries, merges and judgement as those of the log. The reference itself is a sample, so
each quiet day draws from another one of its size (the bootstrap).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitorkit import durable, progress, tables
from monitorkit.config import Config
from monitorkit.contracts import SCORE_COLUMN, Chunk, Finding, RunResult, Timeline
from monitorkit.errors import CalibrationError, MonitorkitError, told
from monitorkit.monitoring.ladder import Ladder
from monitorkit.monitoring.merges import Merges
from monitorkit.monitoring.monitors import AnyMonitor, Monitors
from monitorkit.monitoring.timeline import Track
from monitorkit.results import Results
from monitorkit.units import format_duration, several

HORIZONS = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))
DAY = timedelta(days=1)
MONTH = timedelta(days=30)
VERSION = "calibration"

SHORTEST_TRAFFIC = timedelta(hours=1)
"""Rows that came in less time are taken for all of an hour."""

STRONGEST = 24.0
"""Of a shift: the largest value is then e**24 times as frequent as the smallest one."""

_BISECTIONS = 7
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Seen:
    """The smallest shift of a column that is found within some time.

    Attributes:
        within: the time.
        distance: Kolmogorov and Smirnov's, from the reference.
        before, after: the column's mean.
    """

    within: timedelta
    distance: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found.

    Attributes:
        monitor: its name.
        rows_a_day: of the traffic.
        days: quiet ones; `cycles` were judged in them.
        alarms: in these days: how long after their beginning, and of which column.
        seen: by column, for each of `HORIZONS`; None: not the strongest shift.
    """

    monitor: str
    rows_a_day: float
    days: int
    cycles: int
    alarms: Sequence[tuple[timedelta, str]]
    seen: Mapping[str, Sequence[Seen | None]]

    def alarms_a_month(self) -> tuple[float, float]:
        """How many false alarms are expected, and at most, at 95 %.

        References:
            F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936).
        """
        from scipy.special import gammaincinv  # noqa: PLC0415 - takes 0.1 s

        months = self.days * DAY / MONTH
        most = float(gammaincinv(len(self.alarms) + 1, 0.95))
        return len(self.alarms) / months, most / months


def run(
    config: Config, *, monitor: str | None, days: int, rows_a_day: float | None, seed: int,
    output: Path | None,
) -> Calibration:  # fmt: skip
    """Calibrate a monitor, print what was found and draw it.

    Args:
        config: the whole configuration.
        monitor: its name; None: the one of `[monitoring.verdict]`.
        days: quiet ones, after a first look-back.
        rows_a_day: of the traffic; None: as in the newest result's window.
        seed: of the rows that are drawn.
        output: a PNG file to write.

    Raises:
        CalibrationError: there is no such monitor, nobody knows the traffic, or it is too little
            for a cycle to judge; the file is no PNG, or cannot be written.
        ReferenceProblem: the reference is missing or is not what was frozen.
    """
    if output is not None:
        _refuse_unwritable(output)
    name = monitor or config.monitoring.verdict.monitor
    monitors = Monitors(config)
    monitors.verify()
    if name not in {entry.name for entry in config.monitors}:
        known = ", ".join(entry.name for entry in config.monitors)
        raise CalibrationError(f"there is no monitor {name!r}", f"--monitor takes one of {known}")
    newest = Results(config.storage.results).latest()
    if rows_a_day is None:
        rows_a_day = None if newest is None else _traffic(newest)
        if rows_a_day is None:
            raise CalibrationError("no result says yet how many rows come", "give --rows-per-day")
    version = (newest and newest.window.model_version) or monitors.references.model_version
    with _blaming(name):
        made = monitors.get(version, name)
    trial = Trial(config, made, name, rows_a_day, seed)
    with progress.step("calibrate_quiet_days", monitor=name, days=days) as advance:
        cycles, alarms = trial.quiet(days, advance)
    if not cycles:
        problem = f"{rows_a_day:,.0f} rows a day are too few: no cycle had enough of them to judge"
        raise CalibrationError(problem, "look at min_rows and lookback, or give --rows-per-day")
    with progress.step("calibrate_shifts", monitor=name) as advance:
        seen = trial.smallest_shifts(advance)
    found = Calibration(name, rows_a_day, days, cycles, alarms, seen)
    show(found)
    if output is not None:
        draw(found, output)
    return found


@contextmanager
def _blaming(monitor: str) -> Iterator[None]:
    """Whatever a monitor raises is told of as its own."""
    try:
        yield
    except MonitorkitError:
        raise
    except Exception as error:
        problem = f"monitor {monitor!r} failed: {told(error)}"
        raise CalibrationError(problem, "see `monitorkit check-plugin`") from error


def _refuse_unwritable(output: Path) -> None:
    """Before the minute that it takes to find what is to be drawn there."""
    if output.suffix.lower() != ".png":
        problem = f"{output} does not end in .png, and the picture is a PNG file"
        raise CalibrationError(problem, "name a file that does with --output")
    if not output.parent.exists():
        raise CalibrationError(f"there is no folder {output.parent}", "make it, or name another")
    with _writing(output):
        durable.try_file(output)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"{file} cannot be written: {error.strerror or error}"
        raise CalibrationError(problem, "name another file with --output") from error


def _traffic(result: RunResult) -> float | None:
    """Rows a day, from the first one of the window on; None without any.

    Not to the last one: those of a nightly job all come within minutes.
    """
    first = result.window.first
    if first is None:
        return None
    return result.window.rows * (DAY / max(result.started_at - first, SHORTEST_TRAFFIC))


class Trial:
    """Cycles of one monitor over rows that are drawn from the reference."""

    def __init__(
        self, config: Config, monitor: AnyMonitor, name: str, rows_a_day: float, seed: int
    ) -> None:
        settings = config.monitoring
        entry = next(entry for entry in config.monitors if entry.name == name)
        self._lookback = entry.lookback or settings.lookback
        self._longest = max(self._lookback, settings.lookback)  # the gate has one of its own
        self._settings = settings
        self._monitor, self._name = monitor, name
        self._reference = monitor.reference
        self._rate = rows_a_day * (settings.interval / DAY)
        self._random = np.random.default_rng(seed)
        self._merges = Merges()
        self._track = Track()
        self._now = _BEGIN
        self._drawn = 0
        self._source = np.arange(len(self._reference))

    def quiet(
        self, days: int, advance: progress.Advance
    ) -> tuple[int, list[tuple[timedelta, str]]]:
        """Cycles that were judged in so many days after a first look-back, and their alarms."""
        cycles, alarms = 0, []
        begin = _BEGIN + self._longest
        end = begin + days * DAY
        findings: Sequence[Finding] = ()
        while self._now < end:
            if (self._now - _BEGIN) % DAY < self._settings.interval:
                self._source = self._random.integers(0, len(self._source), len(self._source))
            self._cycle(self._track, self._drawn_rows(None))
            if self._now <= begin:
                continue
            judged = self._judge(self._track, findings)
            if judged is None:
                continue
            cycles += 1
            before = _drifted(findings)
            after = self._now - begin
            alarms += [(after, column) for column in sorted(_drifted(judged) - before)]
            findings = judged
            advance((self._now - begin) / (end - begin))
        return cycles, alarms

    def smallest_shifts(self, advance: progress.Advance) -> dict[str, Sequence[Seen | None]]:
        """By column, for each horizon, after the quiet days."""
        columns = {
            name: values
            for name, values in zip(
                (*self._reference.columns, SCORE_COLUMN),
                (*self._reference.features.T, self._reference.scores),
                strict=True,
            )
            if np.unique(values[np.isfinite(values)]).size > 1
        }
        found: dict[str, Sequence[Seen | None]] = {}
        for done, (name, values) in enumerate(columns.items()):
            # A window is no longer than the look-back: more time shows no more.
            times = [min(within, self._lookback) for within in HORIZONS]
            smallest = {within: self._smallest(name, values, within) for within in set(times)}
            found[name] = [smallest[within] for within in times]
            advance((done + 1) / len(columns))
        return found

    def _smallest(self, name: str, values: NDArray[np.float64], within: timedelta) -> Seen | None:
        """By bisection of the strength, on a scale of ratios."""
        if not self._sees(name, values, within, STRONGEST):
            return None
        low, high = STRONGEST / 2**10, STRONGEST
        for _ in range(_BISECTIONS):
            middle = float(np.sqrt(low * high))
            low, high = (
                (low, middle) if self._sees(name, values, within, middle) else (middle, high)
            )
        return _shown(values, high, within)

    def _sees(
        self, name: str, values: NDArray[np.float64], within: timedelta, strength: float
    ) -> bool:
        """Whether a shift is found that began so long ago."""
        versions = self._track.versions.items()
        track = Track(versions={name: replace(it, kept=dict(it.kept)) for name, it in versions})
        now, drawn, chances = self._now, self._drawn, _chances(values, strength)
        try:
            while self._now < now + within:
                self._cycle(track, self._drawn_rows(chances))
            judged = self._judge(track, ())
        finally:
            self._now, self._drawn = now, drawn
        return judged is not None and name in _drifted(judged)

    def _drawn_rows(self, chances: NDArray[np.float64] | None) -> Chunk:
        """The rows of one cycle."""
        rows = int(self._random.poisson(self._rate))
        reference = self._reference
        if chances is None:
            numbers = self._source[self._random.integers(0, len(reference), rows)]
        else:
            numbers = self._random.choice(len(reference), rows, p=chances)
        length = self._settings.interval / timedelta(microseconds=1)
        after = np.sort(self._random.uniform(0, length, rows)).astype(np.int64)
        begin = np.datetime64(self._now.replace(tzinfo=None), "us")
        ids = np.arange(self._drawn, self._drawn + rows).astype(np.str_)
        self._drawn += rows
        return Chunk(
            ids,
            begin + after.astype("timedelta64[us]"),
            reference.columns,
            reference.features[numbers],
            reference.scores[numbers],
        )

    def _ladder(self) -> Ladder:
        settings = self._settings
        return Ladder(settings.bucket, settings.resolution, self._now, self._longest)

    def _cycle(self, track: Track, rows: Chunk) -> None:
        self._now += self._settings.interval
        ladder, monitor = self._ladder(), self._monitor
        with _blaming(self._name):
            track.add(VERSION, ladder.split(rows), ladder, monitor.summarise_each, monitor.merge)
        track.forget(ladder.first)

    def _judge(self, track: Track, previous: Sequence[Finding]) -> Sequence[Finding] | None:
        """The findings; None below the gate."""
        merge, ladder, until = self._monitor.merge, self._ladder(), self._now + self._longest
        looked_at = track.buckets(
            VERSION, self._now - self._settings.lookback, until, ladder, merge
        )
        if sum(bucket.rows for bucket in looked_at) < self._settings.min_rows:
            return None
        since = self._now - self._lookback
        buckets = track.buckets(VERSION, since, until, ladder, merge)
        if not buckets:  # what it found before stands
            return previous
        merged = partial(self._merges.merged, merge_all=self._monitor.merge_all)
        timeline = Timeline(buckets, self._now, merge, False, merged, self._settings.bucket, since)
        with _blaming(self._name):
            findings = self._monitor.judge(timeline, previous).findings
        self._merges.tidy()
        return findings


def _drifted(findings: Sequence[Finding]) -> set[str]:
    return {finding.column or finding.measure for finding in findings if finding.drift}


def _chances(values: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Of each row of the reference, when large values become more frequent: exp(strength * rank).

    No value is new, so that a column of whole numbers stays one.
    """
    weights = np.exp(strength * (_ranks(values) - 1))
    chances: NDArray[np.float64] = weights / weights.sum()
    return chances


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows,) in [0, 1], ties share theirs; a row without a value is in the middle."""
    there = np.isfinite(values)
    ordered = np.sort(values[there])
    first, last = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.where(there, (first + last) / 2 / max(ordered.size, 1), 0.5)


def _shown(values: NDArray[np.float64], strength: float, within: timedelta) -> Seen:
    there = np.isfinite(values)
    known, chances = values[there], _chances(values, strength)[there]
    chances /= chances.sum()
    order = np.argsort(known, kind="stable")
    ends = np.flatnonzero(np.diff(known[order], append=np.inf))
    up_to = np.cumsum(chances[order])[ends]
    distance = float(np.abs((ends + 1) / known.size - up_to).max())
    return Seen(within, distance, float(known.mean()), float(known @ chances))


def show(found: Calibration, console: Console | None = None) -> None:
    """Print it as a table."""
    console = console or tables.console()
    expected, most = found.alarms_a_month()
    console.print(
        f"{found.monitor} at {found.rows_a_day:,.0f} rows a day: "
        f"{several(len(found.alarms), 'false alarm')} in {several(found.days, 'quiet day')} "
        f"({several(found.cycles, 'cycle')}), so {expected:.2g} a month, at most "
        f"{most:.2g} at 95 %.",
        soft_wrap=True,
    )
    for after, column in found.alarms[:10]:
        hours, minutes = divmod(after.seconds // 60, 60)
        console.print(f"  {several(after.days, 'day')}, {hours:02}:{minutes:02}: {column}")
    console.print("The smallest shift of a mean that is found, and its distance:")
    names = [f"within {format_duration(within)}" for within in HORIZONS]
    table = Table("column", "mean", *names, box=None, pad_edge=False)
    for column, seen in found.seen.items():
        mean = next((f"{each.before:.4g}" for each in seen if each is not None), "")
        table.add_row(*map(Text, (column, mean, *(_cell(each) for each in seen))))
    console.print(table)


def _cell(seen: Seen | None) -> str:
    return "-" if seen is None else f"{seen.after:.4g} ({seen.distance:.2g})"


def draw(found: Calibration, file: Path) -> None:
    """Draw the distances as bars, into a PNG file.

    Raises:
        CalibrationError: it cannot be written.
    """
    # Takes half a second to import.
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    figure = Figure(figsize=(9, 0.5 * len(found.seen) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(found.seen))
    for number, within in enumerate(HORIZONS):
        column = [seen[number] for seen in found.seen.values()]
        lengths = [1.0 if each is None else each.distance for each in column]
        hatches = ["///" if each is None else "" for each in column]
        axes.barh(
            places + 0.27 * (number - 1),
            lengths,
            0.25,
            label=f"within {format_duration(within)}",
            hatch=hatches,
        )
    axes.set_yticks(places, list(found.seen))
    axes.invert_yaxis()
    axes.set_xlabel("smallest distance from the reference that is found (hatched: none is)")
    axes.set_title(f"{found.monitor} at {found.rows_a_day:,.0f} rows a day")
    axes.legend(loc="lower right")
    image = io.BytesIO()
    figure.savefig(image, dpi=120, format="png")
    with _writing(file):
        durable.replace_file(file, image.getvalue())
