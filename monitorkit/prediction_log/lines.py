"""Whole lines of a stretch of a segment, in blocks: a stretch owns the lines that start in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from monitorkit.prediction_log.parsing import parse
from monitorkit.prediction_log.segment import LINE_LIMIT, TOO_LONG, Read

Skip = Callable[[int, str], None]
"""Told the offset of a line that is no row, and the reason."""

_TAIL = 64 * 1024
_FURTHER = 16


def owned_lines(
    read: Read, start: int, end: int, size: int, *, block_bytes: int, skip: Skip, no_end: Skip
) -> Iterator[tuple[int, bytes]]:
    """The lines that start between two offsets, block by block, each with its offset.

    Args:
        read: the segment.
        start: a line's start.
        end: the last line may reach beyond it.
        size: where reading stops.
        block_bytes: about as much is held in memory at once; a longer line nevertheless is.
        skip: told of a line that is too long.
        no_end: told of a last line without a newline.
    """
    while start < end:
        block = read(min(block_bytes, end - start), start)
        cut = block.rfind(b"\n") + 1
        if not cut:  # a line that is longer, or reaches beyond the end
            block = read(min(LINE_LIMIT, size - start), start)
            cut = block.find(b"\n") + 1
        if cut:
            block = block[:cut]
            yield start, block
            del block  # else it is held while the next one is read
            start += cut
            continue
        after = start + len(block)
        next_line = _after_newline(read, after, size) if block and after < size else None
        if next_line is None:
            no_end(start, "it has no end")
            return
        skip(start, TOO_LONG)
        start = next_line


def line_start(read: Read, start: int, end: int) -> int | None:
    """The first offset at which a line starts, from one offset to before another one."""
    if read(1, start - 1) == b"\n":
        return start
    found = _after_newline(read, start, end)
    return found if found is not None and found < end else None


def last_row_end(
    read: Read, start: int, size: int, *, columns: int, block_bytes: int
) -> int | None:
    """Where the last row of a stretch ends; None when it holds none. Looks at its tail first.

    Args:
        read: the segment.
        start: a line's start.
        size: where reading stops.
        columns: the number of features.
        block_bytes: about as much is held in memory at once.
    """
    tail = _TAIL
    while True:
        begin = max(start, size - tail)
        first = begin if begin == start else line_start(read, begin, size)
        end = None
        if first is not None:
            lines = owned_lines(
                read, first, size, size, block_bytes=block_bytes, skip=_pass, no_end=_pass
            )
            for offset, some in lines:
                rows, _ = parse(some, columns, offset)
                if rows is not None:
                    end = int(rows.ends[-1])
        if end is not None or begin == start:
            return end
        tail *= _FURTHER


def _after_newline(read: Read, position: int, size: int) -> int | None:
    """The offset after the next newline, None when there is none before `size`."""
    while position < size:
        block = read(min(LINE_LIMIT, size - position), position)
        if not block:
            return None
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    return None


def _pass(_offset: int, _reason: str) -> None:
    """Nobody is told twice."""
