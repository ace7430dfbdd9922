"""Timestamps in every way that logs have them become microseconds in UTC, or a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitorkit.errors import ConfigError
from monitorkit.importing.times import stamps, time_format

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def read(
    cells: list[Any], form: str = "iso", zone: str = "UTC", kind: Any = None
) -> tuple[list[str], dict[int, str]]:
    array = pa.chunked_array([pa.array(cells, kind or pa.string())])
    column = time_format(form, zone).read(array, NOW)
    return stamps(column.values), {row: str(problem) for row, problem in column.problems.items()}


SAME = "2026-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    ("cell", "form", "zone"),
    [
        ("2026-01-02T03:04:05Z", "iso", "UTC"),
        ("2026-01-02T03:04:05.000Z", "iso", "UTC"),
        ("2026-01-02 03:04:05+00:00", "iso", "UTC"),
        ("2026-01-02T04:04:05+01:00", "iso", "UTC"),
        ("2026-01-02 03:04:05", "iso", "UTC"),
        ("20260102T030405Z", "iso", "UTC"),
        ("2026-01-02T03:04:05.000000999Z", "iso", "UTC"),
        ("2026-01-02 04:04:05", "iso", "Europe/Berlin"),
        ("2026-01-02T03:04:05Z", "iso", "Europe/Berlin"),
        ("1767323045", "epoch", "UTC"),
        ("1767323045.0", "epoch", "UTC"),
        ("1767323045000", "epoch_ms", "UTC"),
        ("02.01.2026 03:04:05", "%d.%m.%Y %H:%M:%S", "UTC"),
        ("02.01.2026 04:04:05", "%d.%m.%Y %H:%M:%S", "Europe/Berlin"),
        ("02.01.2026 05:04:05 +0200", "%d.%m.%Y %H:%M:%S %z", "Europe/Berlin"),
    ],
)
def test_one_moment_in_many_ways(cell: str, form: str, zone: str) -> None:
    assert read([cell], form, zone) == ([SAME], {})
    # Beside cells that make the fast way impossible.
    found, problems = read([cell, "x", "", cell], form, zone)
    assert (found[0], found[3]) == (SAME, SAME)
    assert sorted(problems) == [1, 2]


@pytest.mark.parametrize(
    ("cell", "kind", "form"),
    [
        (datetime(2026, 1, 2, 3, 4, 5), pa.timestamp("ns"), "iso"),  # noqa: DTZ001 - as pandas has it
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), pa.timestamp("ms", "UTC"), "iso"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), pa.timestamp("us", "Asia/Tokyo"), "iso"),
        (1767323045, pa.int64(), "epoch"),
        ("1767323045", pa.string(), "epoch"),
        (1767323045000, pa.int64(), "epoch_ms"),
        (1767323045.0, pa.float64(), "epoch"),
        ("2026-01-02T03:04:05Z", pa.large_string(), "iso"),
        ("2026-01-02T03:04:05Z", pa.dictionary(pa.int8(), pa.string()), "iso"),
    ],
)
def test_typed_columns(cell: object, kind: Any, form: str) -> None:
    found, problems = read([cell, None], form, kind=kind)
    assert found[0] == SAME
    assert problems == {1: "timestamp: is missing"}


def test_naive_typed_columns_have_the_time_zone_that_was_said() -> None:
    noon = datetime(2026, 5, 2, 12)  # noqa: DTZ001 - that is the point
    assert read([noon], zone="Europe/Berlin", kind=pa.timestamp("us"))[0] == [
        "2026-05-02T10:00:00.000000Z"
    ]


def test_a_date_beyond_the_calendar_is_a_problem_of_its_row() -> None:
    _, problems = read([10**15, 1_767_323_045_000], zone="Europe/Berlin", kind=pa.timestamp("ms"))
    beyond = "timestamp: must be a date of the years 1 to 9999, not '1000000000000000000'"
    assert problems == {0: beyond}


def test_a_typed_number_needs_a_word() -> None:
    _, problems = read([1767323045], kind=pa.int64())
    assert "say --time-format epoch or epoch_ms, not int64" in problems[0]


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2026, 5, 31)),  # noqa: DTZ001 - zones come next
    st.integers(-14 * 60, 14 * 60),
)
@settings(max_examples=200, deadline=None)
def test_every_microsecond_survives(moment: datetime, offset: int) -> None:
    aware = moment.replace(tzinfo=UTC) + timedelta(days=1)
    aware = min(aware, NOW)
    expected = aware.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    there = aware.astimezone(timezone(timedelta(minutes=offset)))
    microseconds = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert read([there.isoformat()]) == ([expected], {})
    assert read([f"{microseconds / 1e6:.6f}"], "epoch") == ([expected], {})
    assert read([f"{microseconds / 1e3:.3f}"], "epoch_ms") == ([expected], {})


def test_hours_that_clocks_skip_do_not_exist_and_those_that_come_twice_are_the_first() -> None:
    found, problems = read(["2026-03-29 02:30:00", "2025-10-26 02:30:00"], zone="Europe/Berlin")
    assert problems == {0: "timestamp: does not exist in Europe/Berlin, not '2026-03-29 02:30:00'"}
    assert found[1] == "2025-10-26T00:30:00.000000Z"


def test_a_wrong_unit_is_suspected() -> None:
    _, problems = read(["1767323045"], "epoch_ms")
    assert "(is it --time-format epoch?)" in problems[0]
    _, problems = read(["1767323045000"], "epoch")
    assert "(is it --time-format epoch_ms?)" in problems[0]
    _, problems = read(["1e300", "nan", "x"], "epoch")
    assert sorted(problems) == [0, 1, 2]


def test_clocks_may_differ_a_little() -> None:
    assert read(["2026-06-01T00:04:00Z"])[1] == {}
    assert "in the future" in read(["2026-06-01T00:06:00Z"])[1][0]


@pytest.mark.parametrize(
    ("form", "zone", "match"),
    [
        ("epochs", "UTC", "--time-format: 'epochs' is no format; did you mean 'epoch'"),
        ("unix", "UTC", "known: iso, epoch, epoch_ms"),
        ("%Q", "UTC", "--time-format: '%Q' cannot be used"),
        ("%Y-%m-%d %H:%m:%S", "UTC", "--time-format: '%Y-%m-%d %H:%m:%S' cannot be used"),
        ("%Y-%m-%d %H:%M:%S %Z", "UTC", r"a zone's name \(%Z\) says no offset; write %z"),
        ("iso", "Europe/Berln", "--timezone: there is no 'Europe/Berln'; did you mean 'Europe/Ber"),
    ],
)
def test_wrong_words_are_errors(form: str, zone: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        time_format(form, zone)


@pytest.mark.parametrize("form", ["epoch", "epoch_ms"])
def test_units_that_cannot_be_read_are_not_guessed(form: str) -> None:
    column = pa.array([1_767_000_000_000_000 if form == "epoch_ms" else 1_767_000_000_000_000_000])
    found = time_format(form, "UTC").read(column, datetime(2026, 3, 1, tzinfo=UTC))
    (problem,) = found.problems.values()
    assert "is it" not in problem.kind
    assert "seconds and milliseconds" in problem.kind


@pytest.mark.parametrize("form", ["%Y-%m", "%H:%M", "%Y %B"])
def test_a_format_that_leaves_the_day_open_is_an_error(form: str) -> None:
    with pytest.raises(ConfigError, match="leaves the day open"):
        time_format(form, "UTC")
