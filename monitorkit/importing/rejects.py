"""The rejects file: every row that was not taken, as it stands in the file, and why."""

from __future__ import annotations

import csv
import errno
import filecmp
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from monitorkit import durable, logs
from monitorkit.errors import DataError
from monitorkit.importing.batch import Reject

log = logs.get(__name__)

EVENTS = 10
"""So many rows are events of their own."""

KINDS = 1000
"""So many ways to be wrong are counted."""

COLUMNS = (b"reject_line", b"reject_reason")


def rows_begin(header: bytes, delimiter: str) -> re.Pattern[bytes] | None:
    """How the rows of a rejects file begin; None: the file with this header is none."""
    mark = delimiter.encode()
    if not header.startswith(mark.join((*COLUMNS, b""))):
        return None
    mark = re.escape(mark)
    return re.compile(rb'(\d+)%b(?:"(?:[^"]|"")*"|[^"%b]*)%b' % (mark, mark, mark), re.DOTALL)


class Rejects:
    """Counts rows that are not taken, tells of the first ones, and writes them all to a file.

    The file can be corrected and imported like the one that they come from: it has the same
    columns, after two more. It has its name when all is written; without a row there is none.

    Args:
        path: of the file.
        source: where the rows come from.
        header: the first line of that.
        delimiter: that separates its fields.
    """

    def __init__(self, path: Path, source: str, header: bytes, delimiter: str) -> None:
        self.path = path
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self.firsts: dict[str, tuple[int, str | None]] = {}
        self._source = source
        self._header = header
        self._delimiter = delimiter
        self._special = durable.is_special(path)
        self._temporary = path if self._special else durable.beside(path)
        self._file: BinaryIO | None = None

    def add(self, rejects: Sequence[Reject]) -> None:
        """Take some rows, in the file's order.

        Raises:
            DataError: the file cannot be written.
        """
        for reject in rejects[: max(0, EVENTS - self.count)]:
            log.warning(
                "import_row_rejected", file=self._source, line=reject.line, reason=reject.reason
            )
        self.count += len(rejects)
        for reject in rejects:
            for kind, got in reject.problems:
                if kind in self.kinds or len(self.kinds) < KINDS:
                    self.kinds[kind] += 1
                    self.firsts.setdefault(kind, (reject.line, got))
        if rejects:
            self._write(b"".join(map(self._line, rejects)))

    def finish(self) -> None:
        """See to it that the rows are on the disk, and the file can have its name.

        Another file of the name is kept under another one: later it is too late for an error.

        Raises:
            DataError: they cannot be written.
        """
        if self._file is None:
            return
        try:
            self._file.flush()
            if self._special:
                return
            os.fsync(self._file.fileno())
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._keep_the_one_before()
        except OSError as error:
            raise self._unwritable(error) from error

    def keep(self) -> Path | None:
        """Give the file its name, once it is finished; None when there is no row in it.

        Raises:
            DataError: that cannot be done.
        """
        if self._file is None:
            return None
        try:
            self._file.close()
            if not self._special:
                self._temporary.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        self._file = None
        return self.path

    def _keep_the_one_before(self) -> None:
        """Another file of the name may be rows that somebody has corrected since: it stays."""
        if not self.path.exists() or filecmp.cmp(self.path, self._temporary, shallow=False):
            return
        names = (f"{self.path.stem}-{n}{self.path.suffix}" for n in count(1))
        aside = next(path for path in map(self.path.with_name, names) if not path.exists())
        self.path.rename(aside)
        log.info("import_rejects_kept", file=str(aside))

    def discard(self) -> None:
        """Leave nothing behind, unless it was kept."""
        if self._file is not None:
            with suppress(OSError):  # a full disk again: what is not written goes anyway
                self._file.close()
            if not self._special:
                self._temporary.unlink(missing_ok=True)
            self._file = None

    def _write(self, data: bytes) -> None:
        try:
            if self._file is None:
                if not self._special:
                    durable.clear_leftovers(self.path.parent, self.path.name)
                self._file = self._temporary.open("wb")
                mark = self._delimiter.encode()
                self._file.write(mark.join((*COLUMNS, self._header)) + b"\n")
            self._file.write(data)
        except OSError as error:
            raise self._unwritable(error) from error

    def _line(self, reject: Reject) -> bytes:
        text = io.StringIO()
        cells = (reject.line, reject.reason, "")  # and a delimiter at the end
        csv.writer(text, delimiter=self._delimiter, lineterminator="").writerow(cells)
        return text.getvalue().encode("utf-8", errors="backslashreplace") + reject.raw + b"\n"

    def _unwritable(self, error: OSError) -> DataError:
        problem = f"rejected rows cannot be written there: {error.strerror or error}"
        return DataError(str(self.path), problem, "Name another file with --rejects.")
