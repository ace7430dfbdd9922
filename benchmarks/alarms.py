"""False alarms of a month, and how many rows a change takes: monitorkit's rule beside others.

`python -m benchmarks.alarms` (some twenty minutes; `--quick` takes two) draws streams of 30 days
with 288 cycles each from the synthetic data set and from real rows of *Give Me Some Credit*, and
writes `benchmarks/results/alarms.md` and the plot beside it. Nothing here is timed but the rule
itself; seeds are fixed, so that everybody gets the same table.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance

from benchmarks.alarms_report import (
    ALWAYS,
    BH,
    BONFERRONI,
    EVIDENTLY,
    JS,
    KS,
    NANNYML,
    NEVER,
    OURS,
    PEERS,
    PSI,
    RATES,
    TUNED,
    Found,
    draw,
    draw_cases,
    report,
)
from benchmarks.detectors import NormedWasserstein, Windows, benjamini_hochberg
from benchmarks.machine import say
from benchmarks.ours import Ours
from benchmarks.streams import (
    BEGIN,
    CHANGES,
    CYCLE,
    DAY,
    Source,
    Tallies,
    buckets,
    bursts,
    by_cycle,
    quiet,
    real,
    rhythm,
    synthetic,
)
from monitorkit.contracts import Bucket, Timeline

RESULT = Path(__file__).with_name("results") / "alarms.md"
CASES = Path(__file__).parents[1] / "docs" / "verdicts.png"
DAYS = 30
KINDS = {"quiet": quiet, "bursts": bursts, "rhythm": rhythm}
SOURCES = {"synthetic": synthetic, "real": real}

LEVEL = 0.05
THRESHOLD = 0.1
CHUNK_ROWS = 200

DELAY_RATE = 100
LONGEST_DELAY = DAY


@cache
def tallies_of(name: str) -> Tallies:
    """Of a source, once for each process."""
    source = SOURCES[name]()
    assert source is not None  # noqa: S101 - asked before
    return Tallies(source)


@cache
def ours_of(name: str, rate: int) -> Ours:
    """The rule for a source's streams of a rate, once for each process."""
    return Ours(tallies_of(name).weigher, rate)


