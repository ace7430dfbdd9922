"""How many rows anybody needs who tolerates as much: `python -m benchmarks.floor`, half a minute.

A detector that tolerates some distributions, and raises a false alarm once in 3000 days, cannot
find a change in fewer rows than log(rows between false alarms) / K on the average, however it looks
at them (Lorden 1971, Procedures for reacting to a change in distribution, asymptotically). K is
what a row tells: the Kullback-Leibler divergence between the changed distribution and the nearest
of those that are tolerated.

- Of one column within a distance of 0.05: the nearest one is a taut string through the tube around
  the reference's distribution function, in coordinates of the changed one's (Davies and Kovac
  2001): it is nearest for every convex measure at once.
- Of whole rows, within the limits of every measure of every column, the score's too: the changed
  rows are weighed anew, as little as need be, until all that is watched is within its limits.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import streams
from benchmarks.machine import facts
from benchmarks.streams import CHANGES, DAY, Source, Tallies
from monitorkit.sequential.taut_string import taut_string
from monitorkit.sequential.weighing import Weigher
from monitorkit.units import parse_rate

Floats = NDArray[np.float64]

RESULT = Path(__file__).with_name("results") / "floor.md"
TOLERANCE = 0.05
ROWS_A_CYCLE = 100
LEAST = 1e-5
"""Nats that are rounding: a change within the tolerance is never found as a distance."""

SMALL = (1e-6, 1e-3)
"""So much of those whose nearest ones are looked for is the reference's rows, else the changed."""

AT_ONCE = 8
MOST_ROUNDS = 60
MOST_STEPS = 100
ROUNDING = 1e-7
RIDGE = 1e-9

HEAD = """# The least rows that a change takes

Made by `python -m benchmarks.floor`, in which stands how. The changes of
[alarms.md](alarms.md), with one false alarm in 3000 days, on the average and whatever the method:

- *one column's distance*: how far the changed column is from the reference (D), how many nats a
  row tells of its being farther than 0.05, and the rows that it takes to find that out, where all
  columns have equal parts of the false alarms. Other measures (missing values, shares) may take
  fewer.
- *everything*: how many nats a row tells of its being none of those that `anytime_drift` tolerates,
  in any measure of any column and of the score, and the rows that it takes whoever tolerates as
  much: at least so many, for the nearest tolerated rows may be nearer than the nearest that were
  found.
"""


