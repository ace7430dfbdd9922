"""One result as a PNG: the same small multiples, for a chat or a slide."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from monitorkit.contracts import RunResult
from monitorkit.dashboard import glance
from monitorkit.dashboard.columns import Column, columns
from monitorkit.dashboard.formats import date_and_time, number

MOST = 24
"""Columns in one picture."""

_ACROSS = 4
_INK, _SOFT, _REFERENCE, _NOW, _DRIFT = "#1c1f23", "#565d66", "#c8c9c6", "#1f5fa8", "#b3400c"


def png(result: RunResult) -> bytes:
    """The picture: a distribution for each column, drifted ones first, at most `MOST`."""
    # matplotlib takes half a second to import, which only this shall pay.
    from matplotlib.figure import Figure  # noqa: PLC0415 - lazy, see above

    found = columns(result)
    shown = [column for column in found if column.histogram is not None][:MOST]
    down = max(-(-len(shown) // _ACROSS), 1)
    figure = Figure(figsize=(11, 1.3 + 1.55 * down), dpi=120, facecolor="#fbfbf9")
    sentence = glance.drifting(result, found)
    top = 1 - 0.3 / figure.get_figheight()
    figure.text(0.03, top, f"{result.model_name}: {sentence.text}", size=13, weight="bold",
                color=_INK, va="center", parse_math=False)  # fmt: skip
    told = (
        f"{result.window.rows:,} rows of version {result.window.model_version}, "
        f"{date_and_time(result.finished_at)} UTC. Bars: reference; line: now."
    )
    if len(shown) < len(found):
        told += f" {len(shown)} of {len(found)} columns."
    below = 1 - 0.62 / figure.get_figheight()
    figure.text(0.03, below, told, size=9, color=_SOFT, va="center", parse_math=False)
    grid = figure.add_gridspec(
        down, _ACROSS, left=0.03, right=0.97, bottom=0.3 / figure.get_figheight(),
        top=1 - 1.15 / figure.get_figheight(), hspace=0.8, wspace=0.12,
    )  # fmt: skip
    for place, column in enumerate(shown):
        _draw(figure.add_subplot(grid[place // _ACROSS, place % _ACROSS]), column)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _draw(axes: Any, column: Column) -> None:
    histogram = column.histogram
    assert histogram is not None  # noqa: S101 - those without are left out
    reference, window = (np.array(histogram[key], float) for key in ("reference", "window"))
    reference, window = (part / max(part.sum(), 1.0) for part in (reference, window))
    places = np.arange(reference.size)
    drifted = column.distance is not None and column.distance.drift
    colour = _DRIFT if drifted else _NOW
    axes.bar(places + 0.5, reference, width=0.92, color=_REFERENCE)
    if window.any():
        axes.stairs(window, np.arange(reference.size + 1), color=colour, linewidth=1.5)
    edges = histogram["edges"]
    axes.set_xticks([1, reference.size - 1], [number(edges[0]), number(edges[-1])])
    axes.tick_params(labelsize=7, colors=_SOFT, length=0)
    axes.set_yticks([])
    axes.set_facecolor("none")
    axes.set_xlim(0, reference.size)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    name = column.name if len(column.name) <= 30 else f"{column.name[:29]}…"  # noqa: PLR2004 - what fits
    told: str = column.told
    if column.distance is not None:
        told += f", {column.measure} {number(column.distance.value)}"
    axes.set_title(name, size=8.5, loc="left", color=_INK, pad=13, parse_math=False)
    axes.text(0, 1.06, told, transform=axes.transAxes, size=7.5, parse_math=False,
              color=_DRIFT if column.drifted else _SOFT)  # fmt: skip
