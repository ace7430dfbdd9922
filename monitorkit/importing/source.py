"""Opening a file that shall be imported: CSV or Parquet, told apart by how it begins."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from monitorkit.errors import DataError
from monitorkit.importing import cells
from monitorkit.importing.batch import Batch, Source
from monitorkit.importing.records import CsvFile

PARQUET = b"PAR1"
BATCH_ROWS = 32_768
BATCH_CELLS = 1 << 20
"""Of wide files fewer rows are held in memory at once."""


def open_source(path: Path) -> Source:
    """Open a file of either kind.

    Raises:
        DataError: it cannot be read, or is neither.
    """
    try:
        with path.open("rb") as file:
            if not file.seekable():
                problem, remedy = "it is a pipe, and is read twice", "Write it to a file first."
                raise DataError(str(path), problem, remedy)
            begin = file.read(len(PARQUET))
        return ParquetFile(path) if begin == PARQUET else CsvFile(path)
    except IsADirectoryError as error:
        raise DataError(str(path), "it is a folder", "Name one file at a time.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check the path and the permissions."
        raise DataError(str(path), f"it cannot be read: {reason}", remedy) from error


class ParquetFile:
    """The rows of a Parquet file, read a part of a row group at once.

    Args:
        path: of the file.

    Raises:
        DataError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa  # noqa: PLC0415 - only when a file is imported
        from pyarrow import parquet  # noqa: PLC0415

        self.delimiter = ","
        self._path = str(path)
        self._errors = (pa.ArrowException, OSError)
        try:
            self._file = parquet.ParquetFile(path)
        except self._errors as error:
            raise self._unreadable(error) from error
        self.columns = tuple(str(name) for name in self._file.schema_arrow.names)
        self.header = _line(self.columns)
        self._rows = max(1, int(self._file.metadata.num_rows))
        self._read = 0

    @property
    def done(self) -> float:
        """The share of the rows that was read."""
        return min(1.0, self._read / self._rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def batches(self) -> Iterator[Batch]:
        """All rows.

        Raises:
            DataError: the file is damaged further on.
        """
        rows = min(BATCH_ROWS, BATCH_CELLS // max(len(self.columns), 1) + 1)
        parts = self._file.iter_batches(batch_size=rows)
        while True:
            try:
                part = next(parts, None)
            except self._errors as error:
                raise self._unreadable(error) from error
            if part is None:
                return
            if part.num_rows:
                yield self._batch(part)

    def _batch(self, part: Any) -> Batch:
        import pyarrow as pa  # noqa: PLC0415 - as above

        first = self._read + 1
        self._read += int(part.num_rows)

        @cache
        def raws() -> Sequence[bytes]:
            columns = map(cells.plain_values, part.columns)
            return [_line(row) for row in zip(*columns, strict=True)]

        columns = {
            name: pa.chunked_array([column])
            for name, column in zip(self.columns, part.columns, strict=True)
        }
        return Batch(range(first, first + part.num_rows), columns, raws)

    def _unreadable(self, error: Exception) -> DataError:
        problem = f"it cannot be read as Parquet: {str(error).partition(chr(10))[0]}"
        return DataError(self._path, problem, "Get a whole copy of it, or write it again.")


def _line(values: Sequence[object]) -> bytes:
    """Values as a line of CSV, None as an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().encode("utf-8", errors="backslashreplace")
