"""Plots are well-formed, say what they show, and show it where it is."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from markupsafe import Markup

from monitorkit.dashboard import formats, plots
from monitorkit.dashboard.plots import Band

LABEL = 'an "odd" <name> & so on'


def path(plot: Markup, kind: str) -> str:
    root = ET.fromstring(str(plot))  # noqa: S314 - our own
    (found,) = [each for each in root if each.get("class") == kind]
    return str(found.get("d"))


def points(plot: Markup, kind: str) -> list[tuple[float, float]]:
    numbers = [float(text) for text in re.findall(r"-?[0-9.]+", path(plot, kind))]
    return list(zip(numbers[::2], numbers[1::2], strict=False))


@pytest.mark.parametrize(
    ("value", "shown"), [(999.4, "999"), (999.6, "1,000"), (-999.6, "-1,000"), (0.0123, "0.0123")]
)
def test_numbers_are_written_as_people_write_them(value: float, shown: str) -> None:
    assert formats.number(value) == shown


@pytest.mark.parametrize(
    "plot",
    [
        plots.overlay({"reference": [1, 2], "window": [0, 0]}, LABEL, drifted=False),
        plots.overlay({"reference": [0, 0], "window": [3, 1]}, LABEL, drifted=True),
        plots.trend([], LABEL, top=1.0),
        plots.trend([Band(1.0, 0.5, 0.1, 0.9)], LABEL, top=1.0, limit=0.2),
        plots.trend([Band(0.0, 0.5), Band(1.0, 9.0, drift=True)], LABEL, top=1.0),
        plots.whisker(Band(0.0, 0.5, 0.1, 0.9, drift=True), LABEL, limit=0.2, top=1.0),
        plots.area([], LABEL, top=0.0),
        plots.area([(0.0, 1.0)], LABEL, top=1.0),
        plots.strip([], LABEL),
        plots.strip([(0.0, {"ok": 0.5, "drift": 0.5})], LABEL, [0.5]),
        plots.strip([(0.0, {"not judged": 0.5, "failed": 0.5})], LABEL),
    ],
)
def test_every_plot_is_well_formed_and_has_its_text(plot: Markup) -> None:
    root = ET.fromstring(str(plot))  # noqa: S314 - our own
    assert (root.get("role"), root.get("aria-label")) == ("img", LABEL)
    assert "style" not in str(plot)
    for each in root:
        assert not re.search("nan|inf", each.get("d", ""))


def test_an_overlay_is_of_shares_not_of_counts() -> None:
    plot = plots.overlay({"reference": [30, 10], "window": [1, 1]}, "x", drifted=False)
    # Bars of 3/4 and 1/4 of the rows, the higher one as high as the plot; a line at 1/2.
    assert path(plot, "reference") == "M8 100v-100h184V100zM208 100v-33.3h184V100z"
    assert path(plot, "now") == "M0 100V33.3H200V33.3H400V100"


def test_a_trend_is_where_its_values_are() -> None:
    bands = [Band(0.0, 0.25, 0.0, 0.5), Band(0.5, 0.5, 0.25, 0.75), Band(1.0, 2.0, 1.0, 3.0)]
    plot = plots.trend(bands, "x", top=1.0, limit=0.1)
    assert points(plot, "now") == [(0, 75), (200, 50), (400, 0)]  # beyond the top: at the top
    assert points(plot, "limit")[0] == (0, 90)
    assert path(plot, "interval") == "M0 50 200 25 400 0 400 0 200 75 0 100z"


def test_only_the_part_that_drifted_has_its_colour() -> None:
    bands = [Band(0.0, 0.0), Band(0.5, 0.5, drift=True), Band(1.0, 0.0)]
    assert path(plots.trend(bands, "x", top=1.0), "now drifted") == "M0 100L200 50"


def test_quiet_columns_share_one_scale() -> None:
    assert plots.distance_scale([Band(1.0, 0.01)], 0.05) == plots.distance_scale([], 0.05)
    assert plots.distance_scale([Band(1.0, 0.5, 0.4, 0.6)], 0.05) == pytest.approx(0.63)
    assert plots.distance_scale([], None) > 0