def one_stream(name: str, kind: str, rate: int, seed: int) -> Mapping[str, bool | float]:
    """Whether each detector raises a false alarm in 30 days, and the statistics' maxima."""
    tallies = tallies_of(name)
    random = np.random.default_rng([seed, rate, list(KINDS).index(kind)])
    rows = KINDS[kind](len(tallies.rows), DAYS * DAY * rate, random)
    counted = by_cycle(tallies.rows, rows, rate)
    cells = tallies.cells_of(rows, rate)
    alarm = ours_of(name, rate).first_alarm(counted, cells, bursty=kind == "bursts")
    found: dict[str, bool | float] = {OURS: alarm is not None, NEVER: False, ALWAYS: True}
    windows = Windows(tallies)
    _, last_day = windows.statistics(counted, DAY)
    p_values = last_day["p"]
    found[KS] = bool(np.any(p_values < LEVEL))
    found[BONFERRONI] = bool(np.any(p_values < LEVEL / windows.columns))
    found[BH] = bool(np.any(benjamini_hochberg(p_values, LEVEL)))
    found[PSI] = bool(np.any(last_day["psi"] >= THRESHOLD))
    found[JS] = bool(np.any(last_day["js"] >= THRESHOLD))
    length = max(CHUNK_ROWS // rate, 1)
    _, chunks = windows.statistics(counted, length, every=length)
    found[NANNYML] = bool(np.any(chunks["js"] > chunk_thresholds(name)))
    found[EVIDENTLY] = _evidently(tallies, rows, rate)
    if rate == DELAY_RATE and kind == "quiet":
        for peer, (statistic, length) in TUNED.items():
            _, values = windows.statistics(counted, length)
            found[peer] = float(values[statistic].max())
    return found


def _evidently(tallies: Tallies, rows: NDArray[np.int64], rate: int) -> bool:
    """Of the last 24 hours, once in six hours."""
    wasserstein = _wasserstein(tallies.source)
    ends = range(DAY, len(rows) // rate + 1, DAY // 4)
    windows = (rows[(end - DAY) * rate : end * rate] for end in ends)
    return any(bool(np.any(wasserstein.distances(part) >= THRESHOLD)) for part in windows)


def _wasserstein(
    source: Source, population: NDArray[np.float64] | None = None
) -> NormedWasserstein:
    def scored(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack((rows, source.chunk(rows).scores))

    now = source.population if population is None else population
    return NormedWasserstein(scored(source.reference), scored(now))


@cache
def chunk_thresholds(name: str) -> NDArray[np.float64]:
    """(columns,) of the Jensen-Shannon distance, from chunks of the reference."""
    tallies = tallies_of(name)
    rows = tallies.of(tallies.source.reference)
    cut = np.arange(len(rows) // CHUNK_ROWS * CHUNK_ROWS)
    chunks = by_cycle(rows, cut, CHUNK_ROWS)
    _, found = Windows(tallies).statistics(chunks, 1)
    thresholds: NDArray[np.float64] = found["js"].mean(axis=0) + 3 * found["js"].std(axis=0)
    return thresholds


def one_change(
    name: str, change: str, thresholds: Mapping[str, float], seed: int
) -> Mapping[str, int | None]:
    """Rows after a change until each detector tells of its column; None: not in a day."""
    tallies = tallies_of(name)
    column_name, changed = CHANGES[change]
    column = tallies.source.columns.index(column_name)
    random = np.random.default_rng([seed, 1000])
    size, rate = len(tallies.rows), DELAY_RATE
    calm = quiet(size, DAY * rate, random)
    before = by_cycle(tallies.rows, calm, rate)
    population = tallies.source.changed(changed, seed)
    drawn = quiet(size, LONGEST_DELAY * rate, random)
    rows, numbers = np.unique(drawn, return_inverse=True)
    after = by_cycle(tallies.of(population[rows]), numbers, rate)
    counted = np.concatenate((before, after))
    cells = np.concatenate(
        (tallies.cells_of(calm, rate), tallies.cells_of(numbers, rate, population[rows])), axis=1
    )
    found: dict[str, int | None] = {OURS: None, NEVER: None, ALWAYS: rate}
    ours = ours_of(name, rate)
    for end in range(DAY + 1, len(counted) + 1):
        alarm = ours.alarm_at(counted, cells, end)
        if alarm is not None and column in {at for at, _ in alarm.groups}:
            found[OURS] = (end - DAY) * rate
            break
    windows = Windows(tallies)

    def first(hits: NDArray[np.bool_], ends: NDArray[np.int64]) -> int | None:
        late = hits & (ends > DAY)
        return int(ends[np.argmax(late)] - DAY) * rate if late.any() else None

    ends, last_day = windows.statistics(counted, DAY)
    found[KS] = first(last_day["p"][:, column] < LEVEL, ends)
    found[BONFERRONI] = first(last_day["p"][:, column] < LEVEL / windows.columns, ends)
    found[BH] = first(benjamini_hochberg(last_day["p"], LEVEL), ends)
    found[PSI] = first(last_day["psi"][:, column] >= THRESHOLD, ends)
    found[JS] = first(last_day["js"][:, column] >= THRESHOLD, ends)
    length = CHUNK_ROWS // rate
    ends, chunks = windows.statistics(counted, length, every=length)
    found[NANNYML] = first(chunks["js"][:, column] > chunk_thresholds(name)[column], ends)
    for peer, (statistic, length) in TUNED.items():
        ends, values = windows.statistics(counted, length)
        found[peer] = first(values[statistic][:, column] > thresholds[peer], ends)
    full = _wasserstein(tallies.source, population)
    last = full.distances(drawn)[column]
    found[EVIDENTLY] = LONGEST_DELAY * rate if last >= THRESHOLD else None
    return found


def cost(name: str) -> float:
    """Milliseconds of a look at 24 hours of 100 rows a cycle, in buckets of five minutes."""
    tallies = tallies_of(name)
    rows = quiet(len(tallies.rows), DAY * 100, np.random.default_rng(0))
    chunk = tallies.source.chunk(tallies.source.population[rows])
    times: list[float] = []
    timeline = [
        Bucket(bucket.start, bucket.rows, summary, CYCLE)
        for bucket, summary in zip(
            buckets(0, DAY, 100),
            (
                tallies.cells.summarise(chunk.take(slice(a, a + 100)))
                for a in range(0, len(chunk), 100)
            ),
            strict=True,
        )
    ]
    merged = tallies.cells.summarise(chunk)
    window = Timeline(
        timeline,
        BEGIN + DAY * CYCLE,
        tallies.cells.merge,
        merged=lambda _: merged,
        bucket=CYCLE,
        since=BEGIN,
    )
    for _ in range(9):
        began = time.perf_counter()
        tallies.rule.look(window)
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def cases(name: str) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64], float, float]]:
    """What Evidently's default misses in 2,000 rows."""
    source = tallies_of(name).source
    found = []
    for change in ("utilisation = 1.0", "utilisation x3", "90 days late = 0"):
        column_name, changed = CHANGES[change]
        column = source.columns.index(column_name)
        rows = np.random.default_rng(1).integers(0, len(source.population), 2000)
        now, before = source.changed(changed, 4)[rows, column], source.reference[:, column]
        wasserstein = float(wasserstein_distance(now, before) / np.std(before))
        distance = float(ks_2samp(now, before, method="asymp").statistic)
        found.append((change, before, now, wasserstein, distance))
    return found


def main() -> None:
    """Draw, judge, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarms", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000, help="quiet ones of each rate")
    parser.add_argument("--others", type=int, default=200, help="with bursts, and with a rhythm")
    parser.add_argument("--changes", type=int, default=20, help="streams for each change")
    parser.add_argument("--quick", action="store_true", help="few of all")
    parser.add_argument("--source", action="append", choices=list(SOURCES), help="only this one")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--output", type=Path, default=RESULT, help="the Markdown file to write")
    given = parser.parse_args()
    if given.quick:
        given.streams, given.others, given.changes = 4, 2, 3
    found = Found()
    wanted = given.source or list(SOURCES)
    names = [name for name, make in SOURCES.items() if name in wanted and make() is not None]
    with ProcessPoolExecutor(given.workers) as pool:
        for name in names:
            found.cost = max(found.cost, pool.submit(cost, name).result())
            thresholds = _false_alarms(pool, name, given, found)
            _finds(pool, name, thresholds, given.changes, found)
    text = report(found, streams=given.streams, others=given.others, changes=given.changes)
    given.output.write_text(text, encoding="utf-8")
    draw(found, given.output.with_suffix(".png"))
    if "real" in names:
        draw_cases(cases("real"), CASES)
    sys.stdout.write(text)


def _false_alarms(
    pool: ProcessPoolExecutor, name: str, given: argparse.Namespace, found: Found
) -> Mapping[str, float]:
    """Of all detectors; returns the thresholds of those that are tuned."""
    thresholds: Mapping[str, float] = {}
    for kind in KINDS:
        streams = given.streams if kind == "quiet" else given.others
        for rate in RATES:
            say(f"{name}, {kind}, {rate} rows a cycle: {streams} streams")
            results = list(pool.map(partial(one_stream, name, kind, rate), range(streams)))
            for detector in (OURS, *PEERS, NEVER, ALWAYS):
                hits = [bool(result[detector]) for result in results]
                found.alarms[name, kind, rate, detector] = hits
            say(f"{sum(found.alarms[name, kind, rate, OURS])} with a false alarm of ours")
            if kind == "quiet" and rate == DELAY_RATE:
                thresholds = {
                    peer: float(np.quantile([result[peer] for result in results], 0.99))
                    for peer in TUNED
                }
    return thresholds


def _finds(
    pool: ProcessPoolExecutor,
    name: str,
    thresholds: Mapping[str, float],
    streams: int,
    found: Found,
) -> None:
    for change in CHANGES:
        say(f"{name}, {change}")
        of_change = partial(one_change, name, change, thresholds)
        for result in pool.map(of_change, range(streams)):
            for detector, delay in result.items():
                found.delays.setdefault((name, change, detector), []).append(delay)


if __name__ == "__main__":
    main()
