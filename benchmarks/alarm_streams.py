"""One stream of `benchmarks.alarms`: who raises a false alarm in it, or when a change is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

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
    TUNED_ADWIN,
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
    busy_client,
    by_cycle,
    quiet,
    real,
    rhythm,
    synthetic,
)

DAYS = 30
KINDS = {"quiet": quiet, "bursts": bursts, "rhythm": rhythm, "busy client": busy_client}
SOURCES = {"synthetic": synthetic, "real": real}

SPLITS = 10
"""Streams take turns with so many references, and what is left to draw rows from."""

DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""That ADWIN is tuned over: the smaller, the fewer alarms."""

Thresholds = Mapping[str, Sequence[float]]
"""Of those that are tuned: for each column, or ADWIN's delta."""

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
def tallies_of(name: str, split: int = 0) -> Tallies:
    """Of a source, once for each process."""
    source = SOURCES[name](split)
    assert source is not None  # noqa: S101 - asked before
    return Tallies(source)


@cache
def ours_of(name: str, split: int, rate: int) -> Ours:
    """The rule for a source's streams of a rate, once for each process."""
    return Ours(tallies_of(name, split).weigher, rate)


def drawn_rows(tallies: Tallies, kind: str, rate: int, seed: int) -> NDArray[np.int64]:
    """Which rows of the population a stream without a change is made of."""
    random = np.random.default_rng([seed, rate, list(KINDS).index(kind)])
    rows = KINDS[kind](len(tallies.rows), DAYS * DAY * rate, random)
    return tallies.by_age[rows] if kind == "rhythm" else rows


def our_stream(key: Key) -> bool:
    """Whether monitorkit raises a false alarm in 30 days.

    Args:
        key: "ours", source, kind of the stream, rows in a cycle, seed.
    """
    name, kind, rate, seed = str(key[1]), str(key[2]), int(key[3]), int(key[4])
    split = seed % SPLITS
    tallies = tallies_of(name, split)
    rows = drawn_rows(tallies, kind, rate, seed)
    counted, cells = by_cycle(tallies.rows, rows, rate), tallies.cells_of(rows, rate)
    ours = ours_of(name, split, rate)
    return (
        ours.first_alarm(counted, Cycles(cells, tallies.weigher.repeats), bursty=kind == "bursts")
        is not None
    )


