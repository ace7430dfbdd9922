"""PSI: the formula, ties, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from monitorkit_plugins.psi import Psi, PsiOptions, population_stability_index
from scipy import stats

from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(1000)


def test_it_keeps_the_laws() -> None:
    check_monitor(Psi(PsiOptions(), REFERENCE), make_chunk(300, seed=1), tolerance=0)


def test_it_is_the_sum_of_both_relative_entropies() -> None:
    reference, window = np.array([10, 20, 70]), np.array([30, 30, 40])
    expected = stats.entropy(reference, window) + stats.entropy(window, reference)
    assert population_stability_index(reference, window) == pytest.approx(expected, abs=1e-14)


def test_an_empty_bin_counts_as_half_a_row() -> None:
    found = population_stability_index(np.array([0, 100, 0]), np.array([10, 90, 0]))
    expected = (0.1 - 0.005) * np.log(0.1 / 0.005) + (0.9 - 1) * np.log(0.9 / 1)
    assert found == pytest.approx(expected, abs=1e-14)


def test_numpys_histogram_over_the_same_edges_agrees() -> None:
    window = make_chunk(700, seed=2, shift=0.5)
    monitor = Psi(PsiOptions(columns=("a",), score=False), REFERENCE)
    (finding,) = judge_summaries(monitor, [monitor.summarise(window)]).findings
    before, now = (c.features[:, 0][~np.isnan(c.features[:, 0])] for c in (REFERENCE, window))
    edges = np.asarray(finding.detail["edges"])
    assert (
        edges.tolist() == np.quantile(before, np.arange(1, 10) / 10, method="inverted_cdf").tolist()
    )
    p, q = (np.bincount(np.searchsorted(edges, v), minlength=10) / v.size for v in (before, now))
    assert finding.value == pytest.approx(float(np.sum((q - p) * np.log(q / p))), abs=1e-12)
    assert finding.drift


@pytest.mark.parametrize("rows", [200, 2000])
def test_the_same_distribution_is_quiet(rows: int) -> None:
    monitor = Psi(PsiOptions(), REFERENCE)
    for seed in range(10, 20):
        summary = monitor.summarise(make_chunk(rows, seed=seed))
        assert not any(f.drift for f in judge_summaries(monitor, [summary]).findings)
