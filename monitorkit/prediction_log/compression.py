"""`Compression`: turns closed segments that were read into Parquet files, a stretch at a time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from monitorkit import durable, logs
from monitorkit.prediction_log import chain, names, sidecar
from monitorkit.prediction_log.blocks import Cursor
from monitorkit.prediction_log.chain import Record
from monitorkit.prediction_log.compressed import (
    KEY,
    LINE_END,
    Compressed,
    CompressedFile,
    describe,
    read_compressed,
)
from monitorkit.prediction_log.digest import Digest, digest_of
from monitorkit.prediction_log.lines import owned_lines
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.parsing import Refused, Rows, line_ends, read_table, rows_of
from monitorkit.prediction_log.rows import FIXED
from monitorkit.prediction_log.segment import Head, read_head, reading

log = logs.get(__name__)

GROUP_BYTES = 8 * 1024 * 1024
"""Of the CSV file, that become one row group: so much is in memory at once."""

LOCK = "predictions-compress.lock"
"""Held while a segment is compressed, so that no two processes do the same."""

RETRY_SECONDS = 3600.0
"""After the disk was full, or somebody changed the segment under our hands."""

_Stretches = Generator[None, None, Any]


class _Unfit(Exception):  # noqa: N818 - never leaves this module
    """Not all of a segment's lines are rows, or it would not come back as it was."""


class Compression:
    """Works on one segment after the other, and on each a stretch at a time.

    A segment's CSV file is deleted once its Parquet file is on the disk under its name, and was
    read back and found to hold the same; so whatever ends the work, each row can be read once.

    Args:
        folder: of the segments.
        group_bytes: of the CSV file that become one row group.
    """

    def __init__(self, folder: Path, *, group_bytes: int = GROUP_BYTES) -> None:
        self._folder = folder
        self._group_bytes = group_bytes
        self._under_way: _Stretches | None = None
        self._waiting: list[Name] = []
        self._left: dict[str, float] = {}  # segments that stay as they are, until when

    def work(self, cursor: Cursor, *, seconds: float, begin: bool = True) -> bool:
        """Go on for so long, and a stretch longer.

        Args:
            cursor: segments that are wholly before it are compressed.
            seconds: to work.
            begin: segments; false: finish the one that is under way, if there is one.

        Returns:
            Whether there is more to do.
        """
        deadline = time.monotonic() + seconds
        if self._under_way is None and not self._waiting:
            self._waiting = names.segments(self._folder)[::-1]
        while True:
            if self._under_way is None:
                path = self._next(cursor) if begin else None
                if path is None:
                    return False
                self._under_way = self._compress(path)
            if next(self._under_way, self) is self:
                self._under_way = None
            elif time.monotonic() >= deadline:
                return True

    def _next(self, cursor: Cursor) -> Path | None:
        """The next of the segments that wait which is wholly before the cursor."""
        now = time.monotonic()
        while self._waiting:
            name = self._waiting.pop()
            if not name.closed or name.compressed or self._left.get(name.text, 0.0) > now:
                continue
            path = self._folder / name.text
            try:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    head = read_head(reading(file.fileno()))
            except FileNotFoundError:
                continue
            known = sidecar.read(path)
            if known is not None and known.bytes == size and known.unfit is not None:
                self._left[name.text] = math.inf
            elif head is not None and cursor.get(head.identity or "") == size:
                return path
        return None

    def _compress(self, path: Path) -> _Stretches:
        try:
            with FileLock(self._folder / LOCK, thread_local=False).acquire(timeout=0):
                if path.exists():  # or another process was faster
                    yield from self._replace(path)
        except Timeout:  # another process is at it
            self._waiting.clear()
        except _Unfit as unfit:
            self._left[path.name] = math.inf
            sidecar.mark_unfit(path, str(unfit))
            log.warning("prediction_log_not_compressed", file=str(path), reason=str(unfit))
        except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's are of these kinds
            self._left[path.name] = time.monotonic() + RETRY_SECONDS
            log.warning("prediction_log_not_compressed", file=str(path), reason=str(error))

    def _replace(self, path: Path) -> _Stretches:
        # An import may take hours, and has its segments lie here until its end.
        durable.clear_leftovers(self._folder, "predictions", but="predictions-import.")
        goal = path.with_suffix(names.COMPRESSED)
        temporary = durable.beside(goal)
        try:
            with path.open("rb") as file:
                fd = file.fileno()
                before = _stamp(fd)
                sealed = chain.last_of(self._chain_of(path), path.stem).get("closed")
                if sealed is not None:
                    yield from self._check(fd, sealed)
                compressed = yield from self._write(fd, temporary)
                yield from self._compare(fd, temporary, compressed)
                if (_stamp(fd), _stamp(path)) != (before, before):
                    raise OSError("somebody changed it meanwhile")
            size = temporary.stat().st_size
            if sealed is not None:
                self._tell_chain(temporary, goal, compressed)
            temporary.replace(goal)
            durable.sync_folder(self._folder)
            path.unlink(missing_ok=True)
            durable.sync_folder(self._folder)
        finally:
            temporary.unlink(missing_ok=True)
        log.info(
            "prediction_log_compressed",
            file=str(goal),
            rows=compressed.rows,
            csv_bytes=compressed.bytes,
            bytes=size,
        )

    def _chain_of(self, path: Path) -> Path:
        name = names.parse(path.name)
        assert name is not None  # noqa: S101 - it was listed by its name
        return chain.path_of(self._folder, name)

    def _check(self, fd: int, sealed: Record) -> _Stretches:
        """See to it that a segment is what was closed: else the new file would hide an edit.

        Raises:
            OSError: it is not.
        """
        digest = Digest()
        while block := os.pread(fd, self._group_bytes, digest.bytes):
            digest.add(block)
            yield
        if digest.sha256 != sealed.sha256:
            raise OSError("it is not what was closed; `monitorkit verify-log` says more")

    def _tell_chain(self, made: Path, goal: Path, compressed: Compressed) -> None:
        """Note what the Parquet file holds, before it has its name."""
        with made.open("rb") as file:
            digest = digest_of(reading(file.fileno()), os.fstat(file.fileno()).st_size)
        chain.append(
            self._chain_of(goal),
            "compressed",
            segment=goal.name,
            rows=compressed.rows,
            bytes=digest.bytes,
            sha256=digest.sha256,
            identity=compressed.head.identity,
        )

    def _write(self, fd: int, path: Path) -> _Stretches:
        """Write the Parquet file; returns what it says of itself."""
        from pyarrow import parquet  # noqa: PLC0415 - the process that serves never gets here

        head = read_head(reading(fd))
        if head is None:
            raise _Unfit("its header is not ours")
        size = os.fstat(fd).st_size
        written, last = 0, np.datetime64("NaT", "us")
        with path.open("wb") as file, ExitStack() as stack:
            writer = None
            for table, rows in self._tables(fd, head, size):
                if writer is None:
                    writer = parquet.ParquetWriter(file, table.schema, **_options(head.columns))
                    stack.callback(_abandon, writer)
                writer.write_table(table, row_group_size=len(rows.ends))
                written += len(rows.ends)
                last = np.fmax(last, rows.times.max())
                yield
            if writer is None:
                raise _Unfit("it holds no rows")
            last_timestamp = f"{np.datetime_as_string(last, unit='us')}Z"
            compressed = Compressed(head, written, size, last_timestamp)
            writer.add_key_value_metadata({KEY: describe(compressed)})
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        return compressed

    def _compare(self, fd: int, path: Path, written: Compressed) -> _Stretches:
        """Read the Parquet file back, beside the CSV file.

        Raises:
            OSError: they differ.
        """
        try:
            with path.open("rb") as file:
                there = _opened(file, written)
                tables = self._tables(fd, written.head, written.bytes)
                for number, (table, rows) in enumerate(tables):
                    found, labels = there.group(number)
                    if not (_same(found, rows) and labels.equals(table.column(FIXED[3]))):
                        raise OSError("its rows do not read back as they were written")
                    yield
        except (ValueError, KeyError, TypeError, Refused) as error:
            raise OSError(f"it does not read back: {error}") from error

    def _tables(self, fd: int, head: Head, size: int) -> Iterator[tuple[Any, Rows]]:
        """The CSV file, stretch by stretch, as a table to write and as rows."""
        columns = len(head.columns)
        header = [*FIXED, *head.columns, LINE_END]
        if len(set(header)) < len(header):
            raise _Unfit(f"two of its columns have one name, or one is called {LINE_END!r}")
        blocks = owned_lines(
            reading(fd),
            head.data_start,
            size,
            size,
            block_bytes=self._group_bytes,
            skip=_refuse,
            no_end=_refuse,
        )
        for offset, lines in blocks:
            ends = line_ends(lines)
            try:
                table = read_table(lines, len(ends), columns, labels=True)
                rows = rows_of(table, columns, ends + offset)
            except Refused as refused:
                raise _Unfit(f"a line from byte {offset} on is no row: {refused}") from None
            table = table.append_column(LINE_END, [rows.ends]).rename_columns(header)
            yield table, rows


