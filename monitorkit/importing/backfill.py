"""An import from the first line to the last: read, convert, leave out what is there, publish."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from monitorkit import logs, progress
from monitorkit.config import Config
from monitorkit.errors import ConfigError, DataError, ImportFailed
from monitorkit.importing.batch import Batch, Problem, Reject, Source
from monitorkit.importing.columns import OPTIONAL, Columns
from monitorkit.importing.conversion import Converter, Rows
from monitorkit.importing.known import KnownRows
from monitorkit.importing.rejects import Rejects
from monitorkit.importing.source import open_source
from monitorkit.importing.targets import Targets
from monitorkit.importing.times import time_format
from monitorkit.prediction_log.folders import folders_of
from monitorkit.prediction_log.imported import Added, ImportedSegments
from monitorkit.prediction_log.rows import Formatter
from monitorkit.units import several

log = logs.get(__name__)

WRITE_ROWS = 2048
"""So many rows become text at once; a segment is that much larger than it may be, at most."""

REPEATED = Problem("prediction_id: this one with this timestamp came before in the file")


@dataclass(frozen=True, slots=True)
class Options:
    """What a user says beside the file.

    Attributes:
        maps: `OURS=THEIRS`.
        version: of the model that made all rows; None: each row says its own.
        time_format, timezone: see `times.time_format`.
        dry_run: read and check everything, and leave the log as it is.
        rejects: where rows go that are not taken; None: beside the file.
    """

    maps: Sequence[str] = ()
    version: str | None = None
    time_format: str = "iso"
    timezone: str = "UTC"
    dry_run: bool = False
    rejects: Path | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """A way to be wrong.

    Attributes:
        text: what must be.
        rows: how many are so.
        line: of the first one.
        got: what stands there.
    """

    text: str
    rows: int
    line: int
    got: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a file.

    Attributes:
        file: that was read.
        dry_run: nothing was written; the rest says what would have been.
        rows: that are part of the log now.
        present: that were in it before.
        rejected: that cannot be.
        first, last: timestamps of `rows`; None without any.
        segments: that hold them.
        reasons: the most frequent one first.
        rejects: the file with the rejected rows; None without any.
        made: our columns that the file does not have.
        unused: its columns that are none of ours.
    """

    file: Path
    dry_run: bool
    rows: int
    present: int
    rejected: int
    first: str | None
    last: str | None
    segments: Sequence[Path]
    reasons: Sequence[Reason]
    rejects: Path | None
    made: Sequence[str] = ()
    unused: Sequence[str] = ()


def run(config: Config, file: Path, options: Options) -> Summary:
    """Import a file, tell what became of it, and show it on a terminal.

    Raises:
        ConfigError: an option cannot be used.
        DataError: the file cannot be read, lacks columns, or has no row that fits.
        RegistryError: a model version cannot be had.
        ImportBusy: another import is under way.
        ArchiveUnreachable: a folder in which rows may be already cannot be read.
        ImportFailed: the log cannot be written.
    """
    summary = import_file(config, file, options)
    log.info(
        "import_checked" if summary.dry_run else "imported",
        file=str(file),
        rows=summary.rows,
        already_there=summary.present,
        rejected=summary.rejected,
        first=summary.first,
        last=summary.last,
        segments=len(summary.segments),
        rejects=str(summary.rejects) if summary.rejects else None,
        made=summary.made,
        unused=summary.unused,
    )
    if sys.stdout.isatty():
        from monitorkit.importing import report  # noqa: PLC0415 - for people only

        report.show(summary)
    return summary


def import_file(config: Config, file: Path, options: Options) -> Summary:
    """Import a file; see `run`."""
    how = time_format(options.time_format, options.timezone)
    path = options.rejects or Path(f"{file}.rejects.csv")
    if path.exists() and file.exists() and path.samefile(file):
        raise ConfigError("--rejects", (f"{path} is the file that is imported; name another",))
    with ExitStack() as stack:
        source = stack.enter_context(closing(open_source(file)))
        columns = _columns(str(file), source, options)
        targets = Targets(config, columns)
        converter = Converter(
            columns,
            targets,
            how,
            version=options.version,
            header=source.header,
            delimiter=source.delimiter,
        )
        columns.check_features(targets.schemas)
        rejects = Rejects(path, str(file), source.header, source.delimiter)
        stack.callback(rejects.discard)
        job = _Job(stack, config, rejects, dry_run=options.dry_run)
        with progress.step("import_rows", file=str(file)) as advance:
            for batch in source.batches():
                converted = converter.convert(batch)
                repeated = [row for rows in converted.rows for row in job.take(batch, rows)]
                rejects.add(sorted([*converted.rejects, *repeated], key=lambda each: each.line))
                advance(source.done)
        columns.check_features(targets.schemas)  # the last row may be of another version
        summary = job.finish(file)
    made = [name for name in OPTIONAL if columns.find(name) is None]
    return replace(summary, made=made, unused=columns.unused(targets.schemas))


