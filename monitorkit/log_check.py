"""`verify-log`: counts for each segment and a line a finding, for people and as a document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from rich import box
from rich.table import Table

from monitorkit import progress, tables
from monitorkit.config import Config
from monitorkit.errors import LogUnreadable
from monitorkit.prediction_log import verification
from monitorkit.prediction_log.verified import Finding, Report
from monitorkit.units import several

SCHEMA_VERSION = 1


def run(config: Config, *, seal: bool = False) -> dict[str, Any]:
    """Check the prediction log and print what was found.

    Args:
        config: the whole configuration.
        seal: first take closed segments that no chain speaks of into their chains.

    Returns:
        The report as JSON has it; `sound`: whether all is.

    Raises:
        LogUnreadable: a file or folder cannot be read, or a chain not written.
        ArchiveUnreachable: an archive cannot be read.
    """
    folder = config.storage.predictions
    if not folder.is_dir():
        raise LogUnreadable(str(folder), "there is no such folder")
    try:
        sealed = verification.seal(folder) if seal else []
        with progress.on_terminal("verify_log") as advance:
            report = verification.verify(folder, config.log.archives, advance=advance)
    except OSError as error:
        raise LogUnreadable(str(folder), str(error)) from error
    _show(report, sealed)
    return document(report, sealed)


def document(report: Report, sealed: list[str]) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sound": not report.findings,
        "rows": report.rows,
        "bad": sum(each.bad for each in report.segments),
        "torn": sum(each.torn for each in report.segments),
        "newly_sealed": sealed,
        **asdict(report),
    }


def line_of(finding: Finding) -> str:
    """A finding in one line."""
    place = finding.file if finding.line is None else f"{finding.file}, line {finding.line}"
    return f"{place}: {finding.problem}. {finding.remedy}"


def _show(report: Report, sealed: list[str]) -> None:
    for file in sealed:
        click.echo(f"sealed as it is now: {file}")
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("segment", overflow="fold")
    for heading in ("rows", "no rows", "torn", "backwards", "bytes"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for each in report.segments:
        numbers = (each.rows, each.bad, each.torn, each.backwards, each.bytes)
        table.add_row(each.file, *(f"{number:,}" for number in numbers), each.state)
    tables.console().print(table)
    for text in _summary(report):
        click.echo(text)
    for finding in report.findings:
        click.echo(line_of(finding))
    if report.findings:
        click.echo(f"{several(len(report.findings), 'finding')}: the log is not sound.")
    else:
        click.echo("All is sound; of open segments only the form can be checked.")


def _summary(report: Report) -> list[str]:
    lines = [f"{several(report.rows, 'row')} in {several(len(report.segments), 'segment')}."]
    if report.pruned:
        lines.append(
            f"Deleted by retention: {several(report.pruned_rows, 'row')} in {report.pruned}."
        )
    lines += [
        f"Set aside: {file}, {several(number, 'line')}."
        for file, number in report.set_aside.items()
    ]
    lines += [
        f"Chain {head.file}: {several(head.lines, 'line')}, head {head.sha256}"
        for head in report.chains
    ]
    return lines
