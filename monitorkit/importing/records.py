"""A CSV file as batches of cells, whatever its size; what one line holds harms no other.

Blocks without a quotation mark, in which a line is a record, go through pyarrow. The others, and
those that pyarrow refuses, go line by line through Python's csv module, which says what is wrong.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from monitorkit.errors import DataError
from monitorkit.importing.batch import Batch, Problem, Reject

BLOCK_BYTES = 4 * 1024 * 1024
RECORD_BYTES = 1024 * 1024
"""A longer record is none."""

GZIP = b"\x1f\x8b"
DELIMITERS = ",;\t|"

_BOM = b"\xef\xbb\xbf"
_OPEN_QUOTE = "unexpected end of data"
_SHOWN_BYTES = 4096


class CsvFile:
    """The records of a CSV file, plain or compressed by gzip.

    Args:
        path: of the file.
        block_bytes: about how much of it is held in memory at once.

    Raises:
        DataError: it cannot be read, is no text in UTF-8, or has no header.
    """

    def __init__(self, path: Path, *, block_bytes: int = BLOCK_BYTES) -> None:
        csv.field_size_limit(RECORD_BYTES)  # else 128 KiB, and where there are no quotes none
        self._path = str(path)
        self._block_bytes = block_bytes
        self._size = max(1, path.stat().st_size)
        self._raw = path.open("rb")
        self._file: IO[bytes] = self._raw
        if self._raw.read(2) == GZIP:
            self._file = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw))
        self._raw.seek(0)
        self.delimiter = ","
        self._width: int | None = None
        try:
            self._rest, self._line = self._read_header()
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> float:
        """The share of the file that was read."""
        return min(1.0, self._raw.tell() / self._size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    def batches(self) -> Iterator[Batch]:
        """The records after the header, some ten thousand at once.

        Raises:
            DataError: the file cannot be read any further.
        """
        rest = self._rest
        giant = False  # in the middle of a line that is longer than a record may be
        while True:
            block = self._read(self._block_bytes)
            if giant:
                rest, giant = self._skip_line(block)
                if giant and block:
                    continue
                self._line += 1
            else:
                rest += block
            last = not block
            if last and rest and not rest.endswith(b"\n"):
                rest += b"\n"
            cut = rest.rfind(b"\n") + 1
            batch, used = self._batch(rest[:cut], last=last)
            rest = rest[used:]
            if batch.rows or batch.bad:
                yield batch
            if last:
                return
            if len(rest) > RECORD_BYTES and b"\n" not in rest:
                reason = f"it is longer than {RECORD_BYTES} bytes"
                yield self._empty([Reject(self._line, (Problem(reason),), rest[:_SHOWN_BYTES])])
                rest, giant = b"", True

    def _skip_line(self, block: bytes) -> tuple[bytes, bool]:
        """What follows a line's end in a block, and whether there is none yet."""
        end = block.find(b"\n") + 1
        return (block[end:], False) if end else (b"", True)

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:  # gzip's, for what is cut off or damaged
            reason = getattr(error, "strerror", None) or str(error)
            remedy = "Check the file, and get a whole copy of it."
            raise DataError(self._path, f"it cannot be read: {reason}", remedy) from error

    def _read_header(self) -> tuple[bytes, int]:
        """Take the header off; returns what was read after it, and the number of its line."""
        data = self._read(max(self._block_bytes, RECORD_BYTES))
        if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data.partition(b"\n")[0]:
            problem = "it is not text in UTF-8"
            raise DataError(self._path, problem, "Save it as CSV in UTF-8, or as Parquet.")
        data = data.removeprefix(_BOM)
        lines = data.split(b"\n")
        at = next((n for n, line in enumerate(lines) if line.strip()), None)
        if at is None:
            raise DataError(self._path, "it is empty", "It needs a header and rows.")
        text = lines[at].decode("utf-8", errors="replace")
        self.delimiter = max(DELIMITERS, key=text.count)
        record, cells, used = self._record(lines, at, last=True)
        if isinstance(cells, str):
            remedy = "The first line names the columns."
            raise DataError(self._path, f"its header is no CSV: {cells}", remedy, line=at + 1)
        self.header = record
        self.columns = tuple(cells)
        self._width = len(cells)
        return b"\n".join(lines[at + used :]), at + used + 1

    def _batch(self, data: bytes, *, last: bool) -> tuple[Batch, int]:
        """The records in some whole lines, and how many bytes they take."""
        table = _parsed(data, self._width or 0, self.delimiter)
        if table is not None:
            line, count = self._line, table.num_rows
            self._line += count
            columns = dict(zip(self.columns, table.columns, strict=False))

            @cache
            def raws() -> Sequence[bytes]:
                return [text.rstrip(b"\r") for text in data.split(b"\n")[:-1]]

            return Batch(range(line, line + count), columns, raws), len(data)
        return self._by_line(data, last=last)

    def _by_line(self, data: bytes, *, last: bool) -> tuple[Batch, int]:
        """`_batch`, line by line; the last record may need what comes after the lines."""
        import pyarrow as pa  # noqa: PLC0415 - only when a file is imported

        lines = data.split(b"\n")[:-1]
        numbers: list[int] = []
        raws: list[bytes] = []
        rows: list[list[str]] = []
        bad: list[Reject] = []
        at = size = 0
        while at < len(lines):
            record, cells, used = self._record(lines, at, last=last)
            if not used:  # it goes on after the last line
                break
            number = self._line
            at, self._line = at + used, self._line + used
            size += sum(map(len, lines[at - used : at])) + used
            if isinstance(cells, str):
                bad.append(Reject(number, (Problem(cells),), record))
            elif cells:
                numbers.append(number)
                raws.append(record)
                rows.append(cells)
        columns = zip(*rows, strict=True) if rows else [()] * len(self.columns)
        arrays = [pa.chunked_array([pa.array(column, pa.string())]) for column in columns]
        named = dict(zip(self.columns, arrays, strict=True))
        return Batch(numbers, named, lambda: raws, bad), size

    def _empty(self, bad: Sequence[Reject]) -> Batch:
        batch, _ = self._by_line(b"", last=True)
        return Batch(batch.lines, batch.columns, batch.raws, bad)

    def _record(
        self, lines: Sequence[bytes], at: int, *, last: bool
    ) -> tuple[bytes, list[str] | str, int]:
        """The record that begins on a line.

        Returns:
            Its bytes; its cells (none: a blank line), or why it is no record; how many lines it
            takes, 0 when it goes on after the last one. Of what is no record the first line is
            taken: the next one may begin another record.
        """
        first = lines[at].removesuffix(b"\r")
        if not first:
            return first, [], 1
        cells = self._cells(first)
        if cells != _OPEN_QUOTE:
            return first, cells, 1
        reason = "a quotation mark is not closed"
        size = len(first)
        for end in range(at + 1, len(lines)):
            size += len(lines[end]) + 1
            if size > RECORD_BYTES:
                return first, reason, 1
            if lines[end].count(b'"') % 2 == 0:  # it closes no more than it opens
                continue
            record = b"\n".join(lines[at : end + 1]).removesuffix(b"\r")
            cells = self._cells(record)
            if isinstance(cells, list):
                return record, cells, end + 1 - at
            if cells != _OPEN_QUOTE:
                return first, reason, 1
        return first, reason, 1 if last else 0

    def _cells(self, record: bytes) -> list[str] | str:
        """The cells of a record, or what is wrong with it."""
        if b"\0" in record:
            return "it holds NUL bytes"
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError as error:
            return f"it is not UTF-8 (byte 0x{record[error.start]:02x})"
        lines = io.StringIO(text, newline="") if "\n" in text else [text]
        try:
            found = list(csv.reader(lines, delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            reason = str(error)
            return reason if reason == _OPEN_QUOTE else f"it is no CSV: {reason}"
        if len(found) != 1:
            return "it is no CSV: it holds a line end outside of quotation marks"
        if self._width is not None and len(found[0]) != self._width:
            fields = "1 field" if len(found[0]) == 1 else f"{len(found[0])} fields"
            return f"it has {fields} where the header has {self._width}"
        return found[0]


def _parsed(data: bytes, width: int, delimiter: str) -> Any:
    """Lines as a pyarrow table of texts; None when one of them may be no plain record."""
    import pyarrow as pa  # noqa: PLC0415 - only when a file is imported
    from pyarrow import csv as pa_csv  # noqa: PLC0415

    plain = b'"' not in data and b"\0" not in data and data.count(b"\r") == data.count(b"\r\n")
    if not (data and plain) or width < 2:  # noqa: PLR2004 - a blank line could be a cell
        return None
    names = [str(position) for position in range(width)]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=names
            ),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == data.count(b"\n") else None
