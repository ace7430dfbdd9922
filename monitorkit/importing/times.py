"""Timestamps of other services, in whatever way they are written, as microseconds in UTC."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.errors import ConfigError
from monitorkit.importing import cells
from monitorkit.importing.batch import Problem
from monitorkit.importing.cells import Column

Microseconds = NDArray[np.int64]

EPOCH = {"epoch": 1_000_000.0, "epoch_ms": 1_000.0}
"""Microseconds in a unit of the formats that are numbers."""

EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
"""Nobody logged predictions before; a wrong unit or a format without a year leads there."""

AHEAD = timedelta(minutes=5)
"""How far clocks may differ: no prediction was made later than now."""

_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How a file writes its timestamps.

    Attributes:
        text: `iso`, `epoch`, `epoch_ms`, or a format of strptime.
        zone: of those that do not say theirs.
    """

    text: str
    zone: tzinfo

    def read(self, array: Any, now: datetime) -> Column[Microseconds]:
        """Microseconds since 1970, UTC.

        Args:
            array: (rows,) texts, numbers or timestamps.
            now: what is later is a problem.
        """
        import pyarrow as pa  # noqa: PLC0415 - only when a file is imported

        kind = array.type
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            column = self._typed(array)
        elif self.text in EPOCH:
            column = self._counted(array, EPOCH[self.text])
        elif cells.is_text(kind):
            column = self._written(array)
        else:
            hint = "a date or a text; if it counts from 1970, say --time-format epoch or epoch_ms"
            problem = Problem(f"must be {hint}", str(kind))
            rows = len(array)
            column = Column(np.zeros(rows, np.int64), dict.fromkeys(range(rows), problem))
        return self._plausible(column, now)

    def _typed(self, array: Any) -> Column[Microseconds]:
        import pyarrow as pa  # noqa: PLC0415 - as above

        aware = getattr(array.type, "tz", None) is not None
        target = pa.timestamp("us", tz="UTC") if aware else pa.timestamp("us")
        moments = array.cast(target, safe=False)
        if not aware and self.zone is not UTC:
            return self._each(cells.python_values(moments), _moment)
        return _from_arrow(moments)

    def _counted(self, array: Any, unit: float) -> Column[Microseconds]:
        """Numbers; a float64 holds the microseconds of two centuries."""
        column = cells.numbers(array)
        problems = dict(column.problems)
        for row in np.flatnonzero(np.isnan(column.values)):
            problems.setdefault(int(row), _MISSING)
        with np.errstate(all="ignore"):
            scaled = np.clip(np.nan_to_num(column.values * unit), -9e18, 9e18)
        return Column(np.round(scaled).astype(np.int64), problems)

    def _written(self, array: Any) -> Column[Microseconds]:
        import pyarrow as pa  # noqa: PLC0415 - as above

        if self.text != "iso":
            return self._each(array.to_pylist(), lambda t: datetime.strptime(t, self.text))  # noqa: DTZ007 - see _each
        array = array.cast(pa.string())
        kinds = [pa.timestamp("us", tz="UTC")]
        if self.zone is UTC:
            kinds.append(pa.timestamp("us"))
        for kind in kinds:  # all of them with an offset, or all without
            try:
                return _from_arrow(array.cast(kind))
            except pa.ArrowInvalid:
                continue
        return self._each(array.to_pylist(), datetime.fromisoformat)

    def _each(
        self, values: Sequence[Any], parse: Callable[[Any], datetime]
    ) -> Column[Microseconds]:
        found = np.zeros(len(values), np.int64)
        problems: dict[int, Problem] = {}
        for row, value in enumerate(values):
            if value is None or not str(value).strip():
                problems[row] = _MISSING
                continue
            try:
                found[row] = self._microseconds(parse(value))
            except (ValueError, OverflowError) as error:
                known = isinstance(error, _NoSuchTime)
                wrong = str(error) if known else f"must be {self._expected()}"
                problems[row] = Problem(wrong, cells.shown(value))
        return Column(found, problems)

    def _microseconds(self, moment: datetime) -> int:
        if moment.tzinfo is None:
            local = moment.replace(tzinfo=self.zone)
            if local.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != moment:
                raise _NoSuchTime(f"does not exist in {self.zone}")
            moment = local
        return (moment - _ZERO) // _MICROSECOND

    def _expected(self) -> str:
        return "ISO 8601" if self.text == "iso" else f"written as {self.text}"

    def _plausible(self, column: Column[Microseconds], now: datetime) -> Column[Microseconds]:
        values, problems = column.values, dict(column.problems)
        early = values < (EARLIEST - _ZERO) // _MICROSECOND
        late = values > (now + AHEAD - _ZERO) // _MICROSECOND
        limits = ((early, f"must be {EARLIEST.year} or later"), (late, "must not be in the future"))
        for wrong, kind in limits:
            told = f"{kind}{self._unit_hint(wrong, values)}"
            for row in np.flatnonzero(wrong):
                got = np.datetime_as_string(values[row].astype("datetime64[us]"), unit="s")
                problems.setdefault(int(row), Problem(told, str(got)))
        return Column(
            values,
            {row: Problem(f"timestamp: {kind}", got) for row, (kind, got) in problems.items()},
        )

    def _would_fit(self, values: Microseconds) -> bool:
        """Whether the other unit makes times of years that a log can have."""
        factor = 1e-3 if self.text == "epoch" else 1e3
        year = np.median(values) * factor / (365.25 * 86400e6) + 1970
        return bool(EARLIEST.year <= year < EARLIEST.year + 200)

    def _unit_hint(self, wrong: NDArray[np.bool_], values: Microseconds) -> str:
        """All of them far off: seconds were taken for milliseconds, or the other way round."""
        if self.text not in EPOCH or not (wrong.size and wrong.all()):
            return ""
        if not self._would_fit(values):
            return " (seconds and milliseconds since 1970 can be read)"
        other = next(name for name in EPOCH if name != self.text)
        return f" (is it --time-format {other}?)"


