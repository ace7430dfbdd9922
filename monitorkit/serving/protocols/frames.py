"""CSV and Parquet bodies to rows, by pyarrow: it reads without holding the interpreter.

A body is small and may still become large: what the parts of a Parquet file say of their sizes is
checked before they are read, and only the columns that the model reads are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from monitorkit.serving.fields import FieldError
from monitorkit.serving.problems import Problem, invalid_fields
from monitorkit.serving.protocols.parquet_pages import uncompressed_bytes
from monitorkit.serving.protocols.tables import bad_request, check_count, flags, pick, read_rows
from monitorkit.serving.served import SHOWN_ERRORS, Served, Values

MAX_COLUMNS = 10_000  # of CSV
MAX_HEADER = 256 * 1024
MAX_BYTES_A_VALUE = 64
"""Of a Parquet file, uncompressed: a number takes 8, and pages and dictionaries a little more."""
MAX_BYTES_BESIDE = 16 * 1024**2

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""What is a missing value in a CSV file: `pandas.read_csv` takes the same."""

_COUNT = re.compile(r"(Row #\d+: )?Expected \d+ columns, got \d+")
_BOOLEANS = {"true": "1", "True": "1", "TRUE": "1", "false": "0", "False": "0", "FALSE": "0"}


def read_csv(served: Served, body: bytes | bytearray, limit: int) -> list[Values]:
    """The rows of a CSV body with a header, UTF-8.

    Raises:
        Problem: 400 for what is no such table, 413 for too many rows, 422 for wrong values.
    """
    names = _header(body)
    found = pick(served.schema, names)
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(bytes(body)),
            pa_csv.ReadOptions(
                use_threads=False,
                block_size=max(len(body), 1),
                # Names of columns that are left out may be given twice, and mean nothing.
                column_names=[str(position) for position in range(len(names))],
            ),
            pa_csv.ParseOptions(newlines_in_values=True),
            pa_csv.ConvertOptions(
                column_types={str(position): pa.string() for position in found.values()},
                include_columns=[str(position) for position in found.values()],
                null_values=list(MISSING),
                strings_can_be_null=True,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        # Arrow repeats the line, and errors repeat no values.
        counts = _COUNT.search(str(error))
        reason = counts.group() if counts else "its lines cannot be read"
        raise bad_request(f"The body is not a CSV table: {reason}.") from None
    for position in found.values():
        first = table.column(str(position))[0].as_py()
        if first != names[position] and not (first is None and names[position] in MISSING):
            raise bad_request(
                f"The name of column {position} has quotes that can be read two ways."
            )
    table = table.slice(1)  # without the header
    check_count(table.num_rows, limit)
    own = flags(served.schema)
    columns: list[Any] = []
    wrong: list[FieldError] = []
    for name, position in found.items():
        column = table.column(str(position))
        try:
            columns.append(_numbers(column, flag=name in own))
        except pa.ArrowInvalid:
            wrong += [FieldError(name, "must be a number", row=row) for row in _no_numbers(column)]
    if wrong:
        wrong.sort(key=lambda error: error.row or 0)
        raise invalid_fields(wrong[:SHOWN_ERRORS], len(wrong))
    return read_rows(served, list(found), _rows(columns, table.num_rows))


def read_parquet(served: Served, body: bytes | bytearray, limit: int) -> list[Values]:
    """The rows of a Parquet body.

    Raises:
        Problem: 400 for what is no such table, 413 for too much of it, 422 for wrong values.
    """
    content = bytes(body)
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        metadata, schema = file.metadata, file.schema_arrow
        found = pick(served.schema, schema.names)
        sent = [schema.names[position] for position in found.values()]
        own = flags(served.schema)
        for name, position in found.items():
            _check_type(name, schema.field(position).type, flag=name in own)
        rows = _check_size(content, metadata, frozenset(sent), limit)
        table = file.read(sent, use_threads=False, use_pandas_metadata=False)
        if table.num_rows != rows:
            raise bad_request(f"The Parquet file says {rows} rows and has {table.num_rows}.")
        columns = [table.column(given).cast(pa.float64(), safe=False).to_numpy() for given in sent]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:200].rstrip(". ")
        raise bad_request(f"The body is not a Parquet file: {reason}.") from None
    return read_rows(served, list(found), _rows(columns, rows))


