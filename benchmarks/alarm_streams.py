"""One stream of `benchmarks.alarms`: who raises a false alarm in it, or when a change is found."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.alarms_report import (
    ALWAYS,
    BH,
    BONFERRONI,
    EVIDENTLY,
    EVIDENTLY_OPTIONS,
    JS,
    KS,
    NANNYML,
    NEVER,
    OURS,
    PSI,
    RIVER_DETECTORS,
    TUNED,
)
from benchmarks.detectors import NormedWasserstein, Windows, benjamini_hochberg
from benchmarks.kept import Key
from benchmarks.libraries import evidently_drifts, ranks, river_alarm, river_delay
from benchmarks.ours import Cycles, Ours
from benchmarks.streams import (
    CHANGES,
    DAY,
    Source,
    Tallies,
    bursts,
    by_cycle,
    quiet,
    real,
    rhythm,
    synthetic,
)

DAYS = 30
KINDS = {"quiet": quiet, "bursts": bursts, "rhythm": rhythm}
SOURCES = {"synthetic": synthetic, "real": real}

LEVEL = 0.05
THRESHOLD = 0.1
CHUNK_ROWS = 200

DELAY_RATE = 100
CALM = 15 * DAY
"""A change comes after so many cycles."""

LONGEST_DELAY = DAY
ASKED = DAY // 4
"""Evidently's tests are asked once in so many cycles."""


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


def _drawn(name: str, kind: str, rate: int, seed: int) -> NDArray[np.int64]:
    random = np.random.default_rng([seed, rate, list(KINDS).index(kind)])
    return KINDS[kind](len(tallies_of(name).rows), DAYS * DAY * rate, random)


def our_stream(key: Key) -> bool:
    """Whether monitorkit raises a false alarm in 30 days.

    Args:
        key: "ours", source, kind of the stream, rows in a cycle, seed.
    """
    _, name, kind, rate, seed = key
    rows = _drawn(str(name), str(kind), int(rate), int(seed))
    tallies = tallies_of(str(name))
    counted, cells = by_cycle(tallies.rows, rows, int(rate)), tallies.cells_of(rows, int(rate))
    ours = ours_of(str(name), int(rate))
    return ours.first_alarm(counted, Cycles(cells), bursty=kind == "bursts") is not None


def others_stream(key: Key) -> Mapping[str, bool]:
    """Whether each of the others raises one; as `our_stream`."""
    name, kind, rate, seed = str(key[1]), str(key[2]), int(key[3]), int(key[4])
    tallies, rows = tallies_of(name), _drawn(name, kind, rate, seed)
    windows = Windows(tallies)
    counted = by_cycle(tallies.rows, rows, rate)
    _, last_day = windows.statistics(counted, DAY)
    p_values = last_day["p"]
    length = max(CHUNK_ROWS // rate, 1)
    _, chunks = windows.statistics(counted, length, every=length)
    found = {
        KS: bool(np.any(p_values < LEVEL)),
        BONFERRONI: bool(np.any(p_values < LEVEL / windows.columns)),
        BH: bool(np.any(benjamini_hochberg(p_values, LEVEL))),
        PSI: bool(np.any(last_day["psi"] >= THRESHOLD)),
        JS: bool(np.any(last_day["js"] >= THRESHOLD)),
        NANNYML: bool(np.any(chunks["js"] > chunk_thresholds(name))),
    }
    reference, population = scored(name)
    ends = range(DAY, len(rows) // rate + 1, ASKED)
    last_days = [rows[(end - DAY) * rate : end * rate] for end in ends]
    wasserstein = NormedWasserstein(reference, population)
    found[EVIDENTLY] = any(
        bool(np.any(wasserstein.distances(part) >= THRESHOLD)) for part in last_days
    )
    for peer, test in EVIDENTLY_OPTIONS.items():
        found[peer] = any(evidently_drifts(test, reference, population[at]) for at in last_days)
    values = ranks(reference, population)[rows]
    for peer, detector in RIVER_DETECTORS.items():
        columns = (column[~np.isnan(column)] for column in values.T)
        found[peer] = any(river_alarm(detector, column) is not None for column in columns)
    return found


def largest(key: Key) -> Mapping[str, float]:
    """The largest value of each statistic that is tuned, of any column; as `our_stream`."""
    name, seed = str(key[1]), int(key[4])
    tallies, rows = tallies_of(name), _drawn(name, "quiet", DELAY_RATE, seed)
    counted = by_cycle(tallies.rows, rows, DELAY_RATE)
    found = {}
    for length in {length for _, length in TUNED.values()}:
        _, values = Windows(tallies).statistics(counted, length)
        for peer, (statistic, of) in TUNED.items():
            if of == length:
                found[peer] = float(values[statistic].max())
    return found


@cache
def scored(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows of the reference and of the population, with their scores."""
    source = tallies_of(name).source
    return with_scores(source, source.reference), with_scores(source, source.population)


def with_scores(source: Source, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with their score as one more column."""
    return np.column_stack((rows, source.chunk(rows).scores))


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


def one_change(key: Key, thresholds: Mapping[str, float]) -> Mapping[str, int | None]:
    """Rows after a change until each detector tells of its column; None: not in a day.

    Args:
        key: "change", source, change, seed.
        thresholds: of those that are tuned.
    """
    name, change, seed = str(key[1]), str(key[2]), int(key[3])
    tallies = tallies_of(name)
    column_name, changed = CHANGES[change]
    column = tallies.source.columns.index(column_name)
    random = np.random.default_rng([seed, 1000])
    size, rate = len(tallies.rows), DELAY_RATE
    quiet_days = quiet(size, CALM * rate, random)
    calm = quiet_days[-DAY * rate :]  # all that detectors with a window know
    before = by_cycle(tallies.rows, calm, rate)
    population = tallies.source.changed(changed, seed)
    drawn = quiet(size, LONGEST_DELAY * rate, random)
    counted = np.concatenate((before, by_cycle(tallies.of(population), drawn, rate)))
    calm_cells, cells = tallies.cells_of(calm, rate), tallies.cells_of(drawn, rate, population)
    cycles = Cycles(np.concatenate((calm_cells, cells), axis=1))
    found: dict[str, int | None] = {OURS: None, NEVER: None, ALWAYS: rate}
    ours = ours_of(name, rate)
    for end in range(DAY + 1, len(counted) + 1):
        alarm = ours.alarm_at(counted, cycles, end)
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
    reference = tallies.source.reference[:, [column]]
    calm_rows = tallies.source.population[quiet_days][:, [column]]
    late_rows = population[drawn][:, [column]]
    stream = np.concatenate((calm_rows[-len(calm) :], late_rows))
    for peer, test in {EVIDENTLY: "wasserstein", **EVIDENTLY_OPTIONS}.items():
        asked = range(DAY + ASKED, len(counted) + 1, ASKED)
        drifts = (
            end
            for end in asked
            if evidently_drifts(test, reference, stream[(end - DAY) * rate : end * rate])
        )
        told = next(drifts, None)
        found[peer] = None if told is None else (told - DAY) * rate
    calm_ranks, late_ranks = (ranks(reference, rows)[:, 0] for rows in (calm_rows, late_rows))
    for peer, detector in RIVER_DETECTORS.items():
        seen, new = (part[~np.isnan(part)] for part in (calm_ranks, late_ranks))
        found[peer] = river_delay(detector, seen, new)
    return found
