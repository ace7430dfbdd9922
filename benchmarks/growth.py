"""How cost grows with rows: exponents, and the plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DECADE = 10
COLOURS = {
    "local": "#1b6ca8",
    "process": "#2a9d8f",
    "dask, 1 worker": "#8ab17d",
    "dask, 2 workers": "#4d7c3a",
    "Evidently": "#c1440e",
    "NannyML": "#e9a03b",
    "whylogs": "#8e44ad",
}
MARKS = {"Evidently": "s", "NannyML": "^", "whylogs": "D"}


@dataclass(frozen=True, slots=True)
class Series:
    """What one engine or peer took, by number of rows.

    Attributes:
        name: of the engine.
        columns: of features.
        points: by rows: seconds, MiB, and MB read.
    """

    name: str
    columns: int
    points: Mapping[int, tuple[float, float, float]]

    def exponent(self, which: int) -> float | None:
        """The slope of log(cost) over log(rows) in the largest decade of rows."""
        largest = max(self.points, default=0)
        inside = [rows for rows in sorted(self.points) if rows * DECADE >= largest]
        return exponent(inside, [self.points[rows][which] for rows in inside])


def exponent(rows: Sequence[int], costs: Sequence[float]) -> float | None:
    """Least squares in logarithms: 1 when cost is proportional to rows, 0 when it is constant."""
    if len(rows) < 2 or min(costs) <= 0:
        return None
    return float(np.polyfit(np.log(rows), np.log(costs), 1)[0])


def draw(every: Sequence[Series], path: Path) -> None:
    """Draw seconds and MiB over rows, both axes logarithmic, a row of panels for each width."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - for the plot alone
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415

    widths = sorted({series.columns for series in every})
    figure = Figure(figsize=(11, 1.2 + 4.2 * len(widths)), layout="constrained")
    panels = figure.subplots(len(widths), 2, squeeze=False)
    for columns, line in zip(widths, panels, strict=True):
        for which, (panel, label) in enumerate(
            zip(line, ("seconds", "peak memory, MiB"), strict=True)
        ):
            for series in every:
                if series.columns != columns:
                    continue
                rows = sorted(series.points)
                panel.plot(
                    rows,
                    [series.points[number][which] for number in rows],
                    label=series.name,
                    color=COLOURS.get(series.name),
                    marker=MARKS.get(series.name, "o"),
                    linestyle="--" if series.name in MARKS else "-",
                    markersize=5,
                    linewidth=1.6,
                )
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.xaxis.set_major_formatter(_short)
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.set_xlabel("rows")
            panel.set_title(f"{columns} columns: {label}", fontsize=11)
            panel.grid(visible=True, which="major", alpha=0.3)
    handles = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
    )
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130)


def _short(rows: float, _: object) -> str:
    """1 k, 1 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if rows >= size:
            return f"{rows / size:g} {unit}"
    return f"{rows:g}"