def _header(body: bytes | bytearray) -> list[str]:
    """The names in the first line that is not empty."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not UTF-8 (byte {error.start}).") from None
    start = len(text) - len(text.lstrip("\r\n"))
    # A name may have a line break in quotes, so not by lines; and a body may be one endless line.
    head = text[start : start + MAX_HEADER]
    try:
        names = next(csv.reader(io.StringIO(head, newline=""), strict=True), [])
    except csv.Error as error:
        raise bad_request(f"The body is not a CSV table: {error}.") from None
    if not names:
        raise bad_request("The body is empty; a CSV table begins with the names of its columns.")
    if len(names) > MAX_COLUMNS:
        raise bad_request(f"The table has more than {MAX_COLUMNS} columns.")
    return names


def _numbers(texts: Any, *, flag: bool) -> Any:
    """A column of a CSV table as floats, NaN where missing.

    Raises:
        pyarrow.ArrowInvalid: a text is no number.
    """
    texts = pc.utf8_trim_whitespace(texts)
    if flag:
        for word, number in _BOOLEANS.items():
            texts = pc.if_else(pc.equal(texts, word), number, texts)
    return texts.cast(pa.float64()).to_numpy()


def _no_numbers(texts: Any) -> list[int]:
    """The first rows of a column that are none."""
    found = []
    for index, text in enumerate(pc.utf8_trim_whitespace(texts)):
        try:
            text.cast(pa.float64())
        except pa.ArrowInvalid:
            found.append(index)
            if len(found) == SHOWN_ERRORS:
                break
    return found


def _check_size(content: bytes, metadata: Any, names: frozenset[str], limit: int) -> int:
    """Refuse a file whose columns become too large, before any is read; returns its rows.

    Raises:
        Problem: 400 and 413.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    rows: int = sum(group.num_rows for group in groups)
    chunks = [
        (group.num_rows, chunk)
        for group in groups
        for chunk in map(group.column, range(group.num_columns))
        if chunk.path_in_schema in names
    ]
    if rows != metadata.num_rows or any(
        count < 0 or chunk.num_values != count for count, chunk in chunks
    ):
        raise bad_request("The Parquet file contradicts itself about its number of rows.")
    check_count(rows, limit)
    try:
        size = sum(uncompressed_bytes(content, chunk) for _, chunk in chunks)
    except ValueError as error:
        raise bad_request(f"The body is not a Parquet file: {error}.") from None
    most = MAX_BYTES_BESIDE + rows * len(names) * MAX_BYTES_A_VALUE
    if size > most:
        raise Problem(
            413,
            "too-large",
            "The request is too large",
            f"The model's columns become {size} bytes, and {rows} rows of them {most} at most.",
        )
    return rows


def _check_type(name: str, kind: Any, *, flag: bool) -> None:
    """Refuse what is no column of numbers.

    Raises:
        Problem: 400.
    """
    types = pa.types
    if types.is_boolean(kind):
        if not flag:
            raise bad_request(f"Column {name!r} is true and false, and must be numbers.")
    elif not (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    ):
        raise bad_request(f"Column {name!r} is {kind}, and must be numbers.")


def _rows(columns: Sequence[np.ndarray[Any, Any]], count: int) -> Any:
    """Rows of Python floats, made a thousand at a time."""
    for start in range(0, count, 1000):
        stop = min(start + 1000, count)
        parts = [column[start:stop].tolist() for column in columns]
        yield from zip(*parts, strict=True) if parts else [()] * (stop - start)
