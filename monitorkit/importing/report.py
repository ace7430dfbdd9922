"""What became of an import as a person reads it on a terminal."""

from __future__ import annotations

from rich.console import Console

from monitorkit import tables
from monitorkit.importing.backfill import Reason, Summary
from monitorkit.units import several

SHOWN_REASONS = 10
SHOWN_SEGMENTS = 3


def show(summary: Summary, console: Console | None = None) -> None:
    """Print how many rows were taken, where they are, and why the others were not.

    Args:
        summary: of the import.
        console: where to print; stdout by default.
    """
    console = console or tables.console()
    for line in _lines(summary):
        console.print(line, soft_wrap=True, highlight=False)


def _lines(summary: Summary) -> list[str]:
    verb = "Would import" if summary.dry_run else "Imported"
    lines = [f"{verb} {several(summary.rows, 'row')} of {summary.file}{_span(summary)}."]
    if not summary.rows:
        lines = [f"Nothing new in {summary.file}."]
    if summary.made and summary.rows:
        lines.append(f"Made, since the file has none: {', '.join(summary.made)}.")
    if summary.unused and summary.rows:
        lines.append(f"Columns that nothing uses: {', '.join(summary.unused)}.")
    if summary.present:
        lines.append(f"Already in the log: {several(summary.present, 'row')}.")
    if summary.rejected:
        lines.append(f"Rejected: {several(summary.rejected, 'row')}.")
    lines += [
        f"  {each.rows:>9,}  {each.text} (first on line {each.line}{_got(each)})"
        for each in summary.reasons[:SHOWN_REASONS]
    ]
    if len(summary.reasons) > SHOWN_REASONS:
        lines.append(f"  and {len(summary.reasons) - SHOWN_REASONS} other reasons")
    if summary.rejects is not None:
        lines.append(f"Rejects: {summary.rejects}")
    lines += [f"Segment: {path}" for path in summary.segments[:SHOWN_SEGMENTS]]
    if len(summary.segments) > SHOWN_SEGMENTS:
        lines.append(f"and {len(summary.segments) - SHOWN_SEGMENTS} more segments")
    return lines


def _got(reason: Reason) -> str:
    return "" if reason.got is None else f": {reason.got}"


def _span(summary: Summary) -> str:
    if summary.first is None or summary.last is None:
        return ""
    first, last = (stamp[:19].replace("T", " ") for stamp in (summary.first, summary.last))
    return f", {first} to {last} UTC"
