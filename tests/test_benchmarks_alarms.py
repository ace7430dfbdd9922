"""The rule's false alarms and its finds on streams of the alarm benchmark, in small."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import ks_2samp, wasserstein_distance

from benchmarks.alarm_streams import THRESHOLD, scored, tallies_of, tuned
from benchmarks.alarms_report import (
    ALL_TUNED,
    ALWAYS,
    KINDS_AND_RATES,
    NEVER,
    OURS,
    PEERS,
    TUNED,
    TUNED_ADWIN,
    Found,
    draw,
    report,
)
from benchmarks.candidates import least_beyond
from benchmarks.detectors import NormedWasserstein, Windows
from benchmarks.kept import Kept, Key
from benchmarks.libraries import (
    EVIDENTLY_TESTS,
    RIVER,
    evidently,
    evidently_drifts,
    ranks,
    river_alarm,
    river_delay,
)
from benchmarks.nannyml_rule import changed_streams, quiet_streams, share_of_alarms
from benchmarks.ours import GATE, Cycles, Ours
from benchmarks.streams import (
    CHANGES,
    CYCLE,
    DAY,
    RHYTHM,
    Tallies,
    bursts,
    busy_client,
    by_cycle,
    quiet,
    rhythm,
)

STREAMS = 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tallies() -> Tallies:
    return tallies_of("synthetic")


def test_quiet_streams_stay_within_the_budget(tallies: Tallies) -> None:
    """One in a hundred streams may alarm: five of twelve have a chance below 1e-7."""
    alarmed, ours = 0, Ours(tallies.weigher, 10)
    for seed in range(STREAMS):
        rows = quiet(len(tallies.rows), 30 * DAY * 10, np.random.default_rng([5, seed]))
        counted = by_cycle(tallies.rows, rows, 10)
        alarm = ours.first_alarm(
            counted, Cycles(tallies.cells_of(rows, 10), tallies.weigher.repeats)
        )
        alarmed += alarm is not None

    assert alarmed < 5


@pytest.mark.parametrize(
    ("change", "rate", "calm_cycles", "draw"),
    [
        ("90 days late = 0", 100, DAY, quiet),
        ("utilisation = 1.0", 20, 100, quiet),
        ("income x0.8", 100, DAY, quiet),
        ("age -5", 100, DAY, quiet),
        ("dependents +1", 30, 3, quiet),
        ("dependents +1", 5, 150, quiet),
        ("dependents +1", 60, 40, bursts),
        ("utilisation = 1.0", 30, 50, bursts),
    ],
)
def test_cycles_that_cannot_alarm_do_not(
    tallies: Tallies,
    change: str,
    rate: int,
    calm_cycles: int,
    draw: Callable[[int, int, np.random.Generator], NDArray[np.int64]],
) -> None:
    """The benchmark judges only those that can: asked after each cycle, the rule says the same."""
    random = np.random.default_rng(3)
    calm = draw(len(tallies.rows), calm_cycles * rate, random)
    changed = tallies.source.changed(CHANGES[change][1], 3)[:500]
    late = draw(500, 40 * rate, random)
    counted = np.concatenate(
        (by_cycle(tallies.rows, calm, rate), by_cycle(tallies.of(changed), late, rate))
    )
    parts = tallies.cells_of(calm, rate), tallies.cells_of(late, rate, changed)
    cycles = Cycles(np.concatenate(parts, axis=1), tallies.weigher.repeats)
    ours = Ours(tallies.weigher, rate)
    ends = range(max(-(-GATE // rate), calm_cycles - 10), len(counted) + 1)
    judged = [end for end in ends if ours.alarm_at(counted, cycles, end)]

    assert judged
    assert set(judged) <= set(ours.possible(counted))
    assert set(judged) <= set(ours.possible(counted, cycles))


@pytest.mark.parametrize("bound", [0.002, 0.3, 0.97])
@pytest.mark.parametrize("rows", [0, 3, 40, 700])
def test_less_rows_than_its_limit_are_never_enough_evidence(rows: int, bound: float) -> None:
    least = 12.0
    limit = float(least_beyond(rows, np.array([bound]), np.array([least]))[0])
    for many in (rows, rows + 1, 2 * rows + 10, 5 * rows + 400, 3000):
        s = np.arange(many + 1.0)
        gain = rel_entr(s, many * bound) + rel_entr(many - s, many * (1 - bound))
        enough = s[(gain >= least) & (s > many * bound)]
        assert np.all(enough - many * bound >= limit - 1e-9)


def test_hardly_any_quiet_cycle_needs_to_be_judged(tallies: Tallies) -> None:
    rows = quiet(len(tallies.rows), 4 * DAY * 10, np.random.default_rng(8))

    assert len(Ours(tallies.weigher, 10).possible(by_cycle(tallies.rows, rows, 10))) < 20


@pytest.mark.parametrize("rate", [1, 10, 40])
def test_the_least_design_effect_is_about_that_of_repeats(tallies: Tallies, rate: int) -> None:
    rows = bursts(len(tallies.rows), 2 * DAY * rate, np.random.default_rng(rate))
    cycles = Cycles(tallies.cells_of(rows, rate), tallies.weigher.repeats)
    ours = Ours(tallies.weigher, rate)
    least = ours.least_effects(cycles)
    ends = [ours.first, DAY - 1, DAY, DAY + 1, DAY + 100, 2 * DAY]
    windows = [cycles.held(max(end - DAY, 0), end) for end in ends]

    exact = np.array([tallies.weigher.repeats.of(window).design_effect() for window in windows])
    assert np.all(least[ends] <= exact + 1e-9)
    assert np.all(least[ends] > 0.9 * exact)
    assert exact.min() > 3


def test_what_the_first_paragraph_of_the_issue_says_is_so(real_rows: Path) -> None:
    """With 2,000 real rows, Evidently's default misses three changes that the rule finds."""
    del real_rows
    tallies = tallies_of("real")
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
        alarm = Ours(tallies.weigher, 100).alarm_at(
            counted, Cycles(cells, tallies.weigher.repeats), DAY + 20
        )
        assert alarm is not None
        assert column in {at for at, _ in alarm.groups}


