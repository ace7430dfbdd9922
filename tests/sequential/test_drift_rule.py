"""monitorkit/sequential/rule.py: what is called drifted, stable or undecided."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from compared import one_column
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from monitorkit import Bucket, Chunk, Timeline
from monitorkit.cells import ReferenceCells
from monitorkit.counts import Counts
from monitorkit.sequential.events import Limits, Measure
from monitorkit.sequential.rule import Rule
from monitorkit.sequential.verdicts import Judged, Look
from monitorkit.sequential.weighing import ASSUMED_DESIGN_EFFECT

NOW = datetime(2026, 3, 1, 12, 32, tzinfo=UTC)
LENGTH = timedelta(minutes=4)
COLUMNS = ("amount", "late")
Rows = NDArray[np.float64]


def population(random: np.random.Generator, rows: int) -> Rows:
    """A heavy-tailed amount, some of it missing; five in a hundred were late."""
    amount = np.exp(random.normal(8, 0.7, rows)).round()
    amount[random.random(rows) < 0.2] = np.nan
    late = random.choice([0.0, 1.0, 2.0], rows, p=[0.95, 0.03, 0.02])
    return np.stack((amount, late), axis=1)


def chunk(rows: Rows) -> Chunk:
    scores = 1 / (1 + np.exp(8 - np.log(np.nan_to_num(np.maximum(rows[:, 0], 1), nan=3000.0))))
    return Chunk.of_rows(COLUMNS, rows, scores)


CELLS = ReferenceCells(chunk(population(np.random.default_rng(1), 6000)))
RULE = Rule(CELLS, (0, 1, 2), Limits(), rate=1 / (365 * 86400), confidence=0.99)


def timeline(parts: list[Rows], now: datetime = NOW) -> Timeline[Counts]:
    buckets = [
        Bucket(now - (len(parts) - at) * LENGTH, len(rows), CELLS.summarise(chunk(rows)), LENGTH)
        for at, rows in enumerate(parts)
    ]
    return Timeline(buckets, now, CELLS.merge, bucket=LENGTH)


def day(seed: int = 2, rows: int = 100, buckets: int = 120) -> list[Rows]:
    random = np.random.default_rng(seed)
    return [population(random, rows) for _ in range(buckets)]


def then(change: Callable[[Rows], None], buckets: int, seed: int = 3) -> list[Rows]:
    parts = day(seed, buckets=buckets)
    for part in parts:
        change(part)
    return parts


def found(look: Look, column: str, measure: str) -> Judged:
    (judged,) = (
        each
        for each in look.judged
        if CELLS.names[each.column] == column and each.measure == measure
    )
    return judged


def interval(judged: Judged) -> tuple[float, float]:
    assert judged.interval is not None
    return judged.interval


def drifted(look: Look) -> set[tuple[str, str]]:
    return {
        (CELLS.names[each.column], each.measure)
        for each in look.judged
        if each.verdict == "drifted"
    }


def test_quiet_rows_are_stable_given_enough_of_them() -> None:
    look = RULE.look(timeline(day(rows=400)))

    undecided = [(each.column, each.measure) for each in look.judged if each.verdict != "stable"]
    assert undecided == []
    assert look.estimated
    assert look.design_effect < 1.2


def test_few_quiet_rows_are_undecided_and_it_says_how_many_are_needed() -> None:
    judged = found(RULE.look(timeline(day(buckets=10))), "amount", "distance")

    assert judged.verdict == "undecided"
    assert judged.rows_needed is not None
    assert 4_000 < judged.rows_needed < 30_000
    enough = timeline(day(rows=2 * judged.rows_needed // 100, buckets=120))
    assert found(RULE.look(enough), "amount", "distance").verdict == "stable"


def halve(rows: Rows) -> None:
    rows[:, 0] /= 2


def nobody_late(rows: Rows) -> None:
    rows[:, 1] = 0


def all_missing(rows: Rows) -> None:
    rows[:, 0] = np.nan


def negative(rows: Rows) -> None:
    rows[::20, 0] = -1


def new_category(rows: Rows) -> None:
    rows[::20, 1] = 1.5


@pytest.mark.parametrize(
    ("change", "buckets", "column", "measure"),
    [
        (halve, 2, "amount", "distance"),
        (halve, 2, "probability", "distance"),
        (nobody_late, 12, "late", "shares"),
        (all_missing, 1, "amount", "missing"),
        (negative, 8, "amount", "out_of_range"),
        (new_category, 2, "late", "new_values"),
    ],
)
def test_a_change_is_found_and_said_since_when(
    change: Callable[[Rows], None], buckets: int, column: str, measure: str
) -> None:
    look = RULE.look(timeline(day() + then(change, buckets)))
    judged = found(look, column, measure)

    assert judged.verdict == "drifted"
    assert judged.log10_evidence >= judged.log10_needed
    assert abs(judged.since - (NOW - buckets * LENGTH)) <= 2 * LENGTH
    assert look.columns  # to tell which way it went
    unchanged = {"amount": "late", "late": "amount"}[column] if column != "probability" else "late"
    assert unchanged not in {name for name, _ in drifted(look)}


def test_rare_mass_that_goes_is_no_distance_yet_a_share() -> None:
    look = RULE.look(timeline(day() + then(nobody_late, 12)))
    share = found(look, "late", "shares")

    assert drifted(look) == {("late", "shares")}
    assert (share.event, share.value) in {("from 1 on", 0.0), ("value 0", 1.0)}
    assert share.reference == pytest.approx(0.05, abs=0.01)
    assert interval(share)[0] <= share.value <= interval(share)[1] < share.lowest


def test_a_distance_is_scipys_and_lies_in_its_interval() -> None:
    parts = day()[:100] + then(halve, 6)
    judged = found(RULE.look(timeline(parts)), "amount", "distance")
    count = (NOW - judged.since) // LENGTH
    window = np.concatenate(parts[-count:])[:, 0]
    reference = population(np.random.default_rng(1), 6000)[:, 0]
    expected = stats.ks_2samp(window[~np.isnan(window)], reference[~np.isnan(reference)])

    assert judged.value == pytest.approx(expected.statistic, abs=1e-12)
    assert judged.highest < interval(judged)[0] < judged.value < interval(judged)[1]


def test_total_variation_is_that_of_few_values() -> None:
    def shuffled(rows: Rows) -> None:
        rows[:, 1] = np.where(np.arange(len(rows)) % 4 == 0, 2.0, rows[:, 1])

    look = RULE.look(timeline(day() + then(shuffled, 8)))
    judged = found(look, "late", "distance")

    window = np.concatenate(then(shuffled, 8))[:, 1]
    reference = population(np.random.default_rng(1), 6000)[:, 1]
    shares = [[np.mean(rows == value) for value in (0, 1, 2)] for rows in (window, reference)]
    assert judged.value == pytest.approx(np.abs(np.diff(shares, axis=0)).sum() / 2, abs=0.02)
    assert judged.verdict == "drifted"


def test_a_difference_within_the_tolerance_is_none_however_many_rows_show_it() -> None:
    """Ten million independent rows, two in a hundred of which are from just above the median
    instead of from just below it; a test for equality is sure of that after a tenth of them.
    """
    random = np.random.default_rng(9)
    source = population(random, 1_000_000)[:, 0]
    low, middle, high = np.nanquantile(source, (0.4, 0.5, 0.6))
    above = source[(source > middle) & (source <= high)]
    parts = []
    for rows in day(rows=100_000, buckets=100):
        below = (rows[:, 0] > low) & (rows[:, 0] <= middle)
        moved = np.flatnonzero(below & (random.random(len(rows)) < 0.2))
        rows[moved, 0] = random.choice(above, moved.size)
        parts.append(rows)
    window = timeline(parts)
    unchanged = source[np.isfinite(source)]
    tenth = np.concatenate(parts[:10])[:, 0]
    assert stats.ks_2samp(tenth[np.isfinite(tenth)], unchanged).pvalue < 1e-12
    for buckets in range(10, 101, 10):
        seen = Timeline(
            window.buckets[:buckets],
            window.buckets[buckets - 1].start + LENGTH,
            CELLS.merge,
            bucket=LENGTH,
        )
        assert drifted(RULE.look(seen)) == set()
    look = RULE.look(window)

    judged = found(look, "amount", "distance")
    assert judged.rows > 7_900_000  # that have an amount
    assert look.design_effect < 1.2
    assert judged.value == pytest.approx(0.02, abs=0.015)  # the reference is a sample itself
    assert {each.verdict for each in look.judged} == {"stable"}


def test_repeated_rows_count_as_few() -> None:
    random = np.random.default_rng(4)
    bursts = [np.repeat(population(random, 8), 12, axis=0) for _ in range(120)]
    look = RULE.look(timeline(bursts))

    assert look.design_effect == pytest.approx(12, rel=0.35)
    assert not drifted(look)
    judged = found(look, "amount", "distance")
    assert judged.effective == pytest.approx(judged.rows / look.design_effect)


def test_too_short_a_history_is_taken_for_one_of_bursts() -> None:
    rule = Rule(CELLS, (1,), Limits(), rate=1e-8, confidence=0.99)  # no column shows repeats
    look = rule.look(timeline(day(buckets=2)))

    assert not look.estimated
    assert look.design_effect == ASSUMED_DESIGN_EFFECT


def test_rows_from_before_a_recovery_do_not_count_again() -> None:
    window = timeline(then(halve, 100) + day(rows=200, buckets=90))
    key: tuple[int, Measure] = (0, "distance")
    assert found(RULE.look(window), "amount", "distance").verdict == "drifted"

    back = found(RULE.look(window, drifted_before=[key]), "amount", "distance")
    assert back.verdict == "stable"
    assert back.since >= NOW - 90 * LENGTH

    later = RULE.look(window, not_before={key: back.since})
    assert ("amount", "distance") not in drifted(later)


def test_a_drift_that_goes_on_is_not_called_over() -> None:
    window = timeline(day(buckets=60) + then(halve, 60))

    assert (
        found(RULE.look(window, drifted_before=[(0, "distance")]), "amount", "distance").verdict
        == "drifted"
    )


def test_nothing_is_said_of_a_window_without_rows() -> None:
    assert RULE.look(Timeline([], NOW, CELLS.merge, bucket=LENGTH)).judged == ()


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1.0])),
        min_size=1,
        max_size=30,
    ),
    reference=st.lists(st.one_of(st.just(np.nan), st.floats(-10, 10)), min_size=1, max_size=30),
)
def test_any_reference_and_window_can_be_judged(
    values: list[float], reference: list[float]
) -> None:
    cells = ReferenceCells(one_column(reference))
    rule = Rule(cells, (0, 1), Limits(), rate=1e-6, confidence=0.99)
    summary = cells.summarise(one_column(values))
    look = rule.look(
        Timeline([Bucket(NOW - LENGTH, 1, summary, LENGTH)], NOW, cells.merge, bucket=LENGTH)
    )

    for judged in look.judged:
        low, high = interval(judged)
        assert 0 <= judged.value <= 1
        assert 0 <= low <= judged.value + 1e-9
        assert judged.value - 1e-9 <= high <= 1


def test_what_is_missing_is_told_of_all_rows_also_where_few_have_a_value() -> None:
    """The distance of the few values has a large error in the reference, and they have not."""
    random = np.random.default_rng(5)

    def filled(share: float, rows: int) -> Chunk:
        values = random.normal(size=(rows, 1))
        values[random.random(rows) >= share] = np.nan
        return Chunk.of_rows(("a",), values, random.random(rows))

    cells = ReferenceCells(filled(0.02, 6000))
    rule = Rule(cells, (0,), Limits(), rate=1 / (365 * 86400), confidence=0.99)
    buckets = [
        Bucket(NOW - (20 - at) * LENGTH, 1000, cells.summarise(filled(0.18, 1000)), LENGTH)
        for at in range(20)
    ]
    look = rule.look(Timeline(buckets, NOW, cells.merge, bucket=LENGTH))
    (missing,) = (each for each in look.judged if each.measure == "missing")
    assert missing.verdict == "drifted"
    assert 0.92 < missing.lowest < 0.98 - 0.05 + 1e-3


@pytest.mark.parametrize("copies", [15, 30, 60])
@pytest.mark.parametrize("seed", range(6))
def test_one_client_that_repeats_itself_in_a_quiet_day_is_no_drift(copies: int, seed: int) -> None:
    """In a rare event, too: all of its rows are the largest amount that somebody had."""
    parts = day(seed=20 + seed, rows=60)
    largest = max((part[np.nanargmax(part[:, 0])] for part in parts), key=lambda row: row[0])
    parts[-1] = np.concatenate([parts[-1], np.repeat(largest[None], copies, axis=0)])
    assert drifted(RULE.look(timeline(parts))) == set()


@pytest.mark.parametrize("seed", range(4))
def test_a_few_busy_clients_that_have_something_in_common_are_no_drift(seed: int) -> None:
    """In each hour one sends its row 15 times, and three of them have the largest amounts."""
    parts = day(seed=40 + seed, rows=80)
    every = np.concatenate(parts)
    largest = every[np.argsort(np.nan_to_num(every[:, 0]))[-3:]]
    random = np.random.default_rng(seed)
    for hour in range(8):
        one = largest[hour - 5] if hour >= 5 else population(random, 1)[0]
        parts[hour * 15 + 7] = np.concatenate([parts[hour * 15 + 7], np.repeat(one[None], 15, 0)])
    assert drifted(RULE.look(timeline(parts))) == set()
    assert drifted(RULE.look(timeline(parts[: -15 + 8]))) == set()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("copies", "lasts", "before"), [(200, 1, 10), (200, 1, 20), (80, 3, 100), (40, 3, 100)]
)
def test_one_client_is_no_drift_early_on_nor_for_a_few_minutes(
    copies: int, lasts: int, before: int, seed: int
) -> None:
    """Also where nothing can tell yet how many rows are worth one."""
    parts = day(seed=60 + seed, rows=80, buckets=before + 6)
    one = population(np.random.default_rng(seed), 1)
    for at in range(before, before + lasts):
        parts[at] = np.concatenate([parts[at], np.repeat(one, copies, axis=0)])
    for end in range(before + 1, before + 7):
        assert drifted(RULE.look(timeline(parts[:end]))) == set()


def test_columns_that_became_constant_are_found_in_one_bucket_where_another_has_rows_apart() -> (
    None
):
    """As in a job at night whose rows all come in a minute: no client can be so."""
    random = np.random.default_rng(9)

    def rows(many: int) -> Chunk:
        return Chunk.of_rows(("a", "b", "c"), random.normal(size=(many, 3)), random.random(many))

    cells = ReferenceCells(rows(6000))
    rule = Rule(cells, (0, 1, 2, 3), Limits(), rate=1 / (365 * 86400), confidence=0.99)
    job = rows(2000)
    job.features[:, :2] = 0.0
    look = rule.look(
        Timeline([Bucket(NOW - LENGTH, 2000, cells.summarise(job), LENGTH)], NOW, cells.merge)
    )
    assert {each.column for each in look.judged if each.verdict == "drifted"} == {0, 1}
