"""Jensen-Shannon: scipy's distance, small windows, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monitorkit_plugins.jensen_shannon import (
    JensenShannon,
    JensenShannonOptions,
    jensen_shannon_distance,
)
from scipy.spatial.distance import jensenshannon

from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(1000)
BINS = arrays(np.int64, 6, elements=st.integers(0, 1000)).filter(lambda bins: bins.sum() > 0)


def test_it_keeps_the_laws() -> None:
    monitor = JensenShannon(JensenShannonOptions(), REFERENCE)
    check_monitor(monitor, make_chunk(300, seed=1), tolerance=0)


@settings(deadline=None)
@given(reference=BINS, window=BINS)
def test_it_is_scipys_distance(
    reference: np.ndarray[tuple[int], np.dtype[np.int64]],
    window: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> None:
    # Compared before the root, which makes 1e-8 of the last bit of an almost zero divergence.
    expected = float(np.nan_to_num(jensenshannon(reference, window, base=2))) ** 2
    assert jensen_shannon_distance(reference, window) ** 2 == pytest.approx(expected, abs=1e-12)


def test_disjoint_bins_are_at_distance_one() -> None:
    assert jensen_shannon_distance(np.array([5, 0]), np.array([0, 3])) == 1.0


def test_a_shift_is_drift() -> None:
    monitor = JensenShannon(JensenShannonOptions(score=False), REFERENCE)
    summary = monitor.summarise(make_chunk(300, seed=2, shift=1.0))
    assert all(finding.drift for finding in judge_summaries(monitor, [summary]).findings)


def test_a_small_window_exceeds_the_threshold_by_chance_and_is_quiet() -> None:
    careful = JensenShannon(JensenShannonOptions(), REFERENCE)
    hasty = JensenShannon(JensenShannonOptions(false_alarm_rate=1), REFERENCE)
    alarms = {"careful": 0, "hasty": 0}
    for seed in range(10, 40):
        summary = careful.summarise(make_chunk(200, seed=seed))
        for name, monitor in (("careful", careful), ("hasty", hasty)):
            findings = judge_summaries(monitor, [summary]).findings
            alarms[name] += any(finding.drift for finding in findings)
    assert alarms["hasty"] > 5
    assert alarms["careful"] <= 1
