"""The rule's false alarms and its finds on streams of the alarm benchmark, in small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from benchmarks import alarms
from benchmarks.alarms_report import (
    ALWAYS,
    KINDS,
    NEVER,
    OURS,
    PEERS,
    RATES,
    TUNED,
    Found,
    draw,
    report,
)
from benchmarks.detectors import NormedWasserstein, Ours, Windows
from benchmarks.streams import (
    CHANGES,
    CYCLE,
    DAY,
    Tallies,
    bursts,
    by_cycle,
    quiet,
    rhythm,
)

STREAMS = 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tallies() -> Tallies:
    return alarms.tallies_of("synthetic")


def test_quiet_streams_stay_within_the_budget(tallies: Tallies) -> None:
    """One in a hundred streams may alarm: five of twelve have a chance below 1e-7."""
    alarmed = 0
    for seed in range(STREAMS):
        rows = quiet(len(tallies.rows), 30 * DAY * 10, np.random.default_rng([5, seed]))
        counted = by_cycle(tallies.rows, rows, 10)
        alarm = Ours(tallies.rule).first_alarm(counted, tallies.cells_of(rows, 10), 10)
        alarmed += alarm is not None

    assert alarmed < 5


def test_cycles_that_cannot_alarm_do_not(tallies: Tallies) -> None:
    """The benchmark judges only those that can; here all of a day with a change in it."""
    random = np.random.default_rng(3)
    size = len(tallies.rows)
    calm = quiet(size, DAY * 100, random)
    before = by_cycle(tallies.rows, calm, 100)
    changed = tallies.source.changed(CHANGES["90 days late = 0"][1], 3)[:500]
    late = random.integers(0, 500, 30 * 100)
    after = by_cycle(tallies.of(changed), late, 100)
    parts = tallies.cells_of(calm, 100), tallies.cells_of(late, 100, changed)
    cells = np.concatenate(parts, axis=1)
    counted = np.concatenate((before, after))
    ours = Ours(tallies.rule)
    ends = range(DAY, len(counted) + 1)
    judged = [end for end in ends if ours.alarm_at(counted, cells, end, 100)]

    assert judged
    assert set(judged) <= set(ours.possible(counted))
    assert set(judged) <= set(ours.possible(counted, cells))


def test_what_the_first_paragraph_of_the_issue_says_is_so(real_rows: Path) -> None:
    """With 2,000 real rows, Evidently's default misses three changes that the rule finds."""
    del real_rows
    tallies = alarms.tallies_of("real")
    source = tallies.source
    for change, most in (
        ("utilisation = 1.0", 0.1),
        ("utilisation x3", 0.1),
        ("90 days late = 0", 0.1),
    ):
        name, apply = CHANGES[change]
        column = source.columns.index(name)
        random = np.random.default_rng(1)  # of others, some have an outlier more
        window = source.changed(apply, 4)[random.integers(0, len(source.population), 2000)]
        reference = source.reference[:, column]
        distance = wasserstein_distance(window[:, column], reference) / np.std(reference)
        assert distance < most

        calm = quiet(len(tallies.rows), DAY * 100, random)
        before = by_cycle(tallies.rows, calm, 100)
        after = by_cycle(tallies.of(window), np.arange(2000), 100)
        counted = np.concatenate((before, after))
        late = tallies.cells_of(np.arange(2000), 100, window)
        cells = np.concatenate((tallies.cells_of(calm, 100), late), axis=1)
        alarm = Ours(tallies.rule).alarm_at(counted, cells, DAY + 20, 100)
        assert alarm is not None
        assert column in {at for at, _ in alarm.groups}


def test_a_tally_of_many_rows_is_that_of_their_counts(tallies: Tallies) -> None:
    rows = np.random.default_rng(1).integers(0, len(tallies.rows), 300)
    chunk = tallies.source.chunk(tallies.source.population[rows])

    (summed,) = by_cycle(tallies.rows, rows, 300)
    assert summed.tolist() == tallies.rule.events.tally(tallies.cells.summarise(chunk)).tolist()


def test_the_peers_statistics_are_those_of_scipy(tallies: Tallies) -> None:
    """At values that the rule watches; Kolmogorov and Smirnov's distance can be a little more."""
    rows = np.random.default_rng(2).integers(0, len(tallies.rows), 2000)
    window = tallies.source.population[rows]
    _, found = Windows(tallies).statistics(by_cycle(tallies.rows, rows, 2000), 1)
    exact = NormedWasserstein(tallies.source.reference, tallies.source.population).distances(rows)
    for column, values in enumerate(window.T):
        reference = tallies.source.reference[:, column]
        now, before = values[~np.isnan(values)], reference[~np.isnan(reference)]
        statistic = ks_2samp(now, before, method="asymp").statistic
        assert statistic - 0.02 <= found["ks"][0, column] <= statistic + 1e-12
        expected = wasserstein_distance(now, before) / np.std(before)
        assert exact[column] == pytest.approx(expected, rel=1e-9)


def test_bursts_repeat_rows_and_a_rhythm_has_two_halves() -> None:
    random = np.random.default_rng(0)
    repeated = pd.Series(bursts(10_000, 5000, random))
    runs = (repeated != repeated.shift()).cumsum().value_counts()
    assert runs.max() <= 40  # two clients in a row may be the same
    assert 8 < runs.mean() < 13

    rows = rhythm(1000, 30 * DAY * 10, random).reshape(30, DAY, 10) < 500
    by_hour = rows.mean(axis=(0, 2)).reshape(24, -1).mean(axis=1)
    assert by_hour.max() == pytest.approx(0.54, abs=0.02)
    assert rows.mean() == pytest.approx(0.5, abs=0.01)
    assert DAY * CYCLE.total_seconds() == 86400


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    found = Found(cost=12.3)
    for detector in (
        OURS,
        *PEERS,
        NEVER,
        ALWAYS,
    ):
        for kind in KINDS:
            for rate in RATES:
                found.alarms["real", kind, rate, detector] = [detector == ALWAYS] * 10
    for change in CHANGES:
        for detector in (
            OURS,
            *TUNED,
            *PEERS,
            NEVER,
        ):
            late = None if detector == NEVER else 400
            found.delays["real", change, detector] = [200 if detector == OURS else late] * 3
    text = report(found, streams=10, others=10, changes=3)

    assert "takes 12 ms" in text
    assert "| monitorkit | 0.0% (25.9%) |" in text
    assert "| always | 100.0% (100.0%) |" in text
    assert "| age -5 | 200 / 200 | 400 / 400 |" in text
    assert "| missed | 0.50 |" in text
    draw(found, tmp_path / "alarms.png")
    assert (tmp_path / "alarms.png").stat().st_size > 10_000
