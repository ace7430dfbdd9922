"""Numbers and times as people read them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

NOTHING = "\u2013"


def number(value: float | None) -> str:
    """Three digits that tell: 0.0123, 5,400, 1.2e+06."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e6:  # noqa: PLR2004 - seven digits are no number to read
        return f"{int(value):,}"
    if 999.5 <= abs(value) < 1e6:  # noqa: PLR2004 - the same; what is rounded to 1,000
        return f"{value:,.0f}"
    return f"{value:.3g}"


def share(value: float | None) -> str:
    """A percentage: 0.4 %, 12 %."""
    if value is None or not math.isfinite(value):
        return NOTHING
    percent = 100 * value
    if percent and abs(percent) < 0.05:  # noqa: PLR2004 - what would be rounded to 0.0
        return "< 0.1 %"
    return f"{percent:.1f} %" if abs(percent) < 10 else f"{percent:.0f} %"  # noqa: PLR2004 - digits


def size(count: float) -> str:
    """Bytes: 3.2 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:  # noqa: PLR2004 - bytes
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def day_and_time(at: datetime) -> str:
    """UTC, without the year and the seconds."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %H:%M}"


def date_and_time(at: datetime) -> str:
    """UTC, without the seconds: for what is kept, and what may be old."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %Y %H:%M}"


def at_time(at: datetime | None) -> Markup:
    """A `<time>`."""
    return _time(at, '<time datetime="{}">{} UTC</time>')


def time_ago(at: datetime | None) -> Markup:
    """A `<time>`, to which the page's script adds how long ago it was."""
    return _time(at, '<time datetime="{}" data-ago>{} UTC</time>')


def _time(at: datetime | None, form: str) -> Markup:
    if at is None:
        return escape(NOTHING)
    moment = at.astimezone(UTC).isoformat(timespec="seconds")
    return Markup(form).format(moment, day_and_time(at))  # noqa: S704 - the forms above


def breakable(name: str) -> Markup:
    """A long name that may be broken where its words begin."""
    return Markup("<wbr>").join(re.split(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[_.-])", name))
