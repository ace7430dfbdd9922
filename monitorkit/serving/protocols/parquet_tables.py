"""Parquet bodies to rows, by pyarrow in a process of its own.

A damaged file can end the process that reads it (pyarrow 25 aborts on some), and a small one can
ask for all memory, whatever it says of itself. So neither is the service's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.config import Config
from monitorkit.errors import WorkerError
from monitorkit.schema import FeatureSchema
from monitorkit.serving.problems import RETRY_AFTER, Problem
from monitorkit.serving.protocols.csv_tables import python_rows
from monitorkit.serving.protocols.tables import bad_request, check_count, flags, pick, read_rows
from monitorkit.serving.served import Served, Values
from monitorkit.worker import Worker

MEMORY_BYTES = 3 * 1024**3
"""Address space of the process; what it has loaded takes 1.4 GB of it, and 137 MB of memory."""

SECONDS = 30.0
"""A file is read in some milliseconds; the process is stopped when it takes longer than this."""
START_SECONDS = 10.0

MAX_BYTES_A_VALUE = 64
"""Of a file, uncompressed: a number takes 8, and pages and dictionaries a little more."""
MAX_BYTES_BESIDE = 16 * 1024**2


@contextmanager
def worker(config: Config) -> Iterator[Worker]:
    """The process that reads Parquet files; it starts with the first of them."""
    process = Worker(
        "parquet",
        memory_bytes=MEMORY_BYTES,
        log_level=config.logging.level,
        log_format=config.logging.format,
    )
    try:
        yield process
    finally:
        process.close()


def read_parquet(
    served: Served, body: bytes | bytearray, limit: int, process: Worker
) -> list[Values]:
    """The rows of a Parquet body; blocks the calling thread.

    Raises:
        Problem: 400 for what is no such table, 413 for too much of it, 422 for wrong values; 503
            when there is no process to read it.
    """
    try:
        names, columns = process.call(
            "reading a Parquet file", SECONDS, read_columns, bytes(body), served.schema, limit
        )
    except WorkerError:
        _check_starts(process)
        raise bad_request(
            "The body is not a Parquet file that can be read: it needs too much memory or time, or "
            "is damaged."
        ) from None
    return read_rows(served, names, python_rows(list(columns), columns.shape[1]))


def _check_starts(process: Worker) -> None:
    """Nothing, where another process starts: then it was the file that ended the last one.

    Raises:
        Problem: 503.
    """
    try:
        process.call("starting the process that reads Parquet", START_SECONDS, int)
    except WorkerError as error:
        detail = f"Parquet cannot be read now: {error}. Try again, or send JSON or CSV."
        raise Problem("not-ready", detail, headers=RETRY_AFTER) from None


def read_columns(
    body: bytes, schema: FeatureSchema, limit: int
) -> tuple[list[str], NDArray[np.float64]]:
    """In the process: the columns of a file that the model reads, as floats.

    Args:
        body: the file.
        schema: of the model.
        limit: rows that are taken.

    Returns:
        The features' names, and (features, rows) with NaN where missing.

    Raises:
        Problem: 400 and 413.
    """
    import pyarrow as pa  # noqa: PLC0415 - where the service never comes
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        arrow = file.schema_arrow
        found = pick(schema, arrow.names)
        own = flags(schema)
        for name, position in found.items():
            _check_type(name, arrow.field(position).type, flag=name in own)
        sent = [arrow.names[position] for position in found.values()]
        rows = _check_size(file.metadata, frozenset(sent), limit)
        table = file.read(sent, use_threads=False, use_pandas_metadata=False)
        if table.num_rows != rows:
            raise bad_request(f"The Parquet file says {rows} rows and has {table.num_rows}.")
        columns = np.empty((len(sent), rows))
        for index, name in enumerate(sent):
            columns[index] = table.column(name).cast(pa.float64(), safe=False).to_numpy()
    except MemoryError:  # Arrow's own is one, too
        raise bad_request("The Parquet file needs too much memory.") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:200].rstrip(". ")
        raise bad_request(f"The body is not a Parquet file: {reason}.") from None
    return list(found), columns


def _check_size(metadata: Any, names: frozenset[str], limit: int) -> int:
    """Refuse a file that says that its columns become too large; returns its rows.

    One that says otherwise of itself meets the limit of the process's memory.

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
    size = sum(chunk.total_uncompressed_size for _, chunk in chunks)
    most = MAX_BYTES_BESIDE + rows * len(names) * MAX_BYTES_A_VALUE
    if size > most:
        raise Problem(
            "too-large",
            f"The model's columns become {size} bytes, and {rows} rows of them {most} at most.",
        )
    return rows


def _check_type(name: str, kind: Any, *, flag: bool) -> None:
    """Refuse what is no column of numbers.

    Raises:
        Problem: 400.
    """
    from pyarrow import types  # noqa: PLC0415 - as above

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
