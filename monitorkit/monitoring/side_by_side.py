"""What was flagged beside what would have been: a table on a terminal, events in a pipe."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitorkit import logs, tables
from monitorkit.monitoring.comparison import Compared, Seen
from monitorkit.units import several, timestamp

log = logs.get(__name__)

NAMES = 4
"""So many columns are named in a cell of the table."""

STYLES = {"drift": "red", "failed": "red", "flagged": "yellow", "skipped": "dim", "ok": ""}


@dataclass(slots=True)
class _Run:
    """Cycles, one after the other, that read the same: a drift that lasts is two lines, not 2,000.

    Attributes:
        first, last: of them.
        cycles: how many there are.
        ends: how many cycles there were in all when the last one had come.
    """

    first: Compared
    last: Compared
    cycles: int
    ends: int

    def goes_on(self, compared: Compared, number: int) -> bool:
        """Whether a cycle is the next one, and reads the same."""
        return self.ends + 1 == number and _reading(self.last) == _reading(compared)


class Report:
    """Takes one cycle after the other, and sums up in the end.

    Args:
        planned: cycles that are to come.
        late: rows that cycles without a record see later than the rows' time stamps say.
        console: where to print; by default stdout, if that is a terminal.
    """

    def __init__(self, planned: int, late: int = 0, console: Console | None = None) -> None:
        self._planned = planned
        self._console = console or (tables.console() if sys.stdout.isatty() else None)
        self._late = late
        self._shown: list[_Run] = []
        self._cycles: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}

    def add(self, compared: Compared) -> None:
        """Count a cycle, and keep it for the table, or tell of it at once."""
        recorded, replayed = compared.recorded, compared.replayed
        then, again = recorded is not None and bool(recorded.flagged), bool(replayed.flagged)
        self._counts["cycles"] += 1
        self._counts[compared.agreement] += 1
        if recorded is None:
            self._counts["flagged_without_record"] += again
        else:
            self._counts["flagged_in_both"] += then and again
            self._counts["flagged_in_record_only"] += then and not again
            self._counts["flagged_in_replay_only"] += again and not then
        if replayed.verdict in ("skipped", "failed"):
            self._counts[replayed.verdict] += 1
        if replayed.reason is not None and replayed.verdict == "failed":
            self._reasons.setdefault("failed", replayed.reason)
        if compared.agreement == "incomparable":
            for note in compared.notes:
                self._reasons.setdefault("incomparable", note)
        for monitor, reason in replayed.failures.items():
            self._failed[monitor] += 1
            self._reasons.setdefault(f"monitor {monitor}", reason)
        self._cycles.append(_fields(compared))
        if self._console is None:
            log.info("cycle_replayed", **self._cycles[-1])
        elif compared.noteworthy:
            number = self._counts["cycles"]
            if self._shown and self._shown[-1].goes_on(compared, number):
                run = self._shown[-1]
                run.last, run.cycles, run.ends = compared, run.cycles + 1, number
            else:
                self._shown.append(_Run(compared, compared, 1, number))

    def finish(self) -> None:
        """Print the table and what it comes to; or one last event. Also before all is done."""
        if self._console is None:
            log.info("replay_summary", **self._summary())
            return
        if self._shown:
            self._console.print(_table(self._shown))
        for line in self._lines():
            self._console.print(line, highlight=False, soft_wrap=True)

    def document(self) -> dict[str, Any]:
        """All of it as JSON has it: what it comes to, and each cycle."""
        return {"summary": self._summary(), "cycles": self._cycles}

    def _summary(self) -> dict[str, Any]:
        names = ("cycles", *_AGREEMENTS, *_FLAGGED, "skipped", "failed")
        counts = {name: self._counts[name] for name in names}
        return {"planned": self._planned, **counts, "late_rows": self._late}

    def _lines(self) -> Iterator[str]:
        counts = self._counts
        if not self._planned:
            yield "Nothing to replay: there are neither results nor rows of that time."
            return
        if counts["cycles"] < self._planned:  # stopped, or a record is damaged
            yield f"{counts['cycles']:,} of {self._planned:,} cycles were replayed."
        unrecorded = counts["unrecorded"]
        yield (
            f"{several(counts['cycles'], 'cycle')}: {counts['cycles'] - unrecorded:,} recorded, "
            f"{unrecorded:,} without a record; {counts['skipped']:,} skipped for too few rows."
        )
        yield (
            f"Flagged: {counts['flagged_in_both']:,} in both, "
            f"{counts['flagged_in_record_only']:,} only in the record, "
            f"{counts['flagged_in_replay_only']:,} only in the replay, "
            f"{counts['flagged_without_record']:,} without a record."
        )
        yield f"Findings: {counts['same']:,} the same, {counts['different']:,} different."
        if counts["incomparable"]:
            reason = self._reasons["incomparable"]
            cycles = several(counts["incomparable"], "cycle")
            yield f"{cycles} cannot be compared; the first: {reason}."
        if counts["failed"]:
            reason = self._reasons["failed"]
            yield f"{several(counts['failed'], 'cycle')} could not be replayed; the first: {reason}"
        for monitor, times in self._failed.items():
            reason = self._reasons[f"monitor {monitor}"]
            yield f"Monitor {monitor!r} failed in {several(times, 'cycle')}; at first: {reason}"
        if self._late:
            yield (
                f"{self._late:,} rows stand behind later ones in the log: cycles without a record "
                "see them only when those have come."
            )


_AGREEMENTS = ("same", "different", "incomparable", "unrecorded")
_FLAGGED = (
    "flagged_in_both",
    "flagged_in_record_only",
    "flagged_in_replay_only",
    "flagged_without_record",
)


def _table(shown: Sequence[_Run]) -> Table:
    table = Table("time (UTC)", box=None, pad_edge=False)
    table.add_column("rows", justify="right")
    for heading in ("recorded", "replayed", ""):
        table.add_column(heading)
    for run in shown:
        _add_row(table, run.first)
        if run.cycles > 1:
            _add_row(table, run.last, run.cycles)
    return table


def _add_row(table: Table, compared: Compared, cycles: int = 1) -> None:
    rows, remarks = compared.replayed.rows, list(_remarks(compared))
    if cycles > 2:  # noqa: PLR2004 - two are both there to see
        remarks.append(f"the last of {cycles:,} in a row")
    table.add_row(
        Text(f"{compared.now:%Y-%m-%d %H:%M:%S}", no_wrap=True),
        "" if rows is None else f"{rows:,}",
        _cell(compared.recorded),
        _cell(compared.replayed),
        Text("; ".join(remarks)),
    )


def _reading(compared: Compared) -> tuple[str, ...]:
    """What a row of the table says, but for its time and its rows."""
    sides = _cell(compared.recorded), _cell(compared.replayed)
    return *(side.plain for side in sides), *_remarks(compared)


def _cell(seen: Seen | None) -> Text:
    if seen is None:
        return Text("no record", "dim")
    text = Text(seen.verdict, STYLES[seen.verdict])
    columns = seen.columns
    if columns:
        rest = len(columns) - NAMES
        names = ", ".join(columns[:NAMES]) + (f" and {rest} more" if rest > 0 else "")
        text.append(f" {names}", "default")
    return text


def _remarks(compared: Compared) -> Iterator[str]:
    if compared.agreement == "different":
        differing = ", ".join(compared.differing)
        yield f"differs: {differing}" if differing else "differs"
    yield from compared.notes
    if compared.replayed.failures:
        yield f"failed: {', '.join(compared.replayed.failures)}"


def _fields(compared: Compared) -> dict[str, Any]:
    return {
        "at": timestamp(compared.now),
        "model_version": compared.model_version,
        "run_id": compared.run_id,
        "recorded": None if compared.recorded is None else _side(compared.recorded),
        "replayed": _side(compared.replayed),
        "agreement": compared.agreement,
        "differing": list(compared.differing),
        "notes": list(compared.notes),
    }


def _side(seen: Seen) -> dict[str, Any]:
    side: dict[str, Any] = {
        "verdict": seen.verdict,
        "rows": seen.rows,
        "flagged": {name: list(columns) for name, columns in seen.flagged.items()},
    }
    if seen.failures:
        side["failures"] = dict(seen.failures)
    if seen.reason is not None:
        side["reason"] = seen.reason
    return side