def _options(columns: tuple[str, ...]) -> Mapping[str, Any]:
    """How pyarrow shall write the columns."""
    ids, times, version, label, _ = FIXED
    return {
        "compression": "zstd",
        "store_schema": False,  # the footer holds what we need, in plain text
        "write_page_checksum": True,
        "write_statistics": [times, LINE_END],
        "use_dictionary": [version, label, *columns],
        "column_encoding": {
            ids: "DELTA_BYTE_ARRAY",  # they begin alike
            times: "DELTA_BINARY_PACKED",
            LINE_END: "DELTA_BINARY_PACKED",
        },
    }


def _opened(file: BinaryIO, written: Compressed) -> CompressedFile:
    size = os.fstat(file.fileno()).st_size
    if read_compressed(reading(file.fileno()), size) != written:
        raise ValueError("what it says of itself is not what was written")
    return CompressedFile(file, written, GROUP_BYTES)


def _same(left: Rows, right: Rows) -> bool:
    """Whether rows are the same to the last bit."""
    return (
        all(
            np.array_equal(getattr(left, name), getattr(right, name))
            for name in ("ids", "times", "ends")
        )
        and np.array_equal(left.model_versions(), right.model_versions())
        and left.scores.tobytes() == right.scores.tobytes()
        and left.features.tobytes() == right.features.tobytes()
    )


def _abandon(writer: Any) -> None:
    """Close a writer that was stopped; later it would do so by itself, on a closed file."""
    with suppress(OSError, ValueError):
        writer.close()
    writer.is_open = False


def _refuse(offset: int, reason: str) -> None:
    raise _Unfit(f"the line at byte {offset} is no row: {reason}")


def _stamp(file: int | Path) -> tuple[int, int, int, int] | None:
    """Tells whether a file was changed."""
    try:
        status = os.stat(file)  # noqa: PTH116 - an open file, or a path
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
