"""Evidently: the sample is the same whatever the split; its verdicts; when the page is made."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitorkit_plugins.evidently_drift import (
    REPORT,
    EvidentlyDrift,
    EvidentlyOptions,
    Sample,
    hash_ids,
)
from scipy import stats

from monitorkit import Chunk
from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(600)


def test_hashes_do_not_depend_on_the_width_of_the_array() -> None:
    narrow = np.array(["a", "ab", "prediction-1", ""])
    assert np.array_equal(hash_ids(narrow), hash_ids(narrow.astype("U64")))
    # Worked out with Python's integers: a sample that is drawn anew must be the same for ever.
    assert hash_ids(narrow)[0] == 13_411_977_440_221_723_357


def test_hashes_of_like_ids_are_spread_evenly() -> None:
    hashes = hash_ids(np.array([f"0190-{number:08x}" for number in range(20_000)]))
    assert np.unique(hashes).size == hashes.size
    assert stats.kstest(hashes / 2.0**64, "uniform").pvalue > 0.001


@settings(deadline=None, max_examples=30)
@given(parts=st.integers(1, 6), seed=st.integers(0, 99), bound=st.integers(1, 400))
def test_any_split_gives_the_same_sample(parts: int, seed: int, bound: int) -> None:
    monitor = EvidentlyDrift(EvidentlyOptions(sample=bound), REFERENCE)
    chunk = make_chunk(300, seed=1)
    # Ids that are given twice must not make the order of the rows matter either.
    chunk = replace(chunk, ids=np.array([name[:-1] for name in chunk.ids]))
    random = np.random.default_rng(seed)
    part_of_row = random.integers(0, parts, len(chunk))
    summaries = [monitor.summarise(chunk.take(part_of_row == part)) for part in range(parts)]
    random.shuffle(summaries)
    whole, merged = monitor.summarise(chunk), reduce(monitor.merge, summaries)
    assert merged.rows == whole.rows == 300
    assert len(whole.scores) == min(bound, 300)
    for name in ("hashes", "features", "scores"):
        assert np.array_equal(
            getattr(whole, name), getattr(merged, name), equal_nan=name != "hashes"
        )


def odd_columns(rows: int, seed: int, shift: float = 0.0) -> Chunk:
    """Columns: usual, constant, all missing, constant in the reference only."""
    chunk = make_chunk(rows, ("usual", "constant", "missing", "was_constant"), seed=seed)
    features = chunk.features.copy()
    features[:, 0] += shift
    features[:, 1] = 4.0
    features[:, 2] = np.nan
    if not seed:
        features[:, 3] = 1.0
    # Evenly spread scores: Evidently alarms at 5 % per column, so random ones may drift by chance.
    return replace(chunk, features=features, scores=np.linspace(0.01, 0.99, rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [[1e16], [1e38], [2.0**53, 2.0**53 + 2, 2.0**53 + 4]],
    ids=["1e16", "1e38", "neighbours"],
)
def test_a_column_that_evidently_has_no_bins_for_harms_no_other(values: list[float]) -> None:
    """A client may send such numbers, and the other columns are judged all the same."""
    monitor = EvidentlyDrift(EvidentlyOptions(sample=300), odd_columns(600, 0))
    chunk = odd_columns(500, 1, shift=2.0)
    features = chunk.features.copy()
    features[:, 3] = np.resize(values, 500)
    judged = judge_summaries(monitor, [monitor.summarise(replace(chunk, features=features))])
    drifted = {f.column for f in judged.findings if f.measure == "evidently_drift" and f.drift}
    assert drifted == {"usual"}
    (left_out,) = [f for f in judged.findings if f.column == "was_constant"]
    assert left_out.measure == "excluded"
    assert "no bins" in str(left_out.detail)


@pytest.mark.slow
def test_numbers_that_evidently_stumbles_over_are_no_warning_in_the_log() -> None:
    """A value that the reference's sample never had; one whose square is no number; both as one.

    Warnings are errors in this suite, and lines of a service's log.
    """
    chunk = make_chunk(200, ("late", "huge", "both"))
    late = np.resize([0.0, 0.0, 1.0, 2.0], 200)
    before = np.column_stack([late, np.resize([0.0, 1.0, 2.0], 200), late])
    after = np.column_stack([np.where(late == 2, 3, late), np.resize([0.0, 1e300], 200), late])
    after[:3, 2] = [1e300, -1e300, np.nan]
    scores = np.linspace(0.01, 0.99, 200)
    reference, window = (replace(chunk, features=rows, scores=scores) for rows in (before, after))
    monitor = EvidentlyDrift(EvidentlyOptions(), reference)
    judged = judge_summaries(monitor, [monitor.summarise(window)])
    found = {f.column: f for f in judged.findings if f.measure == "evidently_drift"}
    assert found["late"].statistic == "chi-square p_value"
    assert found["late"].p_value == 0.0
    assert {name for name, finding in found.items() if finding.drift} == {"late", "huge", "both"}
    assert judged.attachments


@pytest.mark.slow
def test_evidently_judges_and_the_page_is_made_when_a_verdict_changes() -> None:
    monitor = EvidentlyDrift(EvidentlyOptions(sample=300), odd_columns(600, 0))
    usual = monitor.summarise(odd_columns(500, 1))
    shifted = monitor.summarise(odd_columns(500, 2, shift=2.0))

    first = judge_summaries(monitor, [usual])
    dataset = first.findings[0]
    assert dataset.measure == "evidently_dataset_drift"
    assert dataset.detail["columns"] == 3
    assert dataset.detail["bound"] == dataset.detail["sample_rows"] == 300
    assert dataset.detail["window_rows"] == 500
    assert dataset.detail["reference_rows"] == 600
    verdicts = {f.column: f.drift for f in first.findings if f.measure == "evidently_drift"}
    assert verdicts == {"usual": False, "was_constant": True, "probability": False}
    assert [f.column for f in first.findings if f.measure == "excluded"] == ["constant", "missing"]
    assert b"<html" in first.attachments[REPORT][:2000]

    again = judge_summaries(monitor, [usual], first.findings)
    assert not again.attachments
    moved = judge_summaries(monitor, [shifted], first.findings)
    assert moved.findings[0].drift
    assert moved.findings[0].value == pytest.approx(2 / 3)
    assert moved.attachments

    # Its Kolmogorov-Smirnov p-value is scipy's on the same sample.
    column = next(f for f in moved.findings if f.column == "usual")
    expected = stats.ks_2samp(
        *(part.features[~np.isnan(part.features[:, 0]), 0] for part in (sample(monitor), shifted))
    )
    assert column.statistic == "K-S p_value"
    assert column.p_value == column.value == pytest.approx(expected.pvalue, rel=1e-9)


def sample(monitor: EvidentlyDrift) -> Sample:
    return monitor._reference


def test_with_nothing_to_compare_evidently_is_not_asked() -> None:
    chunk = make_chunk(50, ("x",))
    chunk = replace(chunk, features=np.full((50, 1), np.nan), scores=np.ones(50))
    monitor = EvidentlyDrift(EvidentlyOptions(), chunk)
    judgement = judge_summaries(monitor, [monitor.summarise(chunk)])
    dataset, *others = judgement.findings
    assert dataset.value is None
    assert dataset.drift is None
    assert [finding.measure for finding in others] == ["excluded", "excluded"]


@pytest.mark.slow
def test_it_keeps_the_laws() -> None:
    monitor = EvidentlyDrift(EvidentlyOptions(sample=200), make_chunk(300, ("a", "b")))
    check_monitor(monitor, make_chunk(250, ("a", "b"), seed=1), splits=1, tolerance=0)