def others_stream(key: Key, thresholds: Thresholds) -> Mapping[str, bool]:
    """Whether each of the others raises one; as `our_stream`.

    Args:
        key: "others", and so on.
        thresholds: of those that are tuned, which they are at one rate alone.
    """
    name, kind, rate, seed = str(key[1]), str(key[2]), int(key[3]), int(key[4])
    split = seed % SPLITS
    tallies = tallies_of(name, split)
    rows = drawn_rows(tallies, kind, rate, seed)
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
        NANNYML: bool(np.any(chunks["js"] > three_deviations(name, split))),
    }
    reference, population = scored(name, split)
    ends = range(DAY, len(rows) // rate + 1, ASKED)
    last_days = [rows[(end - DAY) * rate : end * rate] for end in ends]
    wasserstein = NormedWasserstein(reference, population)
    found[EVIDENTLY] = any(
        bool(np.any(wasserstein.distances(part) >= THRESHOLD)) for part in last_days
    )
    for peer, test in EVIDENTLY_OPTIONS.items():
        found[peer] = any(evidently_drifts(test, reference, population[at]) for at in last_days)
    columns = values_of(rows, reference, population)
    for peer, detector in RIVER_DETECTORS.items():
        found[peer] = any(river_alarm(detector, column) is not None for column in columns)
    if rate == DELAY_RATE:
        for peer, (_, statistic) in _of_tuned(name, split, counted).items():
            found[peer] = bool(np.any(statistic > np.array(thresholds[peer])))
        (delta,) = thresholds[TUNED_ADWIN]
        found[TUNED_ADWIN] = _adwin_alarms(columns, delta)
    return found


def values_of(
    rows: NDArray[np.int64], reference: NDArray[np.float64], population: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """What river's detectors see of each column of a stream."""
    values = ranks(reference, population)[rows]
    return [column[~np.isnan(column)] for column in values.T]


def _adwin_alarms(columns: Sequence[NDArray[np.float64]], delta: float) -> bool:
    return any(river_alarm("ADWIN", column, delta=delta) is not None for column in columns)


def _of_tuned(
    name: str, split: int, counted: NDArray[np.int64]
) -> Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """For each that is tuned but ADWIN: ends of windows, (windows, columns) of its statistic."""
    windows = Windows(tallies_of(name, split))
    found = {}
    of_lengths: dict[tuple[int, int], tuple[NDArray[np.int64], Mapping[str, Any]]] = {}
    for peer, (statistic, length, every) in TUNED.items():
        if (length, every) not in of_lengths:
            of_lengths[length, every] = windows.statistics(counted, length, every=every)
        ends, values = of_lengths[length, every]
        if statistic == "js in deviations":
            mean, deviation = chunk_moments(name, split)
            found[peer] = ends, (values["js"] - mean) / deviation
        else:
            found[peer] = ends, values[statistic]
    return found


def largest(key: Key) -> Mapping[str, Sequence[float]]:
    """What those that are tuned say of a quiet stream; as `our_stream`.

    Returns:
        The largest value of each statistic, by column; and the largest delta of `DELTAS` with which
        ADWIN is silent (0: none is).
    """
    name, seed = str(key[1]), int(key[4])
    split = seed % SPLITS
    tallies = tallies_of(name, split)
    rows = drawn_rows(tallies, "quiet", DELAY_RATE, seed)
    counted = by_cycle(tallies.rows, rows, DELAY_RATE)
    found: dict[str, Sequence[float]] = {
        peer: values.max(axis=0).tolist()
        for peer, (_, values) in _of_tuned(name, split, counted).items()
    }
    columns = values_of(rows, *scored(name, split))
    silent = (delta for delta in DELTAS if not _adwin_alarms(columns, delta))
    found[TUNED_ADWIN] = [next(silent, 0.0)]
    return found


def tuned(quiet_ones: Sequence[Mapping[str, Sequence[float]]], share: float) -> Thresholds:
    """Thresholds with which such a share of quiet streams has an alarm, shared by the columns.

    A column's threshold is a multiple of the median of its largest values, one multiple for all.
    """
    found: dict[str, Sequence[float]] = {}
    for peer in TUNED:
        highest = np.array([each[peer] for each in quiet_ones])
        usual = np.maximum(np.median(highest, axis=0), 1e-9)
        multiple = np.quantile((highest / usual).max(axis=1), 1 - share)
        found[peer] = (multiple * usual).round(9).tolist()
    silent = np.array([each[TUNED_ADWIN][0] for each in quiet_ones])
    right = (delta for delta in DELTAS if np.mean(silent < delta) <= share)
    found[TUNED_ADWIN] = [next(right, DELTAS[-1])]
    return found


@cache
def scored(name: str, split: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows of the reference and of the population, with their scores."""
    source = tallies_of(name, split).source
    return with_scores(source, source.reference), with_scores(source, source.population)


def with_scores(source: Source, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with their score as one more column."""
    return np.column_stack((rows, source.chunk(rows).scores))


def three_deviations(name: str, split: int) -> NDArray[np.float64]:
    """(columns,) NannyML's thresholds, of chunks of the reference."""
    mean, deviation = chunk_moments(name, split)
    return mean + 3 * deviation


@cache
def chunk_moments(name: str, split: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(columns,) mean and deviation of the Jensen-Shannon distance, of chunks of the reference."""
    tallies = tallies_of(name, split)
    rows = tallies.of(tallies.source.reference)
    cut = np.arange(len(rows) // CHUNK_ROWS * CHUNK_ROWS)
    chunks = by_cycle(rows, cut, CHUNK_ROWS)
    _, found = Windows(tallies).statistics(chunks, 1)
    return found["js"].mean(axis=0), np.maximum(found["js"].std(axis=0), 1e-9)


def one_change(key: Key, thresholds: Thresholds) -> Mapping[str, int | None]:
    """Rows after a change until each detector tells of its column; None: not in a day.

    Args:
        key: "change", source, change, seed.
        thresholds: of those that are tuned.
    """
    name, change, seed = str(key[1]), str(key[2]), int(key[3])
    split = seed % SPLITS
    tallies = tallies_of(name, split)
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
    cycles = Cycles(np.concatenate((calm_cells, cells), axis=1), tallies.weigher.repeats)
    found: dict[str, int | None] = {OURS: None, NEVER: None, ALWAYS: rate}
    ours = ours_of(name, split, rate)
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
    found[NANNYML] = first(chunks["js"][:, column] > three_deviations(name, split)[column], ends)
    for peer, (ends, values) in _of_tuned(name, split, counted).items():
        found[peer] = first(values[:, column] > thresholds[peer][column], ends)
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
    seen, new = (part[~np.isnan(part)] for part in (calm_ranks, late_ranks))
    for peer, detector in RIVER_DETECTORS.items():
        found[peer] = river_delay(detector, seen, new)
    delay = river_delay("ADWIN", seen, new, delta=thresholds[TUNED_ADWIN][0])
    # It could tell after each row; whoever looks once in a cycle hears of it at its end.
    found[TUNED_ADWIN] = None if delay is None else -(-delay // rate) * rate
    return found
