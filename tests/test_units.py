"""Moments as people write them; durations and sizes are tested where the configuration is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitorkit.units import parse_moment

NOW = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("-6h", NOW - timedelta(hours=6)),
        ("-1.5d", NOW - timedelta(hours=36)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (" 2026-01-31 12:00:00+01:00 ", datetime(2026, 1, 31, 11, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment
    assert parse_moment(text, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["", "yesterday", "6h", "-6 hours", "2026-13-01", "--6h", "-9999999d"]
)
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write a time as"):
        parse_moment(text, NOW)


BARE = st.datetimes(min_value=NOW.replace(tzinfo=None, year=1970))


@given(BARE, st.integers(-12, 12))
def test_what_isoformat_writes_is_read(moment: datetime, hours: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert parse_moment(aware.isoformat(), NOW) == aware