def test_it_flags_what_did_not_change_as_that_paragraph_says(real_rows: Path) -> None:
    """Evidently's default on quiet windows of 200 rows, and on quiet days of 10 rows a cycle."""
    del real_rows
    tallies = tallies_of("real")
    source = tallies.source
    random = np.random.default_rng(3)
    wasserstein = NormedWasserstein(source.reference, source.population)
    windows = [wasserstein.distances(quiet(len(tallies.rows), 200, random)) for _ in range(200)]
    flagged = np.mean(np.array(windows) >= THRESHOLD, axis=0)
    assert 0.25 < flagged.max() < 0.5

    days, with_alarm = 20, 0
    ours = Ours(tallies.weigher, 10)
    for _ in range(days):
        rows = quiet(len(tallies.rows), DAY * 10, random)
        looks = (wasserstein.distances(rows[:end]) for end in range(GATE, len(rows) + 1, 100))
        with_alarm += any(look.max() >= THRESHOLD for look in looks)
        counted, cells = by_cycle(tallies.rows, rows, 10), tallies.cells_of(rows, 10)
        for cycle in (20, 60, 150, DAY):
            assert ours.alarm_at(counted, Cycles(cells, tallies.weigher.repeats), cycle) is None
    assert with_alarm >= 0.8 * days


def test_a_tally_of_many_rows_is_that_of_their_counts(tallies: Tallies) -> None:
    rows = np.random.default_rng(1).integers(0, len(tallies.rows), 300)
    chunk = tallies.source.chunk(tallies.source.population[rows])

    (summed,) = by_cycle(tallies.rows, rows, 300)
    assert summed.tolist() == tallies.weigher.events.tally(tallies.cells.summarise(chunk)).tolist()


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


def test_evidentlys_default_is_evidentlys(tallies: Tallies) -> None:
    """What the benchmark works out for each window is what the library itself says."""
    rows = np.random.default_rng(3).integers(0, len(tallies.rows), 1500)
    reference, population = scored("synthetic")
    found = NormedWasserstein(reference, population).distances(rows)
    for column, distance in enumerate(found.tolist()):
        expected, drifted = evidently("wasserstein", reference[:, column], population[rows, column])
        assert distance == pytest.approx(expected, rel=1e-9)
        assert (distance >= 0.1) == drifted


@pytest.mark.parametrize("test", EVIDENTLY_TESTS)
def test_evidentlys_tests_see_a_large_change_and_not_the_same_rows(test: str) -> None:
    values = np.random.default_rng(5).normal(size=(4000, 1))

    assert evidently_drifts(test, values, values + 1)
    assert not evidently_drifts(test, values, values)


@pytest.mark.parametrize("detector", RIVER)
def test_rivers_detectors_tell_of_a_change_by_rows(detector: str) -> None:
    random = np.random.default_rng(5)
    before, after = random.random(300), random.random(3000) / 5

    delay = river_delay(detector, before, after)
    assert delay is not None
    assert delay <= 300
    assert river_alarm(detector, np.full(2000, 0.5)) is None


def test_ranks_are_shares_of_the_reference() -> None:
    reference = np.array([[1.0], [2.0], [np.nan], [3.0], [4.0]])
    found = ranks(reference, np.array([[0.0], [2.5], [np.nan], [9.0]]))

    assert found[[0, 1, 3], 0].tolist() == [0, 0.5, 1]
    assert np.isnan(found[2, 0])


