"""A closed segment as a Parquet file: its rows, and where the line of each ended in the CSV file.

So a cursor, which is an offset in the CSV file, fits both. What the file says of the segment is
JSON in its footer and can be read without pyarrow, which the process that serves does not load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.prediction_log.lines import Skip
from monitorkit.prediction_log.parsing import TABLE, Refused, Rows, feature_names, numbers, rows_of
from monitorkit.prediction_log.pieces import Piece
from monitorkit.prediction_log.rows import FIXED
from monitorkit.prediction_log.segment import HEAD_BYTES, Head, Read

LINE_END = "line_end"
"""The column after the features: the offset of the byte after the row's newline."""

SCHEMA_VERSION = 1
KEY = "monitorkit_segment"

_MAGIC = b"PAR1"
_MARK = b'{"' + KEY.encode() + b'":'


@dataclass(frozen=True, slots=True)
class Compressed:
    """What a Parquet file says of the segment in it.

    Attributes:
        head: of the CSV file.
        rows: in it.
        bytes: its size.
        last_timestamp: the latest of its rows.
    """

    head: Head
    rows: int
    bytes: int
    last_timestamp: str | None


def describe(compressed: Compressed) -> str:
    """The JSON in the footer."""
    head = compressed.head
    document = {
        KEY: SCHEMA_VERSION,
        "identity": head.identity,
        "columns": head.columns,
        "data_start": head.data_start,
        "first_timestamp": head.first_timestamp,
        "last_timestamp": compressed.last_timestamp,
        "rows": compressed.rows,
        "bytes": compressed.bytes,
    }
    return json.dumps(document)


def read_compressed(read: Read, size: int) -> Compressed | None:
    """What a Parquet file of so many bytes says of its segment; None when it is none of ours."""
    start = max(0, size - HEAD_BYTES)
    tail = read(size - start, start)
    if len(tail) < size - start or not tail.endswith(_MAGIC):
        return None
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length > size:
        return None
    if length > len(tail):
        tail = read(length, size - length)
    at = tail.rfind(_MARK, len(tail) - length)
    if at < 0:
        return None
    try:
        known, _ = json.JSONDecoder().raw_decode(tail[at:-8].decode("latin-1"))
        if known[KEY] != SCHEMA_VERSION:
            return None
        columns, identity = tuple(known["columns"]), known["identity"]
        head = Head(columns, known["data_start"], identity, known["first_timestamp"])
        return Compressed(head, known["rows"], known["bytes"], known["last_timestamp"])
    except (ValueError, KeyError, TypeError):
        return None


class CompressedFile:
    """An open Parquet file, as `Opened` has it: all offsets are those of the CSV file.

    Args:
        file: an open one, or what pyarrow takes for one.
        compressed: what it says of its segment.
        block_bytes: rows come in blocks that took about so much in the CSV file.

    Raises:
        OSError, ValueError, KeyError, TypeError: it is damaged.
    """

    def __init__(self, file: Any, compressed: Compressed, block_bytes: int) -> None:
        from pyarrow import parquet  # noqa: PLC0415 - the process that serves never reads

        self._compressed = compressed
        self._block_bytes = block_bytes
        self._file = parquet.ParquetFile(
            file,
            read_dictionary=[FIXED[2], FIXED[3]],
            page_checksum_verification=True,
            # Its threads may want the interpreter that is gone by then: the process would abort.
            pre_buffer=False,
        )
        metadata = self._file.metadata
        place = metadata.num_columns - 1
        ends = [
            metadata.row_group(group).column(place).statistics.max
            for group in range(metadata.num_row_groups)
        ]
        # Where the rows of each group begin, and where the last one ends.
        self._edges = np.array([compressed.head.data_start, *ends], dtype=np.int64)
        found = (metadata.num_rows, int(self._edges[-1]))
        if found != (compressed.rows, compressed.bytes) or (np.diff(self._edges) <= 0).any():
            raise ValueError("its footer contradicts itself")

    def settled_size(self) -> int:
        """The size of the CSV file."""
        return self._compressed.bytes

    def starts_line(self, at: int) -> bool:
        """Whether a line ended before an offset; in a damaged group that none can tell."""
        if at in self._edges:
            return True
        if not self._edges[0] < at < self._edges[-1]:
            return False
        ends = self._ends(self._group_at(at))
        return ends is None or at in ends

    def last_row_end(self, start: int, size: int) -> int | None:
        """Where the last row between a line's start and an offset ended, None without one."""
        end = min(size, int(self._edges[-1]))
        if end > start and not self.starts_line(end):
            group = self._group_at(end)
            ends = self._ends(group)
            assert ends is not None  # noqa: S101 - else any offset starts a line
            before = ends[ends < end]
            end = int(before[-1] if len(before) else self._edges[group])
        return end if end > start else None

    def rows(self, piece: Piece, *, skip: Skip, no_end: Skip) -> Iterator[Rows]:
        """The rows of a piece; a group of rows that is damaged harms no other."""
        del no_end  # all lines were whole
        for number in range(len(self._edges) - 1):
            first, last = int(self._edges[number]), int(self._edges[number + 1])
            if last <= piece.start or piece.end <= first:
                continue
            try:
                rows, _ = self.group(number)
            except _DAMAGE as error:
                if is_of_the_disk(error):
                    raise
                skip(first, f"the rows from here to byte {last} are damaged: {error}")
                continue
            starts = np.concatenate([[first], rows.ends[:-1]])
            begin, end = np.searchsorted(starts, [piece.start, piece.end]).tolist()
            end = min(end, int(np.searchsorted(rows.ends, piece.size, side="right")))
            while begin < end:
                reach = np.searchsorted(rows.ends, starts[begin] + self._block_bytes, side="right")
                stop = min(end, max(int(reach), begin + 1))
                yield rows.take(slice(begin, stop))
                begin = stop

    def group(self, number: int) -> tuple[Rows, Any]:
        """All rows of a group, and their labels as a pyarrow column.

        Raises:
            OSError, ValueError, Refused: it is damaged.
        """
        columns = len(self._compressed.head.columns)
        table = self._file.read_row_group(number, use_threads=False).combine_chunks()
        table = table.rename_columns([*TABLE, *feature_names(columns), LINE_END])
        rows = rows_of(table, columns, _line_ends(table))
        first, last = self._edges[number : number + 2]
        if rows.ends[-1] != last or (np.diff(rows.ends, prepend=first) <= 0).any():
            raise ValueError("its rows contradict its footer")
        return rows, table.column("label")

    def _group_at(self, at: int) -> int:
        return int(np.searchsorted(self._edges, at)) - 1

    def _ends(self, group: int) -> NDArray[np.int64] | None:
        """Where the lines of a group end; None: it is damaged, and `rows` says so."""
        try:
            table = self._file.read_row_group(group, columns=[LINE_END], use_threads=False)
            return _line_ends(table)
        except _DAMAGE as error:
            if is_of_the_disk(error):
                raise
            return None


_DAMAGE = (OSError, ValueError, TypeError, Refused)
"""What pyarrow raises for a file that is damaged."""


def is_of_the_disk(error: Exception) -> bool:
    """Whether an error says nothing of the file: the disk or the system refused to read it."""
    return isinstance(error, OSError) and error.errno is not None


def _line_ends(table: Any) -> NDArray[np.int64]:
    return numbers(table.column(LINE_END).combine_chunks(), np.dtype(np.int64))
