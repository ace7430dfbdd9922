"""The plots: plain SVG without a word in it, stretched by the page; words stand beside them.

Coordinates are those of a box of 0 to `WIDTH` by 0 to `HEIGHT`, which the style sheet gives its
size. Lines keep their width (`vector-effect`), and colours come from classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 400.0, 100.0

_APART = 100
_TALL = {"failed": 0.5}
_LEAST_TOLERANCES = 3.0  # that the scale of a distance shows, so that quiet columns share one


@dataclass(frozen=True, slots=True)
class Band:
    """One point of a line with its interval; x in [0, 1]."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None
    drift: bool = False


def overlay(histogram: Mapping[str, Any], label: str, *, drifted: bool) -> Markup:
    """Bars of the reference's shares, and the window's shares as a line of steps over them."""
    reference, window = _shares(histogram["reference"]), _shares(histogram["window"])
    top = max(*reference, *window, 1e-9)
    step = WIDTH / len(reference)
    bars = "".join(
        f"M{_n(i * step + step * 0.04)} {_n(HEIGHT)}v{_n(-share / top * HEIGHT)}"
        f"h{_n(step * 0.92)}V{_n(HEIGHT)}z"
        for i, share in enumerate(reference)
        if share
    )
    parts = [f'<path class="reference" d="{bars}"/>']
    if any(window):
        line = f"M0 {_n(HEIGHT)}" + "".join(
            f"V{_n(HEIGHT - share / top * HEIGHT)}H{_n((i + 1) * step)}"
            for i, share in enumerate(window)
        )
        kind = "now drifted" if drifted else "now"
        parts.append(f'<path class="{kind}" d="{line}V{_n(HEIGHT)}"/>')
    return _svg("overlay", label, parts)


def distance_scale(bands: Sequence[Band], tolerance: float | None) -> float:
    """The top of a plot of distances."""
    highest = [band.high if band.high is not None else band.value for band in bands]
    return max([*highest, _LEAST_TOLERANCES * (tolerance or 0.0), 1e-9]) * 1.05


def trend(
    bands: Sequence[Band],
    label: str,
    *,
    top: float,
    bottom: float = 0.0,
    limit: float | None = None,
    changes: Iterable[float] = (),
) -> Markup:
    """A line with its interval, a limit, and a dot at its end; a drift has another colour.

    Args:
        bands: the line.
        label: says it in words.
        top: the value at the upper edge.
        bottom: that at the lower one.
        limit: another line, level.
        changes: x in [0, 1] of lines upright.
    """
    span = (top - bottom) or 1.0

    def y(value: float) -> str:
        return _n(HEIGHT - min(max((value - bottom) / span, 0.0), 1.0) * HEIGHT)

    parts = []
    interval = [band for band in bands if band.low is not None and band.high is not None]
    if len(interval) > 1:
        upper = " ".join(f"{_n(b.x * WIDTH)} {y(b.high or 0.0)}" for b in interval)
        lower = " ".join(f"{_n(b.x * WIDTH)} {y(b.low or 0.0)}" for b in reversed(interval))
        parts.append(f'<path class="interval" d="M{upper} {lower}z"/>')
    elif interval:
        x = _n(interval[0].x * WIDTH)
        ends = f"M{x} {y(interval[0].low or 0.0)}V{y(interval[0].high or 0.0)}"
        parts.append(f'<path class="whisker" d="{ends}"/>')
    if limit is not None:
        parts.append(f'<path class="limit" d="M0 {y(limit)}H{_n(WIDTH)}"/>')
    if len(bands) > 1:
        line = " ".join(f"{_n(band.x * WIDTH)} {y(band.value)}" for band in bands)
        parts.append(f'<path class="now" d="M{line}"/>')
        drifted = "".join(
            f"M{_n(a.x * WIDTH)} {y(a.value)}L{_n(b.x * WIDTH)} {y(b.value)}"
            for a, b in pairwise(bands)
            if b.drift
        )
        if drifted:
            parts.append(f'<path class="now drifted" d="{drifted}"/>')
    if bands:
        last = bands[-1]
        kind = "dot drifted" if last.drift else "dot"
        parts.append(f'<path class="{kind}" d="M{_n(last.x * WIDTH)} {y(last.value)}h0"/>')
    return _svg("trend", label, [*parts, *_lines(changes)])


