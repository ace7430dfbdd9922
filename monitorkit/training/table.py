"""A CSV file as columns of exact numbers, and every way it can be wrong, by line and column."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.errors import DataError
from monitorkit.schema import LARGEST

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"})
"""Spellings of a missing value."""

_INDEX = ("", "Unnamed: 0")
FLAGS = {"true": 1.0, "false": 0.0}
"""Spellings of 1 and 0, in any case."""


class Table:
    """The cells of one CSV file: a header, then one record a row; blank lines do not count.

    Args:
        path: for errors.
        content: the file's bytes.

    Raises:
        DataError: not UTF-8, not CSV, no header or records, or records of unequal length.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = str(path)
        self._text = self._decoded(content)
        try:
            records = list(filter(None, self._reader()))
        except csv.Error as error:
            raise self._not_csv(error) from error
        if not records:
            raise DataError(self.path, "the file is empty", "It needs a header and rows.")
        self.header = self._named(records.pop(0))
        if not records:
            raise DataError(self.path, "it has a header and no rows", "Add rows of data.")
        if set(map(len, records)) != {len(self.header)}:
            self._refuse_ragged(records)
        self.rows = len(records)
        self._columns = list(zip(*records, strict=True))
        # float() takes more than numbers in a file may be: 1_000, and digits of other scripts.
        self._strange = "_" in self._text[self._text.find("\n") :] or not self._text.isascii()

    @classmethod
    def read(cls, path: Path) -> Table:
        """Read a file.

        Raises:
            DataError: it cannot be read, or as above.
        """
        return cls(path, content(path))

    @property
    def columns(self) -> list[str]:
        """Names, without the row number that pandas writes as an unnamed first column."""
        return [name for name in self.header if name not in _INDEX or name != self.header[0]]

    def cells(self, column: str) -> Sequence[str]:
        """(rows,) text of one column."""
        return self._columns[self.header.index(column)]

    def numbers(self, column: str) -> NDArray[np.float64]:
        """One column, each number the nearest float64 to what is written.

        A column of true and false, as pandas writes them, is one of 1 and 0.

        Returns:
            (rows,) NaN where missing.

        Raises:
            DataError: for a value that is not a finite number, or beyond what a request may hold.
        """
        cells = self.cells(column)
        try:
            values = [math.nan if cell in MISSING else float(cell) for cell in cells]
        except ValueError:
            if not all(cell in MISSING or cell.lower() in FLAGS for cell in cells):
                raise self._wrong_number(column) from None
            return np.array([FLAGS.get(cell.lower(), math.nan) for cell in cells])
        numbers = np.array(values, dtype=np.float64)
        # float() also reads "-nan" and, past the largest float64, gives infinity.
        missing = int(np.isnan(numbers).sum())
        wrong = np.isinf(numbers).any() or (
            missing and missing != sum(map(MISSING.__contains__, cells))
        )
        if wrong or (self._strange and not all(map(_is_plain, cells))):
            raise self._wrong_number(column)
        large = np.flatnonzero(np.abs(numbers) > LARGEST)
        if large.size:
            raise self._refused(
                column, int(large[0]), f"beyond {LARGEST:.4g}, where float32 and requests end"
            )
        return numbers

    def require(self, columns: Sequence[str], remedy: str) -> None:
        """Refuse a file that lacks one of these columns.

        Raises:
            DataError: naming all that are missing, and what is spelled nearly so.
        """
        lacking = [column for column in columns if column not in self.header]
        if not lacking:
            return
        spare = [name for name in self.columns if name not in columns]
        near = [difflib.get_close_matches(name, spare, n=1, cutoff=0.75) for name in lacking]
        hints = ", ".join(f"{match[0]!r}" for match in near if match)
        if hints:
            remedy = f"The file has {hints}: correct the spelling. {remedy}"
        elif len(self.header) == 1 and any(mark in self.header[0] for mark in ";\t|"):
            remedy = f"Separate the columns by commas. {remedy}"
        names = ", ".join(map(repr, lacking))
        what = "a column is" if len(lacking) == 1 else f"{len(lacking)} columns are"
        raise DataError(self.path, f"{what} missing: {names}", remedy, line=1)

    def line(self, row: int) -> int:
        """The line, from 1, on which a row (from 0) ends."""
        reader = self._reader()
        lines = (int(reader.line_num) for record in reader if record)
        return next(itertools.islice(lines, row + 1, None))

    def _decoded(self, content: bytes) -> str:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            problem = f"byte 0x{content[error.start]:02x} is not UTF-8"
            raise DataError(self.path, problem, "Save the file as UTF-8.", line=line) from error
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            raise DataError(
                self.path,
                "there is a NUL character",
                "The file is damaged, or not text: save it again as CSV in UTF-8.",
                line=line,
            )
        return text

    def _reader(self) -> Any:
        return csv.reader(io.StringIO(self._text, newline=""), strict=True)

    def _named(self, header: list[str]) -> list[str]:
        """Only the first column may be without a name: the row number."""
        for position, name in enumerate(header):
            if not name and position:
                problem = f"column {position + 1} has no name"
                raise DataError(self.path, problem, "Name or remove it.", line=1)
            if name in header[:position]:
                problem = "two columns have this name"
                raise DataError(self.path, problem, "Rename or remove one.", line=1, column=name)
        return header

    def _not_csv(self, error: csv.Error) -> DataError:
        reader = self._reader()
        try:
            for _ in reader:
                continue
        except csv.Error:
            line = reader.line_num
        return DataError(
            self.path,
            f"it is not CSV ({error})",
            "Close every quotation mark, and double those inside a value.",
            line=line,
        )

    def _refuse_ragged(self, records: list[list[str]]) -> None:
        width = len(self.header)
        row = next(row for row, record in enumerate(records) if len(record) != width)
        raise DataError(
            self.path,
            f"{len(records[row])} values where the header has {width} columns",
            "Give every line as many values as there are columns; put a value with a comma in "
            "quotation marks.",
            line=self.line(row),
        )

    def _wrong_number(self, column: str) -> DataError:
        cells = self.cells(column)
        row = next(row for row, cell in enumerate(cells) if not _is_number(cell))
        try:
            infinite = math.isinf(float(cells[row]))
        except ValueError:
            infinite = False
        return self._refused(column, row, "infinite" if infinite else "not a number")

    def _refused(self, column: str, row: int, what: str) -> DataError:
        cell = self.cells(column)[row]
        shown = cell if len(cell) <= 40 else cell[:40] + "..."  # noqa: PLR2004
        remedy = "Correct it, leave it empty when it is missing, or remove the column."
        return DataError(
            self.path, f"{shown!r} is {what}", remedy, line=self.line(row), column=column
        )


def content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise DataError(str(path), "it is a folder", "Name a CSV file.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        remedy = "Check the path and the permissions."
        raise DataError(str(path), f"it cannot be read: {reason}", remedy) from error


def _is_plain(cell: str) -> bool:
    return "_" not in cell and cell.isascii()


def _is_number(cell: str) -> bool:
    if cell in MISSING:
        return True
    try:
        return _is_plain(cell) and math.isfinite(float(cell))
    except ValueError:
        return False