def _columns(path: str, source: Source, options: Options) -> Columns:
    columns = Columns.of(path, source.columns, options.maps)
    if options.version is not None and "model_version" in columns.given:
        raise ConfigError(
            "--version", ("it is given, and --map model_version as well; leave one out",)
        )
    return columns


class _Job:
    """Where rows go.

    Args:
        stack: what it opens is closed with it.
        config: says where the log is.
        rejects: of the file.
        dry_run: they go nowhere.
    """

    def __init__(
        self, stack: ExitStack, config: Config, rejects: Rejects, *, dry_run: bool
    ) -> None:
        self._folder = config.storage.predictions
        self._rejects = rejects
        self._segments: ImportedSegments | None = None
        self._checked = Added(self._folder, 0, "~", "")
        self._present = 0
        folders = folders_of(self._folder, config.log.archives)
        with _writing(self._folder):
            if not dry_run:
                segments = ImportedSegments(self._folder, int(config.log.rotate))
                self._segments = stack.enter_context(segments)
            self._known = KnownRows(folders, stack)

    def take(self, batch: Batch, rows: Rows) -> Iterator[Reject]:
        """Take rows of a batch; yields those that came before in the file."""
        formatter = Formatter(rows.schema)
        for start in range(0, len(rows.lines), WRITE_ROWS):
            part = slice(start, start + WRITE_ROWS)
            lines = formatter.lines(rows.predictions[part]).splitlines(keepends=True)
            times = [row.timestamp for row in rows.predictions[part]]
            with _writing(self._folder):
                present, again = self._known.check(lines, times)
                new = np.flatnonzero(~(present | again)).tolist()
                self._add(formatter.columns, [lines[n] for n in new], [times[n] for n in new])
            self._present += int(present.sum())
            repeated = rows.lines[start + np.flatnonzero(again)]
            if len(repeated):
                raws = batch.raws()
                places = np.searchsorted(np.asarray(batch.lines), repeated)
                for line, place in zip(repeated.tolist(), places.tolist(), strict=True):
                    yield Reject(line, (REPEATED,), raws[place])

    def _add(self, columns: tuple[str, ...], lines: Sequence[bytes], times: Sequence[str]) -> None:
        if lines:
            seen = self._checked
            first, last = min(seen.first, *times), max(seen.last, *times)
            self._checked = Added(self._folder, seen.rows + len(lines), first, last)
        if self._segments is not None:
            self._segments.add(columns, lines, times)

    def finish(self, file: Path) -> Summary:
        """Publish what was taken.

        Raises:
            DataError: nothing was, and nothing was there before; or the rejected rows cannot be
                written.
            ImportFailed: it cannot be written.
        """
        rejects, checked = self._rejects, self._checked
        reasons = [
            Reason(text, rows, *rejects.firsts[text]) for text, rows in rejects.kinds.most_common()
        ]
        if not checked.rows and not self._present:
            raise _nothing(file, rejects.count, reasons)
        rejects.finish()
        added: list[Added] = []
        if self._segments is not None:
            with _writing(self._folder):
                added = self._segments.publish(taken=self._known.stems)
        return Summary(
            file=file,
            dry_run=self._segments is None,
            rows=checked.rows,
            present=self._present,
            rejected=rejects.count,
            first=checked.first if checked.rows else None,
            last=checked.last if checked.rows else None,
            segments=[each.path for each in added],
            reasons=reasons,
            rejects=rejects.keep(),
        )


def _nothing(file: Path, rejected: int, reasons: Sequence[Reason]) -> DataError:
    if not rejected:
        return DataError(str(file), "it has a header and no rows", "Name a file that has some.")
    why = "; ".join(
        f"{Problem(each.text, each.got)} ({several(each.rows, 'row')}, {_place(each)})"
        for each in reasons[:3]
    )
    what = "its only row does not fit" if rejected == 1 else f"none of its {rejected:,} rows fits"
    return DataError(str(file), f"{what}: {why}", "Look at --map, --time-format and --version.")


def _place(reason: Reason) -> str:
    return f"on line {reason.line}" if reason.rows == 1 else f"the first on line {reason.line}"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImportFailed(str(folder), error.strerror or str(error)) from error