class _NoSuchTime(ValueError):  # noqa: N818 - never leaves this module
    """Clocks were put forward over it, or no calendar has it."""


def _moment(value: datetime | str) -> datetime:
    if isinstance(value, str):  # see `cells.python_values`
        raise _NoSuchTime("must be a date of the years 1 to 9999")
    return value


_MISSING = Problem("is missing")


def _from_arrow(array: Any) -> Column[Microseconds]:
    import pyarrow as pa  # noqa: PLC0415 - as above

    gaps = np.flatnonzero(array.is_null().to_numpy())
    values = array.cast(pa.int64()).fill_null(0).to_numpy()
    return Column(values, {int(row): _MISSING for row in gaps})


def time_format(text: str, zone: str) -> TimeFormat:
    """Read `--time-format` and `--timezone`.

    Raises:
        ConfigError: an unknown word or time zone, or a format that leaves the day open.
    """
    words = ("iso", *EPOCH)
    if text not in words:
        if "%" not in text:
            near = difflib.get_close_matches(text, words, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(words)}"
            problem = f"{text!r} is no format; {hint} (or write one as strptime has it: '%d.%m.%Y')"
            raise ConfigError("--time-format", (problem,))
        directives = text.replace("%%", "")
        if "%Z" in directives and "%z" not in directives:
            # strptime takes the names UTC, GMT and those of this machine, and forgets them.
            problem = f"{text!r}: a zone's name (%Z) says no offset; write %z, or leave it out and"
            raise ConfigError("--time-format", (f"{problem} say --timezone",))
        try:
            datetime.strptime(datetime.now(UTC).strftime(text), text)  # noqa: DTZ007 - only tried
        except (ValueError, re.error) as error:  # the latter when one is there twice
            raise ConfigError("--time-format", (f"{text!r} cannot be used: {error}",)) from error
        if not _tells_days(text):
            raise ConfigError("--time-format", (f"{text!r} leaves the day open",))
    return TimeFormat(text, _zone(zone))


def _tells_days(text: str) -> bool:
    """Whether two days of a month are different moments in a format."""
    days = (datetime(2026, 1, day, tzinfo=UTC).strftime(text) for day in (2, 27))
    one, other = (datetime.strptime(day, text) for day in days)  # noqa: DTZ007 - only tried
    return one != other


def _zone(name: str) -> tzinfo:
    if name.upper() in {"UTC", "Z"}:
        return UTC
    import zoneinfo  # noqa: PLC0415 - UTC needs no data base of time zones

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = difflib.get_close_matches(name, sorted(zoneinfo.available_timezones()), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "write it as Europe/Berlin"
        raise ConfigError("--timezone", (f"there is no {name!r}; {hint}",)) from error


def stamps(times: Microseconds) -> list[str]:
    """Timestamps as our log writes them."""
    return [f"{text}Z" for text in np.datetime_as_string(times.astype("datetime64[us]")).tolist()]
