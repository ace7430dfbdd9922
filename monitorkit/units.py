"""Durations, sizes, moments and counts as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, PlainSerializer

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def parse_duration(value: object) -> object:
    """Read `300s`, `5m`, `24h`, `7d`, or a number of seconds."""
    problem = "write a duration as a number and a unit: 300s, 5m, 24h or 7d"
    if isinstance(value, bool):
        raise ValueError(problem)  # noqa: TRY004 - pydantic collects ValueErrors
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|)\s*", value)
        if match is None:
            raise ValueError(problem)
        try:
            # Exact: a float has no room for the microseconds of many years.
            length = Fraction(match[1]) * (_UNITS[match[2] or "s"] // timedelta(microseconds=1))
            return timedelta(microseconds=round(length))
        except OverflowError as error:
            raise ValueError("that is longer than a duration can be") from error
    return value


def format_duration(value: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, in the largest unit that divides it."""
    for unit in ("d", "h", "m"):
        if value and not value % _UNITS[unit]:
            return f"{value // _UNITS[unit]}{unit}"
    whole, rest = divmod(value, _UNITS["s"])
    return f"{whole}.{rest.microseconds:06}".rstrip("0").rstrip(".") + "s"


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond; as text they sort as moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def several(count: int, one: str) -> str:
    """1 feature, 2 features."""
    return f"{count:,} {one if count == 1 else one + 's'}"


def parse_rate(text: str) -> float:
    """Read `1 in 365 days` or `0.5 in 30d`: so many per second.

    Raises:
        ValueError: it is not one.
    """
    match = re.fullmatch(
        r"\s*([0-9]+(?:\.[0-9]+)?)\s+in\s+([0-9]+(?:\.[0-9]+)?)\s*(days?|d|h|m|s|ms)\s*", text
    )
    if match is not None and float(match[1]) > 0:
        unit = "d" if match[3].startswith("d") else match[3]
        length = parse_duration(f"{match[2]}{unit}")
        assert isinstance(length, timedelta)  # noqa: S101 - for mypy: it was text
        if length > timedelta(0):
            return float(match[1]) / length.total_seconds()
    raise ValueError('write a rate as a number and a duration: "1 in 365 days" or "1 in 30d"')


def _checked_rate(text: str) -> str:
    parse_rate(text)
    return text


def parse_moment(text: str, now: datetime) -> datetime:
    """Read `2026-01-31`, `2026-01-31T12:00:00Z` (or `+01:00`), `now`, or `-6h`: so long ago.

    Without an offset it is UTC; a date is its first moment.

    Args:
        text: what was written.
        now: what `now` and durations go by.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if text == "now":
        return now
    try:
        if text.startswith("-"):
            passed = parse_duration(text[1:])
            assert isinstance(passed, timedelta)  # noqa: S101 - for mypy: it was text
            return now - passed
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        problem = "write a time as 2026-01-31, 2026-01-31T12:00:00Z, now, or -6h for six hours ago"
        raise ValueError(problem) from error


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than 0s")
    return value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("write a size as 512KiB, 4MiB or 1GiB")  # noqa: TRY004 - as above
    return value


def _zero_when_off(value: object) -> object:
    return 0 if isinstance(value, str) and value.strip() == "off" else value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("must not be negative")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    AfterValidator(_positive),
    PlainSerializer(format_duration, return_type=str),
]
Size = Annotated[
    ByteSize, BeforeValidator(_no_bool), Field(gt=0), PlainSerializer(int, return_type=int)
]
Rate = Annotated[str, AfterValidator(_checked_rate)]
"""Text that `parse_rate` reads."""

LimitDuration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    BeforeValidator(_zero_when_off),
    AfterValidator(_not_negative),
    PlainSerializer(lambda value: format_duration(value) if value else "off", return_type=str),
]
"""A duration, or `off`, which is zero."""

LimitSize = Annotated[
    ByteSize,
    BeforeValidator(_no_bool),
    BeforeValidator(_zero_when_off),
    Field(ge=0),
    PlainSerializer(lambda value: int(value) or "off"),
]
"""A size, or `off`, which is zero."""
