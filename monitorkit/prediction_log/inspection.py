"""What is in a segment's file: its rows with their lines, and whether it is what was closed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from monitorkit.prediction_log import segment
from monitorkit.prediction_log.chain import Record
from monitorkit.prediction_log.compressed import CompressedFile, is_of_the_disk, read_compressed
from monitorkit.prediction_log.digest import BLOCK_BYTES
from monitorkit.prediction_log.lines import owned_lines
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.parsing import Refused, Rows, line_ends, parse
from monitorkit.prediction_log.pieces import Piece

READ_BYTES = 2 * 1024 * 1024
_SETTLE_SECONDS = 2.0

Tell = Callable[[int | None, str], None]
"""Told the line (None: of the whole file) and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file of a segment.

    Attributes:
        place: its path or URL.
        name: of the file.
        file: it, open.
        size: up to which it is looked at.
    """

    place: str
    name: Name
    file: IO[bytes]
    size: int

    def read(self, size: int, at: int) -> bytes:
        """Some of its bytes."""
        self.file.seek(at)
        return self.file.read(size)


def local(place: str, name: Name, file: IO[bytes]) -> Source:
    """A file of this machine; of one that takes rows, what its writer will not take back."""
    size = None
    if not name.closed:
        size = segment.settled_size(file.fileno(), seconds=_SETTLE_SECONDS)
    return Source(place, name, file, os.fstat(file.fileno()).st_size if size is None else size)


def rows(source: Source, tell: Tell) -> Iterator[tuple[NDArray[np.int64], Rows]]:
    """The rows of a segment, each with its line in the CSV file; the header is line 1.

    Args:
        source: of them.
        tell: told of what is no row; of a last line without an end only in a closed segment.
    """
    if source.name.compressed:
        yield from _compressed_rows(source, tell)
        return
    if not source.size:
        return
    head = segment.read_head(source.read)
    if head is None:
        tell(1, "it does not begin with a header of the prediction log")
        return
    line = 2

    def skip(_offset: int, reason: str) -> None:
        nonlocal line
        tell(line, f"this is no row: {reason}")
        line += 1

    def no_end(_offset: int, _reason: str) -> None:
        if source.name.closed:
            tell(line, "this is no row: it has no end")

    blocks = owned_lines(
        source.read,
        head.data_start,
        source.size,
        source.size,
        block_bytes=READ_BYTES,
        skip=skip,
        no_end=no_end,
    )
    for offset, some in blocks:
        ends = line_ends(some) + offset
        found, bad = parse(some, len(head.columns), offset)
        for each in bad:
            tell(
                line + int(np.searchsorted(ends, each.offset, "right")),
                f"this is no row: {each.reason}",
            )
        if found is not None:
            yield line + np.searchsorted(ends, found.ends), found
        line += len(ends)


def is_torn(source: Source) -> bool:
    """Whether the last line of a CSV file has no end."""
    return source.size > 0 and source.read(1, source.size - 1) != b"\n"


def sha256_of(source: Source, advance: Callable[[int], None]) -> str:
    """Of all of a file.

    Args:
        source: the file.
        advance: told how many bytes were read since it was told last.
    """
    found, at = hashlib.sha256(), 0
    while at < source.size and (block := source.read(min(BLOCK_BYTES, source.size - at), at)):
        found.update(block)
        at += len(block)
        advance(len(block))
    return found.hexdigest()


def change(source: Source, record: Record, advance: Callable[[int], None]) -> str | None:
    """What is not as it was when a CSV file was closed; None: nothing.

    Args:
        source: the file; one that is open may be longer.
        record: of it.
        advance: as for `sha256_of`.
    """
    found = hashlib.sha256()
    at = lines = sound_bytes = sound_lines = 0
    for edge, expected in (*record.marks, (record.bytes, record.sha256)):
        while at < edge and (block := source.read(min(BLOCK_BYTES, edge - at), at)):
            found.update(block)
            at += len(block)
            lines += block.count(b"\n")
            advance(len(block))
        if at < edge or found.hexdigest() != expected:
            return _told(source, record, (sound_bytes, at), (sound_lines, lines))
        sound_bytes, sound_lines = at, lines
    if source.size > record.bytes and source.name.closed:
        return (
            f"{source.size - record.bytes} bytes were added behind line {lines} after it was closed"
        )
    return None


def _told(source: Source, record: Record, stretch: tuple[int, int], lines: tuple[int, int]) -> str:
    where = f"between line {lines[0] + 1} and line {lines[1]} (bytes {stretch[0]} to {stretch[1]})"
    if source.size == record.bytes:
        return f"it was edited after it was closed, {where}: values or the order of rows changed"
    by = abs(source.size - record.bytes)
    verb = "lost" if source.size < record.bytes else "gained"
    return (
        f"it {verb} {by} bytes after it was closed: it was edited {where}; "
        f"it had {record.rows} rows in {record.bytes} bytes"
    )


def _compressed_rows(source: Source, tell: Tell) -> Iterator[tuple[NDArray[np.int64], Rows]]:
    compressed = read_compressed(source.read, source.size)
    if compressed is None:
        tell(None, "it is no Parquet file of monitorkit")
        return
    head = compressed.head
    whole = Piece(
        source.place,
        source.name.text,
        head.identity or "",
        head.data_start,
        compressed.bytes,
        compressed.bytes,
        True,
    )
    line = 2

    def skip(_offset: int, reason: str) -> None:
        tell(None, reason)

    try:
        opened = CompressedFile(source.file, compressed, READ_BYTES)
        for found in opened.rows(whole, skip=skip, no_end=skip):
            yield np.arange(line, line + len(found.ends)), found
            line += len(found.ends)
    except (OSError, ValueError, KeyError, TypeError, Refused) as error:  # pyarrow's among them
        if is_of_the_disk(error):
            raise
        tell(None, f"it is damaged: {error}")
