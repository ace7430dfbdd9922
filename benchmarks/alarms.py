"""False alarms of a month, and how many rows a change takes: monitorkit's rule beside others.

`python -m benchmarks.alarms` draws streams of 30 days with 288 cycles each from the synthetic data
set and from real rows of *Give Me Some Credit*, for up to `--minutes` of each, and writes
`benchmarks/results/alarms.md` and the plot beside it. A stream takes about a second of a processor,
all of them some fifty-five minutes of two: 1,200 quiet ones, 600 of each source, and 560 others.
Nothing here is timed but the rule itself; seeds are fixed, so that everybody gets the same streams.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance

from benchmarks.alarm_streams import (
    DELAY_RATE,
    SOURCES,
    Thresholds,
    largest,
    one_change,
    others_stream,
    our_stream,
    tallies_of,
    tuned,
)
from benchmarks.alarms_report import (
    ALWAYS,
    KINDS_AND_RATES,
    NEVER,
    OURS,
    TUNED_ADWIN,
    Found,
    draw,
    draw_cases,
    report,
)
from benchmarks.kept import Kept, Key
from benchmarks.machine import say
from benchmarks.streams import BEGIN, CHANGES, CYCLE, DAY, buckets, quiet
from monitorkit import sequential
from monitorkit.cells import Counts
from monitorkit.contracts import Bucket, Timeline
from monitorkit.monitoring.merges import Merges
from monitorkit.sequential.rule import Rule

RESULT = Path(__file__).with_name("results") / "alarms.md"
PARTS = ("alarm_streams", "candidates", "detectors", "libraries", "ours", "streams")
CASES = Path(__file__).parents[1] / "docs" / "verdicts.png"
CODE = sorted(
    [
        *(Path(sequential.__file__).parent).glob("*.py"),
        *(Path(__file__).with_name(f"{name}.py") for name in PARTS),
    ]
)
"""What streams depend on."""


def cost(name: str) -> tuple[float, float]:
    """Milliseconds of a look at 24 hours of 100 rows a cycle, in buckets of five minutes.

    Returns:
        That of a cycle, which knows all buckets but the newest one, and the first one of all.
    """
    tallies = tallies_of(name)
    rows = quiet(len(tallies.rows), DAY * 100, np.random.default_rng(0))
    chunk = tallies.source.chunk(tallies.source.population[rows])
    rounds: list[tuple[float, float]] = []
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

    def window(merges: Merges) -> Timeline[Counts]:
        return Timeline(
            timeline,
            BEGIN + DAY * CYCLE,
            tallies.cells.merge,
            merged=partial(merges.merged, merge_all=tallies.cells.merge_all),
            bucket=CYCLE,
            since=BEGIN,
        )

    for _ in range(9):
        first, later = tallies.new_rule(), tallies.new_rule()
        known = window(Merges())
        later.look(replace(known, buckets=timeline[:-1]))
        rounds.append((_milliseconds(later, known), _milliseconds(first, window(Merges()))))
    in_cycle, at_first = np.median(rounds, axis=0).tolist()
    return in_cycle, at_first


def _milliseconds(rule: Rule, window: Timeline[Counts]) -> float:
    began = time.perf_counter()
    rule.look(window)
    return 1000 * (time.perf_counter() - began)


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
    parser.add_argument("--streams", type=int, default=200, help="quiet ones of each rate")
    parser.add_argument(
        "--bursty", type=int, default=40, help="with bursts, a rhythm, a busy client"
    )
    parser.add_argument("--others", type=int, default=8, help="of each kind that others see")
    parser.add_argument("--tuning", type=int, default=100, help="quiet ones, for thresholds")
    parser.add_argument("--changes", type=int, default=40, help="streams for each change")
    parser.add_argument("--quick", action="store_true", help="few of all")
    parser.add_argument("--source", action="append", choices=list(SOURCES), help="only this one")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--minutes", type=float, default=60.0, help="for each source")
    parser.add_argument("--keep", type=Path, help="a file of what was found: it goes on there")
    parser.add_argument("--output", type=Path, default=RESULT, help="the Markdown file to write")
    given = parser.parse_args()
    called = [
        f"--{name} {value}"
        for name, values in vars(given).items()
        for value in (values if isinstance(values, list) else [values])
        if value != parser.get_default(name) and not isinstance(value, Path)
    ]
    if given.keep is not None:
        called.append("--keep FILE")
    if given.quick:
        given.streams, given.bursty, given.changes = 4, 2, 3
        given.others, given.tuning = 1, 4
    found, kept = Found(), Kept(given.keep, CODE)
    wanted = given.source or list(SOURCES)
    names = [name for name, make in SOURCES.items() if name in wanted and make() is not None]
    with ProcessPoolExecutor(given.workers) as pool:
        for name in names:
            found.costs[name] = pool.submit(cost, name).result()
            search = _Search(pool, kept, name, time.monotonic() + 60 * given.minutes)
            thresholds = search.tune(given.tuning, found)
            search.finds(thresholds, given.changes, found)
            search.false_alarms(given, thresholds, found)
    text = report(found, called)
    given.output.write_text(text, encoding="utf-8")
    draw(found, given.output.with_suffix(".png"))
    if "real" in names:
        draw_cases(cases("real"), CASES)
    sys.stdout.write(text)


@dataclass(frozen=True)
class _Search:
    """One source's streams, until the time is over."""

    pool: ProcessPoolExecutor
    kept: Kept
    name: str
    end: float

    def _go_on(self) -> bool:
        return time.monotonic() < self.end

    def tune(self, streams: int, found: Found) -> Thresholds:
        """The thresholds of those that are tuned: 1 % of quiet streams are above."""
        say(f"{self.name}, thresholds")
        first = 1_000_000  # no stream of those that alarms are counted in
        keys: list[Key] = [
            ("largest", self.name, "quiet", DELAY_RATE, first + seed) for seed in range(streams)
        ]
        results = [value for _, value in self.kept.find(self.pool, largest, keys, self._go_on)]
        if not results:
            sys.exit("no time for a single stream: give more --minutes")
        found.tuning[self.name] = len(results)
        thresholds = tuned(results, 0.01)
        found.delta[self.name] = thresholds[TUNED_ADWIN][0]
        return thresholds

    def finds(self, thresholds: Thresholds, streams: int, found: Found) -> None:
        """Delays of all detectors."""
        say(f"{self.name}, changes")
        of = _digest(thresholds)
        keys: list[Key] = [
            ("change", self.name, change, seed, of) for seed in range(streams) for change in CHANGES
        ]
        of_change = partial(one_change, thresholds=thresholds)
        for key, result in self.kept.find(self.pool, of_change, keys, self._go_on):
            for detector, delay in result.items():
                found.delays.setdefault((self.name, str(key[2]), detector), []).append(delay)

    def false_alarms(self, given: argparse.Namespace, thresholds: Thresholds, found: Found) -> None:
        """Of all detectors; of the kinds in turn, so that each has some if time is short."""
        say(f"{self.name}, others without a change")
        of = _digest(thresholds)
        keys = [(*key, of) for key in self._keys("others", given.others, given.others)]
        of_others = partial(others_stream, thresholds=thresholds)
        for key, result in self.kept.find(self.pool, of_others, keys, self._go_on):
            for detector, hit in result.items():
                self._add(found, key, detector, hit=hit)
        say(f"{self.name}, monitorkit without a change")
        keys = self._keys("ours", given.streams, given.bursty)
        for key, hit in self.kept.find(self.pool, our_stream, keys, self._go_on):
            for detector, alarmed in ((OURS, hit), (NEVER, False), (ALWAYS, True)):
                self._add(found, key, detector, hit=alarmed)

    def _keys(self, what: str, streams: int, bursty: int) -> list[Key]:
        many = {kind: streams if kind == "quiet" else bursty for kind, _ in KINDS_AND_RATES}
        return [
            (what, self.name, kind, rate, seed)
            for seed in range(max(many.values()))
            for kind, rate in KINDS_AND_RATES
            if seed < many[kind]
        ]

    @staticmethod
    def _add(found: Found, key: Key, detector: str, *, hit: bool) -> None:
        _, name, kind, rate, *_ = key
        place = str(name), str(kind), int(rate), detector
        found.alarms.setdefault(place, []).append(hit)


def _digest(thresholds: Thresholds) -> str:
    """Of the thresholds, for the keys of what depends on them."""
    return hashlib.sha256(json.dumps(thresholds).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
