"""Cycles over time: their plots, and the model versions that they judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise

from markupsafe import Markup

from monitorkit.dashboard import plots
from monitorkit.dashboard.formats import NOTHING, day_and_time, number, share
from monitorkit.dashboard.outlines import Outline
from monitorkit.units import several

SHOWN = 288
"""Cycles in the plots over time: a day of them, at one every five minutes."""

PAGE = 25
"""Cycles in the table."""

_CELLS = 180


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot over time and the words beside it."""

    title: str
    value: str
    note: str
    top: str
    bottom: str
    plot: Markup


@dataclass(frozen=True, slots=True)
class Version:
    """A stretch of cycles of one model version."""

    version: str
    first: datetime
    last: datetime
    cycles: int


def panels(newest_first: Sequence[Outline]) -> list[Panel]:
    """Predictions, positive rate and mean probability of the hours before the cycles.

    They are those of the version that a cycle judged: where another one begins there is a line.
    """
    shown = list(reversed(newest_first[:SHOWN]))
    places = _places(shown)
    changes = _changes(shown, places)
    found = []
    for measure, title, of in (
        ("predictions_1h", "Predictions in an hour", number),
        ("positive_rate_1h", "Positive rate", share),
        ("probability_mean_1h", "Mean probability", share),
    ):
        points = [
            (x, outline.measures[measure])
            for x, outline in zip(places, shown, strict=True)
            if measure in outline.measures
        ]
        if not points:
            continue
        bands = [plots.Band(x, n.value, n.low, n.high) for x, n in points]
        values = [n.value for _, n in points]
        first, last = shown[0].finished_at, shown[-1].finished_at
        latest = points[-1][1]
        now, note = of(latest.value), ""
        if measure not in shown[-1].measures:
            at = next(each.finished_at for each in reversed(shown) if measure in each.measures)
            now, note = NOTHING, f"{of(latest.value)} at {day_and_time(at)} UTC"
        elif latest.low is not None and latest.high is not None:
            note = f"{share(latest.low)} to {share(latest.high)}"
        label = (
            f"{title} from {day_and_time(first)} to {day_and_time(last)} UTC: "
            f"{'nothing' if now == NOTHING else now} now, "
            f"{of(min(values))} to {of(max(values))} before."
        )
        top = max([*values, *(n.high for _, n in points if n.high is not None)]) * 1.08 or 1.0
        if measure == "predictions_1h":
            values_over_time = [(band.x, band.value) for band in bands]
            plot = plots.area(values_over_time, label, top=top, changes=changes)
        else:
            plot = plots.trend(bands, label, top=min(top, 1.0), changes=changes)  # shares
        found.append(Panel(title, now, note, of(top), "0", plot))
    return found


def recent_strip(newest_first: Sequence[Outline]) -> Markup:
    """The verdicts of the newest cycles, and where the model version changed."""
    shown = list(reversed(newest_first[:SHOWN]))
    places = _places(shown)
    changes = _changes(shown, places)
    cells: list[tuple[float, Mapping[str, float]]] = [
        (x, {outline.state: 1.0}) for x, outline in zip(places, shown, strict=True)
    ]
    return plots.strip(cells, f"The last {several(len(shown), 'cycle')}: {tally(shown)}.", changes)


def whole_strip(newest_first: Sequence[Outline]) -> Markup:
    """The verdicts of all cycles, several to a column."""
    shown = list(reversed(newest_first))
    count = min(len(shown), _CELLS)
    cells: list[tuple[float, Mapping[str, float]]] = []
    for i in range(count):
        part = shown[i * len(shown) // count : (i + 1) * len(shown) // count]
        states = Counter(outline.state for outline in part)
        place = i / max(count - 1, 1)
        cells.append((place, {state: states[state] / len(part) for state in states}))
    return plots.strip(cells, f"All {several(len(shown), 'cycle')} kept: {tally(shown)}.")


def tally(outlines: Sequence[Outline]) -> str:
    """How many ended how."""
    states = Counter(outline.state for outline in outlines)
    parts = [f"{states['ok']:,} without drift", f"{states['drift']:,} with"]
    if states["not judged"]:
        parts.append(f"{states['not judged']:,} not judged")
    if states["failed"]:
        parts.append(f"{states['failed']:,} with a failed monitor")
    return ", ".join(parts)


def versions(newest_first: Sequence[Outline]) -> list[Version]:
    """The model versions that cycles judged, newest first."""
    found = []
    for version, group in groupby(newest_first, key=lambda outline: outline.version):
        part = list(group)
        found.append(Version(version, part[-1].finished_at, part[0].finished_at, len(part)))
    return found


def _changes(oldest_first: Sequence[Outline], places: Sequence[float]) -> list[float]:
    """Where cycles judge another model version than those before."""
    return [
        place
        for place, (before, after) in zip(places[1:], pairwise(oldest_first), strict=True)
        if after.version != before.version
    ]


def _places(oldest_first: Sequence[Outline]) -> list[float]:
    """Where on the axis of time each cycle is, 0 to 1.

    One after the other where their times are not in order: a clock was ahead once.
    """
    times = [outline.finished_at for outline in oldest_first]
    if len(times) < 2 or times[0] == times[-1]:  # noqa: PLR2004 - one is no span
        return [1.0 for _ in times]
    if times != sorted(times):
        return [number / (len(times) - 1) for number in range(len(times))]
    span = times[-1] - times[0]
    return [(time - times[0]) / span for time in times]
