"""Proxy metrics: numpy's and scipy's numbers, the last hours, the change, and the laws."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monitorkit_plugins.proxy_metrics import (
    MEASURES,
    MOMENT_ERROR,
    ProxyMetrics,
    ProxyOptions,
    Scores,
)
from scipy import stats

from monitorkit import Bucket, Chunk, Finding, Judgement, Timeline, judgements
from monitorkit.testing import NOW, check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(500)
MONITOR = ProxyMetrics(ProxyOptions(), REFERENCE)


def scored(scores: Any) -> Chunk:
    chunk = make_chunk(len(scores))
    values = np.asarray(scores, np.float64)
    return Chunk(chunk.ids, chunk.times, chunk.columns, chunk.features, values)


def found(chunk: Chunk) -> dict[str, Finding]:
    findings = judge_summaries(MONITOR, [MONITOR.summarise(chunk)]).findings
    return {finding.measure: finding for finding in findings if finding.column is None}


def value(findings: dict[str, Finding], measure: str) -> float:
    number = findings[measure].value
    assert number is not None
    return number


def test_it_keeps_the_laws() -> None:
    check_monitor(MONITOR, make_chunk(300, seed=1), tolerance=0)


class Doubled(ProxyMetrics):
    def summarise(self, chunk: Chunk) -> Scores:
        whole = super().summarise(chunk)
        return self.merge(whole, whole)


class Twice(ProxyMetrics):
    def merge(self, left: Scores, right: Scores) -> Scores:
        whole = super().merge(left, right)
        return replace(whole, rows=whole.rows + 1)


class Further(Twice):
    """What many are asked is still asked of what its parent says of two."""


def test_who_sums_up_or_merges_otherwise_does_so_for_many_too() -> None:
    chunks = [scored([0.1, 0.7]), scored([0.4])]
    doubled = Doubled(ProxyOptions(), REFERENCE).summarise_each(chunks)
    assert [each.rows for each in doubled] == [4, 2]
    summaries = MONITOR.summarise_each([*chunks, *chunks])
    assert MONITOR.merge_all(summaries).rows == 6
    for cls in (Twice, Further):
        assert cls(ProxyOptions(), REFERENCE).merge_all(summaries).rows == 6 + 3


@settings(deadline=None, max_examples=60)
@given(scores=arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 1)))
def test_numpy_and_scipy_agree(scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    findings = found(scored(scores))
    assert value(findings, "predictions") == len(scores)
    assert value(findings, "positive_rate") == np.mean(scores > 0.5)
    assert value(findings, "probability_mean") == pytest.approx(
        np.mean(scores), abs=MOMENT_ERROR + 1e-15
    )
    assert value(findings, "probability_std") == pytest.approx(
        np.std(scores), abs=MOMENT_ERROR + 1e-15
    )
    counts, _ = np.histogram(scores, bins=10, range=(0, 1))
    assert value(findings, "probability_entropy") == pytest.approx(
        stats.entropy(counts, base=2), abs=1e-12
    )
    for measure, share in (
        ("probability_q25", 0.25),
        ("probability_median", 0.5),
        ("probability_q75", 0.75),
    ):
        expected = float(np.quantile(scores, share))
        lower, upper = findings[measure].interval or (np.nan, np.nan)
        assert lower - 1e-15 <= expected <= upper + 1e-15
        assert lower <= value(findings, measure) <= upper
        assert upper - lower < 1 / 4096


def test_equal_scores_are_exact() -> None:
    findings = found(scored([0.1] * 1000))
    assert value(findings, "probability_median") == 0.1
    assert value(findings, "probability_std") == 0.0
    assert value(findings, "probability_entropy") == 0.0


def test_a_million_scores_stay_within_the_stated_error() -> None:
    random = np.random.default_rng(0)
    scores = random.beta(1, 6, 1_000_000)
    chunk = Chunk(
        np.empty(len(scores), "U1"),
        np.empty(len(scores), "datetime64[us]"),
        REFERENCE.columns,
        np.zeros((len(scores), 3)),
        scores,
    )
    findings = found(chunk)
    assert value(findings, "probability_mean") == pytest.approx(scores.mean(), abs=1e-9)
    assert value(findings, "probability_std") == pytest.approx(scores.std(), abs=1e-9)
    median = value(findings, "probability_median")
    assert median == pytest.approx(float(np.median(scores)), abs=1 / 4096)


def test_scores_that_are_none_are_missing() -> None:
    findings = found(scored([np.nan, 0.7, 1.5, 0.2]))
    assert value(findings, "predictions") == 4
    assert value(findings, "positive_rate") == 0.5


def test_without_scores_values_are_none_with_a_reason() -> None:
    findings = found(scored([np.nan]))
    assert findings["positive_rate"].value is None
    assert findings["positive_rate"].detail["reason"] == "no scores in this window"


def judged(hours: dict[float, list[float]], **more: Any) -> Judgement:
    buckets: list[Bucket[Scores]] = [
        Bucket(NOW - timedelta(hours=ago), len(scores), MONITOR.summarise(scored(scores)))
        for ago, scores in sorted(hours.items(), reverse=True)
    ]
    now = more.get("now", NOW)
    return MONITOR.judge(Timeline(buckets, now, MONITOR.merge), more.get("previous", ()))


def test_the_last_hours_are_measured_by_themselves() -> None:
    findings = judged({0.5: [0.9] * 10, 3: [0.1] * 10, 20: [0.1] * 20}).findings
    values = {finding.measure: finding.value for finding in findings if finding.column is None}
    assert values["predictions"] == 40
    assert values["positive_rate"] == 0.25
    assert values["positive_rate_1h"] == 1.0
    assert values["positive_rate_6h"] == 0.5
    assert values["predictions_6h"] == 20
    assert values["positive_rate_24h"] == 0.25
    assert next(f for f in findings if f.measure == "probability_mean_6h").detail["hours"] == 6


@pytest.mark.parametrize(
    ("lookback", "whole"), [(0.5, []), (2, [1]), (6, [1, 6]), (24, [1, 6, 24])]
)
def test_hours_beyond_the_look_back_have_no_values(lookback: float, whole: list[int]) -> None:
    bucket = Bucket(NOW - timedelta(minutes=20), 10, MONITOR.summarise(scored([0.9] * 10)))
    since = NOW - timedelta(hours=lookback)
    judgement = MONITOR.judge(Timeline([bucket], NOW, MONITOR.merge, since=since), ())
    assert judgements.why_not(judgement) is None
    by_measure = {finding.measure: finding for finding in judgement.findings}
    for hours in (1, 6, 24):
        for measure in MEASURES:
            finding = by_measure[f"{measure}_{hours}h"]
            if hours in whole:
                assert finding.value is not None
            else:
                assert finding.value is None
                assert finding.detail == {"hours": hours, "reason": "longer than the look-back"}


def test_an_empty_last_hour_has_no_values() -> None:
    values = {finding.measure: finding.value for finding in judged({3: [0.1]}).findings}
    assert values["predictions_1h"] == 0
    assert values["probability_median_1h"] is None


def test_change_is_per_hour_since_the_previous_cycle() -> None:
    first = judged({2: [0.9] * 5 + [0.1] * 5})
    assert {
        f.measure: f.value for f in first.findings if f.measure.endswith("_change_per_hour")
    } == {
        "predictions_change_per_hour": None,
        "positive_rate_change_per_hour": None,
        "probability_mean_change_per_hour": None,
        "probability_entropy_change_per_hour": None,
    }
    later = judged(
        {2: [0.9] * 8 + [0.1] * 12}, now=NOW + timedelta(minutes=30), previous=first.findings
    )
    values = {finding.measure: finding.value for finding in later.findings}
    assert values["positive_rate_change_per_hour"] == pytest.approx(-0.2)
    assert values["predictions_change_per_hour"] == pytest.approx(20)
    again = judged({2: [0.9]}, previous=first.findings)
    change = next(f for f in again.findings if f.measure == "positive_rate_change_per_hour")
    assert change.value is None
    assert change.detail["reason"] == "no time since the previous cycle"


def test_missing_values_are_counted_per_feature() -> None:
    chunk = make_chunk(200, seed=4, missing=0.3)
    findings = judge_summaries(MONITOR, [MONITOR.summarise(chunk)]).findings
    shares = {f.column: f.value for f in findings if f.measure == "missing_share"}
    assert list(shares.values()) == np.isnan(chunk.features).mean(axis=0).tolist()


def test_the_positive_rate_has_its_wilson_interval() -> None:
    findings = found(scored([0.9] * 3 + [0.1] * 17))
    expected = stats.binomtest(3, 20).proportion_ci(method="wilson")
    assert findings["positive_rate"].interval == pytest.approx((expected.low, expected.high))
