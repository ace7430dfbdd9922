"""The monitor `night_share`: the laws, and its share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from monitorkit_night_share import NightShare, NightShareOptions

from monitorkit.testing import check_monitor, judge_summaries, make_chunk

ROWS = make_chunk(240)


def test_it_keeps_the_laws() -> None:
    check_monitor(NightShare(NightShareOptions(), ROWS), make_chunk(100, seed=1), tolerance=0)


@pytest.mark.parametrize(
    ("from_hour", "to_hour", "share"), [(22, 6, 8 / 24), (0, 6, 6 / 24), (23, 0, 1 / 24)]
)
def test_the_share_is_that_of_the_hours(from_hour: int, to_hour: int, share: float) -> None:
    hours = np.datetime64("2026-01-01", "us") + np.arange(240) * np.timedelta64(1, "h")
    options = NightShareOptions(from_hour=from_hour, to_hour=to_hour, at_most=0.3)
    monitor = NightShare(options, ROWS)
    (finding,) = judge_summaries(monitor, [monitor.summarise(replace(ROWS, times=hours))]).findings
    assert finding.value == pytest.approx(share)
    assert finding.drift is (share > 0.3)
