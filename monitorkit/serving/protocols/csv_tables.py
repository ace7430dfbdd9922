"""CSV bodies to rows, by pyarrow: it reads without holding the interpreter."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from monitorkit.serving.fields import SHOWN_ERRORS, FieldError
from monitorkit.serving.problems import invalid_fields
from monitorkit.serving.protocols.tables import bad_request, check_count, flags, pick, read_rows
from monitorkit.serving.served import Served, Values

MAX_COLUMNS = 10_000
MAX_HEADER = 256 * 1024
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
    _refuse_open_quote(body)
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
    return read_rows(served, list(found), python_rows(columns, table.num_rows))


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


def _refuse_open_quote(body: bytes | bytearray) -> None:
    """Arrow closes one at the end of the body by itself: what was cut off there is no number."""
    if body.count(b'"') % 2:  # else none is open
        try:
            deque(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True), 0)
        except csv.Error as error:
            raise bad_request(f"The body is not a CSV table: {error}.") from None


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
    """The first rows of a column that are none, in halves of halves: most are numbers."""
    trimmed = pc.utf8_trim_whitespace(texts)
    found: list[int] = []
    stack = [(0, len(trimmed))]
    while stack and len(found) < SHOWN_ERRORS:
        start, stop = stack.pop()
        try:
            trimmed[start:stop].cast(pa.float64())
        except pa.ArrowInvalid:
            if stop - start == 1:
                found.append(start)
            else:
                middle = (start + stop) // 2
                stack += [(middle, stop), (start, middle)]
    return found


def python_rows(columns: Sequence[np.ndarray[Any, Any]], count: int) -> Any:
    """Rows of Python floats, made a thousand at a time."""
    for start in range(0, count, 1000):
        stop = min(start + 1000, count)
        parts = [column[start:stop].tolist() for column in columns]
        yield from zip(*parts, strict=True) if parts else [()] * (stop - start)