def whisker(band: Band, label: str, *, limit: float | None, top: float) -> Markup:
    """One value on a line from 0 to `top`, with its interval and the limit."""

    def x(value: float) -> str:
        return _n(min(max(value / top, 0.0), 1.0) * WIDTH)

    middle = _n(HEIGHT / 2)
    parts = [f'<path class="axis" d="M0 {middle}H{_n(WIDTH)}"/>']
    kind = " drifted" if band.drift else ""
    if band.low is not None and band.high is not None:
        ends = f"M{x(band.low)} {middle}H{x(band.high)}"
        parts.append(f'<path class="whisker{kind}" d="{ends}"/>')
    if limit is not None:
        parts.append(f'<path class="limit" d="M{x(limit)} 0V{_n(HEIGHT)}"/>')
    parts.append(f'<path class="dot{kind}" d="M{x(band.value)} {middle}h0"/>')
    return _svg("dots", label, parts)


def area(
    points: Sequence[tuple[float, float]],
    label: str,
    *,
    top: float,
    changes: Iterable[float] = (),
) -> Markup:
    """Counts over time, filled down to zero; x in [0, 1], of lines upright (`changes`) as well."""
    if not points:
        return _svg("trend", label, [])
    floor = _n(HEIGHT)
    places = [
        f"{_n(x * WIDTH)} {_n(HEIGHT - value / (top or 1.0) * HEIGHT)}" for x, value in points
    ]
    line = " ".join(places)
    parts = [f'<path class="dot" d="M{places[-1]}h0"/>']
    if len(points) > 1:
        first, last = _n(points[0][0] * WIDTH), _n(points[-1][0] * WIDTH)
        parts.append(f'<path class="area" d="M{first} {floor} {line} {last} {floor}z"/>')
        parts.append(f'<path class="now" d="M{line}"/>')
    else:
        parts.append(f'<path class="now" d="M{line}V{floor}"/>')
    return _svg("trend", label, [*parts, *_lines(changes)])


def strip(
    cells: Sequence[tuple[float, Mapping[str, float]]],
    label: str,
    changes: Iterable[float] = (),
) -> Markup:
    """A column for each cell, of the shares of its cycles by state; and lines where x in [0, 1].

    Args:
        cells: x in [0, 1], and the shares.
        label: says it in words.
        changes: x in [0, 1] of each line.
    """
    paths: dict[str, list[str]] = {"ok": [], "not judged": [], "failed": [], "drift": []}
    width = WIDTH / max(len(cells), 1)
    # More would be a pattern of gaps.
    drawn = width * (0.8 if len(cells) <= _APART else 1.0)
    for x, shares in cells:
        y = HEIGHT
        for state, path in paths.items():
            height = shares.get(state, 0.0) * HEIGHT
            if height:
                y -= height
                left = x * (WIDTH - width) + (width - drawn) / 2
                tall = height * _TALL.get(state, 1.0)  # told apart without colours
                path.append(
                    f"M{left:.2f} {_n(y + height - tall)}h{drawn:.2f}v{_n(tall)}h-{drawn:.2f}z"
                )
    parts = [
        f'<path class="{state.replace(" ", "-")}" d="{"".join(path)}"/>'
        for state, path in paths.items()
        if path
    ]
    return _svg("strip", label, [*parts, *_lines(changes)])


def _lines(changes: Iterable[float]) -> list[str]:
    lines = "".join(f"M{_n(x * WIDTH)} 0V{_n(HEIGHT)}" for x in changes)
    return [f'<path class="change" d="{lines}"/>'] if lines else []


def _svg(kind: str, label: str, parts: Sequence[str]) -> Markup:
    body = "".join(parts)
    return Markup(
        '<svg class="plot {}" role="img" aria-label="{}" preserveAspectRatio="none" '
        'viewBox="0 0 {} {}">{}</svg>'
    ).format(kind, label, _n(WIDTH), _n(HEIGHT), Markup(body))  # noqa: S704 - numbers and our words


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0")
