"""How many rows anybody needs who tolerates a distance: `python -m benchmarks.floor`, some seconds.

A detector that tolerates every distribution within 0.05 of the reference, and raises a false alarm
once in 3000 days, cannot find a change in fewer rows than log(rows between false alarms) / K on the
average, however it looks at them (Lorden 1971, Procedures for reacting to a change in distribution,
asymptotically). K is what a row tells: the Kullback-Leibler divergence between the changed
distribution and the nearest of those that are tolerated. The nearest one is a taut string through
the tube around the reference's distribution function, in coordinates of the changed one's (Davies
and Kovac 2001): it is nearest for every convex measure at once.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import streams
from benchmarks.machine import facts
from benchmarks.streams import CHANGES, DAY, Source
from monitorkit.units import parse_rate

Floats = NDArray[np.float64]

RESULT = Path(__file__).with_name("results") / "floor.md"
TOLERANCE = 0.05
ROWS_A_CYCLE = 100
LEAST = 1e-6
"""Nats that are rounding: a change within the tolerance is never found as a distance."""

HEAD = """# The least rows that a change takes

Made by `python -m benchmarks.floor`, in which stands how. The changes of
[alarms.md](alarms.md): how far the changed column is from the reference (D), how many nats a row
tells of its being farther than 0.05, and the rows that it takes to find that out, on the average
and whatever the method, with one false alarm in 3000 days that is shared equally by all columns.
Changes that another measure finds (missing values, shares) may take fewer.
"""


def main() -> None:
    """Compute, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    lines = [HEAD, *(f"- {fact}" for fact in facts(("numpy",)))]
    lines += [
        "",
        "| source | change | D | nats a row | rows |",
        "|---|---|---:|---:|---:|",
    ]
    for source in (streams.synthetic(), streams.real()):
        if source is not None:
            lines += [_line(source, change, found) for change, found in floors(source).items()]
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _line(source: Source, change: str, found: tuple[float, float]) -> str:
    distance, told = found
    evidence = math.log(rows_between_false_alarms(len(source.columns) + 1))
    rows = f"{evidence / told:,.0f}" if told > LEAST else "-"
    return f"| {source.name} | {change} | {distance:.3f} | {told:.4f} | {rows} |"


def floors(source: Source) -> Mapping[str, tuple[float, float]]:
    """By change: its distance, and the nats of a row."""
    found = {}
    for number, (change, (name, apply)) in enumerate(CHANGES.items()):
        at = source.columns.index(name)
        before = source.reference[:, at]
        after = source.changed(apply, number)[:, at]
        cells = binned(before[~np.isnan(before)], after[~np.isnan(after)])
        f, g = np.cumsum(cells, axis=1)
        found[change] = float(np.abs(f - g).max()), nats(f, g, TOLERANCE)
    return found


def rows_between_false_alarms(columns: int) -> float:
    """Of one column, when all of them share the budget."""
    days = 1 / (parse_rate(streams.BUDGET) * 24 * 60 * 60)
    return columns * days * DAY * ROWS_A_CYCLE


def binned(before: Floats, after: Floats, most: int = 200) -> Floats:
    """(2, cells) shares of two samples in the same cells: few values, or quantiles of both."""
    both = np.unique(np.concatenate((before, after)))
    if len(both) > most:
        both = np.unique(np.quantile(np.concatenate((before, after)), np.linspace(0, 1, most)))
    return np.stack(
        [
            np.bincount(np.searchsorted(both, sample), minlength=len(both)) / len(sample)
            for sample in (before, after)
        ]
    )


def nats(before: Floats, after: Floats, tolerance: float) -> float:
    """The divergence of a distribution from the nearest one within a distance of another.

    Args:
        before: (cells,) the other one's cumulative shares; the last is 1.
        after: (cells,) its own.
        tolerance: the largest difference of cumulative shares that is tolerated.
    """
    x = np.concatenate(([0.0], after))
    low = np.concatenate(([0.0], np.maximum(before - tolerance, 0.0)))
    high = np.concatenate(([0.0], np.minimum(before + tolerance, 1.0)))
    low[-1] = high[-1] = 1.0
    g, h = np.diff(x), np.diff(taut_string(x, low, high))
    some = g > 0
    told = float(np.sum(g[some] * np.log(g[some] / np.maximum(h[some], 1e-12))))
    return max(0.0, told)  # rounding


def taut_string(x: Floats, low: Floats, high: Floats) -> Floats:
    """The shortest way through a tube, at each of its abscissas.

    Args:
        x: (points,) ascending; where it does not ascend, the string may jump.
        low: (points,) the tube's lower end; at the first and last point the upper one, too.
        high: (points,) its upper end.
    """
    x = x + 1e-12 * np.arange(len(x))
    y = np.empty(len(x))
    y[0] = low[0]
    start, last = 0, len(x) - 1
    while start < last:
        # The steepest and the flattest way on that still fits, and the knots that they touch.
        steepest, flattest = math.inf, -math.inf
        above = below = last
        knot, level = last, low[last]
        for point in range(start + 1, last + 1):
            width = x[point] - x[start]
            down, up = (low[point] - y[start]) / width, (high[point] - y[start]) / width
            if down > steepest:
                knot, level = above, high[above]
                break
            if up < flattest:
                knot, level = below, low[below]
                break
            if up <= steepest:
                steepest, above = up, point
            if down >= flattest:
                flattest, below = down, point
        y[start : knot + 1] = np.interp(x[start : knot + 1], [x[start], x[knot]], [y[start], level])
        start = knot
    return y


if __name__ == "__main__":
    main()