def test_what_was_found_is_kept_for_the_next_time(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    keys: list[Key] = [("square", number) for number in range(6)]
    with ProcessPoolExecutor(1) as pool:
        parts = iter([True, False])
        first = list(Kept(file).find(pool, _square, keys, lambda: next(parts), at_once=4))
        second = list(Kept(file).find(pool, _square, keys, lambda: True))

    assert first == [(key, int(key[1]) ** 2) for key in keys[:4]]
    assert second == [(key, int(key[1]) ** 2) for key in keys]
    assert len(file.read_text().splitlines()) == 6


def _square(key: Key) -> int:
    return int(key[1]) ** 2


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


def test_a_busy_client_comes_once_an_hour_beside_others() -> None:
    rows = busy_client(10_000, 30 * DAY * 100, np.random.default_rng(4)).reshape(720, 1200)
    repeats = [int(np.unique(hour, return_counts=True)[1].max()) for hour in rows]
    assert max(repeats) <= 21
    assert np.mean(repeats) == pytest.approx(15, abs=0.5)


def test_the_halves_of_a_rhythm_differ_by_as_much_as_it_swings(tallies: Tallies) -> None:
    age = tallies.source.population[:, tallies.source.columns.index("age")]
    noon = DAY // 4  # of a sine that begins at midnight
    rows = tallies.by_age[rhythm(len(age), 30 * DAY * 100, np.random.default_rng(4))]
    hours = rows.reshape(30, DAY, 100)[:, noon - 6 : noon + 6].ravel()
    distance = ks_2samp(age[hours], age, method="asymp").statistic
    assert distance == pytest.approx(RHYTHM, abs=0.006)
    assert ks_2samp(age[rows], age, method="asymp").statistic < 0.005


def test_tuned_thresholds_give_each_column_its_part() -> None:
    random = np.random.default_rng(1)
    noise = np.array([0.01, 0.1])
    quiet_ones = [
        {peer: (noise * random.lognormal(0, 0.2, 2)).tolist() for peer in TUNED}
        | {TUNED_ADWIN: [1e-4 if seed % 100 else 1e-6]}
        for seed in range(400)
    ]
    found = tuned(quiet_ones, 0.01)
    for peer in TUNED:
        above = [np.any(np.array(each[peer]) > np.array(found[peer])) for each in quiet_ones]
        assert np.mean(above) == pytest.approx(0.01, abs=0.003)
        assert found[peer][1] / found[peer][0] == pytest.approx(10, rel=0.1)
    assert found[TUNED_ADWIN] == [1e-4]


def test_what_other_code_found_is_not_kept(tmp_path: Path) -> None:
    file, code = tmp_path / "kept.jsonl", tmp_path / "code.py"
    code.write_text("1")
    with ProcessPoolExecutor(1) as pool:
        list(Kept(file, [code]).find(pool, _square, [("square", 3)], lambda: True))
        assert list(Kept(file, [code]).find(pool, _square, [("square", 3)], lambda: False))
        code.write_text("2")
        assert not list(Kept(file, [code]).find(pool, _square, [("square", 3)], lambda: False))


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    found = Found(costs={"real": (12.3, 20.1)})
    for detector in (
        OURS,
        *PEERS,
        NEVER,
        ALWAYS,
    ):
        for kind, rate in KINDS_AND_RATES:
            found.alarms["real", kind, rate, detector] = [detector == ALWAYS] * 10
    for change in CHANGES:
        for detector in (
            OURS,
            *ALL_TUNED,
            *PEERS,
            NEVER,
        ):
            late = None if detector == NEVER else 400
            found.delays["real", change, detector] = [200 if detector == OURS else late] * 3
    text = report(found, ["--streams 4"])
    assert "Made by `python -m benchmarks.alarms --streams 4`;" in text

    assert "real rows: 12 ms (target 50); the first one after a start: 20 ms" in text
    assert "| monitorkit | 0.0% (10: 25.9%) |" in text
    assert "| always | 100.0% (10: 100.0%) |" in text
    assert "| age -5 | 200 / 200 | 400 / 400 |" in text
    assert "| missed | 0.50 |" in text
    assert "| quiet streams with an alarm (upper bound) | ≤ 1% (≤ 1.9%) | real | 0.0% of 30" in text
    assert "| our rows / the best tuned peer's, age -5 | ≤ 1.2 | real | 0.50 | yes |" in text
    assert "| changes missed | 0 | real | 0 of 24 | yes |" in text
    del found.delays["real", "age -5", OURS]  # time was short
    assert "| age -5 | - | 400 / 400 |" in report(found)
    draw(found, tmp_path / "alarms.png")
    assert (tmp_path / "alarms.png").stat().st_size > 10_000


def test_nannyml_itself_sees_the_rows_that_its_rule_sees(tallies: Tallies) -> None:
    (stream,) = changed_streams("synthetic", "dependents +1", 1)
    before, now = stream.reference[:, 0], stream.rows[:, 0]
    assert stream.ours == 200
    assert now.size == DAY * 100
    assert np.nanmean(now) == pytest.approx(np.nanmean(before) + 1, abs=0.05)

    (quiet_one,) = quiet_streams("synthetic", 1, 1)
    windows = Windows(tallies)
    columns = quiet_one.rows.shape[1]
    assert columns == windows.columns
    assert len(quiet_one.rows) == 30 * DAY
    assert quiet_one.ours is not None
    assert quiet_one.ours % 200 == 0


def test_a_stream_without_an_alarm_counts_as_one() -> None:
    assert share_of_alarms([None, 200]).startswith("50.0% (2: ")
