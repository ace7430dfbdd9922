"""Who shares summaries: monitors that count the same rows in the same cells, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from monitoring_place import Place, draw
from scipy import stats

from monitorkit.contracts import Finding, RunResult
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.engine import LocalEngine

OTHERWISE = """
from monitorkit import hookimpl
from monitorkit_plugins.ks import Ks


class EveryOther(Ks):
    def summarise(self, chunk):
        return super().summarise(chunk.take(slice(0, None, 2)))


class OfTheOld(Ks):
    def __init__(self, options, reference):
        super().__init__(options, reference.take(reference.features[:, 0] > 50))


@hookimpl
def monitorkit_monitors():
    return {"every_other": EveryOther, "of_the_old": OfTheOld}
"""


def judged(place: Callable[..., Place], kind: str) -> tuple[Finding, Finding]:
    """Of `age`: what a kind of ours finds that derives from KS, and what KS itself does."""
    Path("otherwise.py").write_text(OTHERWISE)
    here = place(
        monitors=[
            {"name": "otherwise", "use": kind},
            {"name": "feature-drift", "use": "ks"},
        ],
        monitoring={"plugin_files": ["otherwise.py"]},
    )
    here.append(draw(700, seed=3))
    result = run_cycle(here.config, LocalEngine(here.config), here.results, trigger="once")
    assert isinstance(result, RunResult)
    other, ours = (
        next(f for f in outcome.findings if f.column == "age") for outcome in result.outcomes
    )
    return other, ours


@pytest.mark.parametrize("kind", ["every_other", "of_the_old"])
def test_a_monitor_that_counts_otherwise_does_not_count_for_others(
    place: Callable[..., Place], kind: str
) -> None:
    reference, window = draw(1000, seed=1)[:, 0], draw(700, seed=3)[:, 0]
    other, ours = judged(place, kind)
    expected = stats.ks_2samp(reference, window)
    assert ours.value == pytest.approx(expected.statistic, abs=1e-12)
    assert ours.detail["rows"] == 700
    if kind == "every_other":
        rows = other.detail["rows"]
        assert isinstance(rows, int)
        assert rows < 400
    else:
        expected = stats.ks_2samp(reference[reference > 50], window)
        assert other.value == pytest.approx(expected.statistic, abs=1e-12)
