"""KS: scipy's numbers, the share of the false alarm rate, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from monitorkit_plugins.ks import Ks, KsOptions
from scipy import stats

from monitorkit import Chunk
from monitorkit.errors import PluginError
from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(800)


def test_it_keeps_the_laws() -> None:
    check_monitor(Ks(KsOptions(), REFERENCE), make_chunk(300, seed=1), tolerance=0)


def test_it_gives_scipys_statistic_and_p_value() -> None:
    monitor, window = Ks(KsOptions(), REFERENCE), make_chunk(300, seed=1, shift=0.3)
    findings = judge_summaries(monitor, [monitor.summarise(window)]).findings
    assert [finding.column for finding in findings] == ["a", "b", "c", "probability"]
    pairs = zip(
        [*REFERENCE.features.T, REFERENCE.scores], [*window.features.T, window.scores], strict=True
    )
    for finding, (before, now) in zip(findings, pairs, strict=True):
        expected = stats.ks_2samp(
            before[~np.isnan(before)], now[~np.isnan(now)], method="asymp", nan_policy="raise"
        )
        assert finding.value == pytest.approx(expected.statistic, abs=1e-15)
        assert finding.p_value == pytest.approx(expected.pvalue, rel=1e-12)
        assert finding.threshold == 0.01 / 4
        assert finding.drift == (expected.pvalue < 0.01 / 4)


def test_a_shift_is_drift_and_none_is_not() -> None:
    monitor = Ks(KsOptions(score=False), REFERENCE)
    for shift, drift in ((0.0, False), (0.6, True)):
        summary = monitor.summarise(make_chunk(400, seed=3, shift=shift))
        findings = judge_summaries(monitor, [summary]).findings
        assert {finding.drift for finding in findings} == {drift}


def test_columns_can_be_chosen() -> None:
    options = KsOptions(columns=("a", "c"), exclude=("a",), score=False)
    monitor = Ks(options, REFERENCE)
    findings = judge_summaries(monitor, [monitor.summarise(REFERENCE)]).findings
    assert [finding.column for finding in findings] == ["c"]


def test_an_empty_list_of_columns_leaves_the_score_alone() -> None:
    monitor = Ks(KsOptions(columns=()), REFERENCE)
    findings = judge_summaries(monitor, [monitor.summarise(REFERENCE)]).findings
    assert [finding.column for finding in findings] == ["probability"]
    with pytest.raises(PluginError, match="no column is chosen: see columns, exclude and score"):
        Ks(KsOptions(columns=(), score=False), REFERENCE)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(PluginError, match="no column nope"):
        Ks(KsOptions(exclude=("nope",)), REFERENCE)


def test_what_cannot_be_compared_is_excluded_with_a_reason() -> None:
    features = np.full((10, 2), 3.0)
    features[:, 1] = np.nan
    chunk = Chunk.of_rows(("same", "gone"), features, np.ones(10))
    monitor = Ks(KsOptions(score=False), chunk)
    findings = judge_summaries(monitor, [monitor.summarise(chunk)]).findings
    assert [finding.measure for finding in findings] == ["excluded", "excluded"]
    assert "constant" in str(findings[0].detail["reason"])
    assert "no values" in str(findings[1].detail["reason"])


def test_a_constant_that_moved_is_drift() -> None:
    before, now = (
        Chunk.of_rows(("x",), np.full((200, 1), value), np.ones(200)) for value in (3.0, 4.0)
    )
    monitor = Ks(KsOptions(score=False), before)
    moved = monitor.summarise(now)
    (finding,) = judge_summaries(monitor, [moved]).findings
    assert finding.value == 1.0
    assert finding.drift


def test_judging_uses_what_the_previous_cycle_does_not_change() -> None:
    monitor = Ks(KsOptions(), REFERENCE)
    summary = monitor.summarise(make_chunk(200, seed=5))
    first = judge_summaries(monitor, [summary])
    assert judge_summaries(monitor, [summary], first.findings) == first
