"""An open segment: `OpenedLines` of a CSV file; `CompressedFile` is the other form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from monitorkit.prediction_log.lines import Skip, last_row_end, line_start, owned_lines
from monitorkit.prediction_log.parsing import Rows, parse
from monitorkit.prediction_log.pieces import Piece
from monitorkit.prediction_log.segment import Read


class Opened(Protocol):
    """What a reading asks of a segment; all offsets are those of its CSV file."""

    def settled_size(self) -> int | None:
        """Its size, which will never shrink again; None when that cannot be said now."""

    def starts_line(self, at: int) -> bool:
        """Whether a line ends before an offset."""

    def rows(self, piece: Piece, *, skip: Skip, no_end: Skip) -> Iterator[Rows]:
        """The rows of a piece, with where their lines end in the file.

        Args:
            piece: of this segment.
            skip: told of each line that is no row.
            no_end: told of a last line without a newline.
        """

    def last_row_end(self, start: int, size: int) -> int | None:
        """Where the last row between a line's start and an offset ends, None when there is none."""


class OpenedLines:
    """A CSV file.

    Args:
        read: its bytes.
        settled_size: see there.
        columns: the number of features.
        block_bytes: about how much is held in memory at once.
    """

    def __init__(
        self, read: Read, settled_size: Callable[[], int | None], columns: int, block_bytes: int
    ) -> None:
        self.settled_size = settled_size
        self._read = read
        self._columns = columns
        self._block_bytes = block_bytes

    def starts_line(self, at: int) -> bool:
        """Whether a line ends before an offset."""
        return self._read(1, at - 1) == b"\n"

    def rows(self, piece: Piece, *, skip: Skip, no_end: Skip) -> Iterator[Rows]:
        """The rows of a piece; a line that is none harms no other."""
        if piece.start >= piece.end:
            return
        start = line_start(self._read, piece.start, piece.end)
        if start is None:
            return
        lines = owned_lines(
            self._read,
            start,
            piece.end,
            piece.size,
            block_bytes=self._block_bytes,
            skip=skip,
            no_end=no_end,
        )
        for offset, some in lines:
            rows, bad = parse(some, self._columns, offset)
            del some  # else it is held while the next ones are read
            for line in bad:
                skip(line.offset, line.reason)
            if rows is not None:
                yield rows

    def last_row_end(self, start: int, size: int) -> int | None:
        """Where the last row ends, as the tail of the file says."""
        return last_row_end(
            self._read, start, size, columns=self._columns, block_bytes=self._block_bytes
        )