def main() -> None:
    """Compute, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    lines = [HEAD, *(f"- {fact}" for fact in facts(("numpy",)))]
    lines += [
        "",
        "| source | change | D | nats, one column's distance | rows | nats, everything | rows |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for source in (streams.synthetic(), streams.real()):
        if source is not None:
            of_rows = floors_of_rows(source)
            lines += [
                _line(source, change, found, of_rows[change])
                for change, found in floors(source).items()
            ]
    text = "\n".join(lines) + "\n"
    given.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _line(source: Source, change: str, found: tuple[float, float], of_rows: float) -> str:
    distance, told = found

    def rows(told: float, columns: int) -> str:
        evidence = math.log(rows_between_false_alarms(columns))
        return f"{told:.4f} | {evidence / told:,.0f}" if told > LEAST else f"{told:.4f} | -"

    return (
        f"| {source.name} | {change} | {distance:.3f} | {rows(told, len(source.columns) + 1)}"
        f" | {rows(of_rows, 1)} |"
    )


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


def floors_of_rows(source: Source) -> Mapping[str, float]:
    """By change: the nats of a whole row."""
    tallies = Tallies(source)
    reference = tallies.of(source.reference)
    return {
        change: nearest_tolerated(
            tallies.weigher, tallies.of(source.changed(apply, number)), reference
        )[0]
        for number, (change, (_, apply)) in enumerate(CHANGES.items())
    }


def nearest_tolerated(
    weigher: Weigher, changed: NDArray[Any], reference: NDArray[Any]
) -> tuple[float, Floats]:
    """The divergence of rows from tolerated ones near them, and those, as weights of both.

    A limit says of a number that each row has that its mean is at most zero. Limits that are broken
    are taken up, a few at a time, and the nearest weights are found that keep those taken so far.

    Args:
        weigher: of what is watched, with its limits.
        changed: (n, ...) a tally for each row.
        reference: (m, ...) the same; tolerated rows may be like these where no changed ones are.

    Returns:
        Nats, and (n + m,) weights that sum up to 1 and keep every limit.
    """
    limits = _Limits(weigher, np.concatenate((changed, reference)))
    found = (_tolerated(limits, len(changed), len(reference), small) for small in SMALL)
    return min(found, key=itemgetter(0))


def _tolerated(limits: _Limits, changed: int, reference: int, small: float) -> tuple[float, Floats]:
    of_which = np.repeat([0, 1], [changed, reference])
    shares = np.where(of_which, small / reference, (1 - small) / changed)
    weights, taken = shares, np.empty((len(shares), 0))
    for _ in range(MOST_ROUNDS):
        broken = limits.broken(weights)
        if not broken.size:
            break
        taken = np.concatenate((taken, broken), axis=1)
        weights = nearest_within(taken, shares)
    weights = limits.kept(weights, np.where(of_which, 1 / reference, 0.0))
    told = -np.mean(np.log(weights[:changed] * changed))
    return max(0.0, float(told)), weights


def nearest_within(limits: Floats, shares: Floats) -> Floats:
    """The weights of rows, nearest to their shares, that keep some limits.

    They are the shares divided by 1 + limits @ bets, where the bets, none of them negative, are
    those that grow most: the sum of shares * log(1 + limits @ bets) is concave, and its slope is
    how far the weights are beyond each limit. A Newton step each time, back where it is too long.

    Args:
        limits: (rows, k) numbers of which the mean is to be at most zero.
        shares: (rows,) all of them positive.

    Returns:
        (rows,) weights that sum up to 1.
    """
    bets, odds = np.zeros(limits.shape[1]), np.ones(len(shares))
    for _ in range(MOST_STEPS):
        slope = (shares / odds) @ limits
        free = (bets > 0) | (slope > 0)
        if np.all(np.abs(slope[free]) < ROUNDING):
            break
        some = limits[:, free] * (np.sqrt(shares) / odds)[:, np.newaxis]
        bent = some.T @ some
        bent += np.eye(len(bent)) * (RIDGE * np.trace(bent) / len(bent))
        newton = np.zeros(len(bets))
        newton[free] = np.linalg.solve(bent, slope[free])
        before = float(shares @ np.log(odds))
        sizes = 0.5 ** np.arange(40)
        for step, size in product((newton, np.where(free, slope, 0.0)), sizes):
            tried = np.maximum(bets + size * step, 0.0)
            found = 1 + limits @ tried
            if found.min() > 0 and float(shares @ np.log(found)) > before:
                bets, odds = tried, found
                break
        else:
            break
    weights: Floats = shares / odds
    weights /= weights.sum()
    return weights


class _Limits:
    """What rows, weighed, are to keep.

    Args:
        weigher: of what is watched.
        rows: (n, ...) a tally for each row.
    """

    def __init__(self, weigher: Weigher, rows: NDArray[Any]) -> None:
        events = weigher.events
        successes, trials = (of.astype(np.float64) for of in events.count(rows))
        upper, lower = successes - events.highest * trials, events.lowest * trials - successes
        limited = upper[:, events.highest < 1], lower[:, events.lowest > 0]
        self._beyond = np.concatenate(limited, axis=1)
        self._few = [
            (few.count(rows).astype(np.float64), few.reference, few.tolerance)
            for few in weigher.few.values()
        ]

    def broken(self, weights: Floats) -> Floats:
        """(n, k) those that are, the worst ones; none when all are kept."""
        beyond = weights @ self._beyond
        worst = np.argsort(-beyond)[:AT_ONCE]
        found = [self._beyond[:, worst[beyond[worst] > ROUNDING]]]
        for categories, reference, tolerance in self._few:
            limit = _farthest(weights, categories, reference, tolerance)
            if float(weights @ limit) > ROUNDING:
                found.append(limit[:, np.newaxis])
        return np.concatenate(found, axis=1)

    def kept(self, weights: Floats, own: Floats) -> Floats:
        """Weights with as much of the reference's own rows as it takes to keep every limit."""
        beyond, within = weights @ self._beyond, own @ self._beyond
        over = beyond > 0
        parts = [(beyond[over] / (beyond - within)[over]).max(initial=0.0)]
        for categories, reference, tolerance in self._few:
            limit = _farthest(weights, categories, reference, tolerance)
            beyond_one = float(weights @ limit)
            within_all = tolerance * float(own @ categories.sum(axis=1))
            if beyond_one > 0:
                parts.append(beyond_one / (beyond_one + within_all))
        part = float(max(parts))
        return (1 - part) * weights + part * own


def _farthest(weights: Floats, categories: Floats, reference: Floats, tolerance: float) -> Floats:
    """(n,) the limit of the set of values whose share grew most: no other set is farther beyond."""
    now = weights @ categories
    more = now > reference * now.sum()
    bound = float(reference[more].sum()) + tolerance
    limit: Floats = categories[:, more].sum(axis=1) - bound * categories.sum(axis=1)
    return limit


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


if __name__ == "__main__":
    main()
