"""What is shown over time is called what is now only where it is."""

from __future__ import annotations

import re
from dataclasses import replace

from monitorkit.contracts import RunResult
from monitorkit.dashboard import plots, timeline
from monitorkit.dashboard.formats import NOTHING, day_and_time
from monitorkit.dashboard.outlines import Outline


def test_what_the_newest_cycle_did_not_measure_is_not_told_as_what_is_now(
    history: list[RunResult],
) -> None:
    outlines = [Outline.of(result) for result in reversed(history)]
    before = {panel.title: panel for panel in timeline.panels(outlines)}
    assert before["Positive rate"].value.endswith("%")
    newest = outlines[0]
    quiet = {"predictions_1h": replace(newest.measures["predictions_1h"], value=0.0)}
    outlines[0] = replace(newest, measures=quiet)
    after = {panel.title: panel for panel in timeline.panels(outlines)}
    assert after["Predictions in an hour"].value == "0"
    for title in ("Positive rate", "Mean probability"):
        panel = after[title]
        assert panel.value == NOTHING
        assert panel.note.endswith(f"at {day_and_time(outlines[1].finished_at)} UTC")
        assert ": nothing now, " in panel.plot


def test_a_line_shows_where_another_model_version_began(history: list[RunResult]) -> None:
    """Its predictions begin at none, which is no fall of the traffic."""
    outlines = [Outline.of(result) for result in reversed(history)]
    assert all('class="change"' not in panel.plot for panel in timeline.panels(outlines))
    newest = len(outlines) // 2
    changed = [
        replace(outline, version="of another name" if at < newest else outline.version)
        for at, outline in enumerate(outlines)
    ]
    lines = {re.search(r'class="change" d="([^"]*)"', p.plot) for p in timeline.panels(changed)}
    (drawn,) = {found and found[1] for found in lines}
    oldest, last = outlines[-1].finished_at, outlines[0].finished_at
    place = (changed[newest - 1].finished_at - oldest) / (last - oldest)
    assert drawn == f"M{place * plots.WIDTH:.1f} 0V100".replace(".0 ", " ")
