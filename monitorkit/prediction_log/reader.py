"""`Reader`: new rows since a cursor, from any process, at any moment, each exactly once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from monitorkit import logs
from monitorkit.contracts import Chunk
from monitorkit.prediction_log import names, segment, sidecar
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.parsing import Rows, parse
from monitorkit.prediction_log.segment import Head

log = logs.get(__name__)

Cursor = Mapping[str, int]
"""Segment identity to byte offset: the rows before it were read."""

BLOCK_BYTES = 8 * 1024 * 1024
GONE_SEGMENTS = 1000
"""So many segments that are not here any more are remembered in a cursor."""

EVENTS = 100
"""More lines that are no rows are told of in one event."""

_SETTLE_SECONDS = 2.0
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one model version and one schema, in log order.

    Attributes:
        model_version: of all rows.
        chunk: the rows.
        cursor: after them; pass it to `Reader.read` to go on.
    """

    model_version: str
    chunk: Chunk
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class _Segment:
    name: str
    file: tuple[int, int]
    size: int
    identity: str
    head: Head
    closed: bool


class Reader:
    """Reads beside the writer; only whole lines, and nothing that the writer may take back.

    A line that is no row (bad UTF-8, NUL bytes, another number of fields, no number where one
    belongs) is a WARNING event with file and offset, and counts in `skipped`; the lines around it
    are read. It is told of again as long as no row follows it.

    Args:
        folder: of the segments.
        block_bytes: about how much is held in memory at once; a longer line is read nevertheless.
    """

    def __init__(self, folder: Path, *, block_bytes: int = BLOCK_BYTES) -> None:
        self.skipped = 0
        self._folder = folder
        self._block_bytes = block_bytes
        self._told = 0

    def read(
        self, after: Cursor, *, since: datetime | None = None, until: Cursor | None = None
    ) -> Iterator[Block]:
        """Yield the rows after a cursor, segment by segment, those that still grow last.

        A segment that was edited so that the cursor is no line's start any more is read again from
        its beginning, with a WARNING event: a row may come twice then, but none is left out.

        Args:
            after: the cursor of the last block; empty: from the beginning.
            since: leave out segments in which every row is older, as far as that is known.
            until: stop where another reading stopped, however much was written since.
        """
        self._told = 0
        skipped = self.skipped
        with ExitStack() as stack:
            segments, live = self._segments(stack)
            here = {each.identity for each in segments}
            # A segment that was moved away may come back, and must not be read twice then.
            gone = [identity for identity in after if identity not in here][:-GONE_SEGMENTS]
            cursor = {identity: at for identity, at in after.items() if identity not in gone}
            for each in segments:
                if since is not None and self._is_older(each, since):
                    cursor[each.identity] = each.size
                    continue
                fd = self._open_closed(each) if each.closed else live[each.name]
                if fd is None:  # deleted, by whoever keeps the disk tidy
                    continue
                try:
                    yield from self._read_segment(fd, each, cursor, until)
                finally:
                    if each.closed:
                        os.close(fd)
        if self._told > EVENTS:
            log.warning("prediction_log_rows_skipped", rows=self.skipped - skipped)

    def identities(self) -> set[str]:
        """The segments that can be read now."""
        with ExitStack() as stack:
            return {each.identity for each in self._segments(stack)[0]}

    def _segments(self, stack: ExitStack) -> tuple[list[_Segment], dict[str, int]]:
        """What there is to read at one moment, and by name the open files that take rows.

        A rotation between opening and listing would hide a segment, so look again after it.
        """
        while True:
            with ExitStack() as attempt:
                live = self._open_live(attempt)
                listed = names.segments(self._folder)
                growing = {name.text for name in listed if not name.closed}
                if all(
                    _file_of(live.get(name)) == _file_at(self._folder / name)
                    for name in growing | set(live)
                ):
                    stack.enter_context(attempt.pop_all())
                    break
        found: dict[str, _Segment] = {}
        for name in listed:
            if not name.closed:
                if name.text in live:
                    self._add(found, live[name.text], name)
                continue
            try:
                fd = os.open(self._folder / name.text, _OPEN)
            except FileNotFoundError:
                continue
            try:
                self._add(found, fd, name)
            finally:
                os.close(fd)
        return list(found.values()), live

    def _open_live(self, stack: ExitStack) -> dict[str, int]:
        live: dict[str, int] = {}
        for name in names.segments(self._folder):
            if not name.closed:
                with suppress(FileNotFoundError):
                    live[name.text] = os.open(self._folder / name.text, _OPEN)
                    stack.callback(os.close, live[name.text])
        return live

    def _add(self, found: dict[str, _Segment], fd: int, name: Name) -> None:
        status = os.fstat(fd)
        head = segment.read_head(fd)
        if head is None:
            if segment.first_line(fd) is not None:  # else it has only just been made
                self._warn("prediction_log_header_unknown", name.text)
            return
        if head.identity is None:
            return
        if head.identity in found:
            copy_of = found[head.identity].name
            self._warn("prediction_log_copy_ignored", name.text, copy_of=copy_of)
            return
        file = (status.st_dev, status.st_ino)
        found[head.identity] = _Segment(
            name.text, file, status.st_size, head.identity, head, name.closed
        )

    def _is_older(self, each: _Segment, since: datetime) -> bool:
        known = sidecar.read(self._folder / each.name)
        if known is None or (known.identity, known.bytes) != (each.identity, each.size):
            return False
        limit = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return known.last_timestamp is not None and known.last_timestamp < limit

    def _open_closed(self, each: _Segment) -> int | None:
        try:
            fd = os.open(self._folder / each.name, _OPEN)
        except FileNotFoundError:
            return None
        if _file_of(fd) != each.file:
            os.close(fd)
            return None
        return fd

    def _read_segment(
        self, fd: int, each: _Segment, cursor: dict[str, int], until: Cursor | None
    ) -> Iterator[Block]:
        size = segment.settled_size(fd, seconds=_SETTLE_SECONDS)
        if size is None:  # the writer is in the middle of something: next time
            return
        if until is not None:
            size = min(size, until.get(each.identity, 0))
            if size <= cursor.get(each.identity, 0):
                return
        at = self._resume(fd, each, cursor, size)
        for start, lines in self._lines(fd, each, at, size):
            rows, bad = parse(lines, len(each.head.columns))
            for line in bad:
                self._skip(each.name, start + line.offset, line.reason)
            if rows is not None:
                for version, chunk, end in _runs(rows, each.head.columns):
                    cursor[each.identity] = start + end
                    yield Block(version, chunk, dict(cursor))
        if each.closed:
            cursor[each.identity] = size

    def _resume(self, fd: int, each: _Segment, cursor: Cursor, size: int) -> int:
        """Where to go on in a segment: the cursor, when it fits what the segment is now."""
        start = each.head.data_start
        at = cursor.get(each.identity, start)
        if start <= at <= size and os.pread(fd, 1, at - 1) == b"\n":
            return at
        if each.closed and at == size:  # read to its end, which is no newline
            return at
        if at > size and each.closed:
            known = sidecar.read(self._folder / each.name)
            if known is not None and known.cut and known.identity == each.identity:
                # The writer added nothing since it was cut, so what is left of it was read.
                self._warn("prediction_log_cut", each.name, offset=at, bytes=size)
                return size
        self._warn("prediction_log_read_again", each.name, offset=at, bytes=size)
        return start

    def _lines(self, fd: int, each: _Segment, start: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Whole lines between two offsets, block by block, each with its offset."""
        want = self._block_bytes
        while start < size:
            block = os.pread(fd, min(want, size - start), start)
            end = block.rfind(b"\n") + 1
            if end:
                yield start, block[:end]
                start += end
                want = self._block_bytes
            elif not block or start + len(block) >= size:  # the last line has no end (yet)
                if each.closed:
                    self._skip(each.name, start, "it has no end")
                return
            elif want < segment.LINE_LIMIT:
                want = min(max(want * 2, 4096), segment.LINE_LIMIT)
            else:
                end_of_line = _find_newline(fd, start + len(block), size)
                if end_of_line is None:
                    if each.closed:
                        self._skip(each.name, start, "it has no end")
                    return
                self._skip(each.name, start, f"it is longer than {segment.LINE_LIMIT} bytes")
                start = end_of_line

    def _skip(self, name: str, offset: int, reason: str) -> None:
        self.skipped += 1
        self._told += 1
        if self._told <= EVENTS:
            self._warn("prediction_log_row_skipped", name, offset=offset, reason=reason)

    def _warn(self, event: str, name: str, **fields: object) -> None:
        log.warning(event, file=str(self._folder / name), **fields)


def _runs(rows: Rows, columns: tuple[str, ...]) -> Iterator[tuple[str, Chunk, int]]:
    """Neighbouring rows of one model version, and where the last one's line ends."""
    changes = np.flatnonzero(rows.versions[1:] != rows.versions[:-1]) + 1
    edges = [0, *changes.tolist(), len(rows.versions)]
    for first, last in pairwise(edges):
        part = slice(first, last)
        chunk = Chunk(
            rows.ids[part], rows.times[part], columns, rows.features[part], rows.scores[part]
        )
        yield str(rows.versions[first]), chunk, int(rows.ends[last - 1])


def _find_newline(fd: int, position: int, size: int) -> int | None:
    """The offset after the next newline, None when there is none before `size`."""
    while position < size:
        block = os.pread(fd, min(segment.LINE_LIMIT, size - position), position)
        if not block:
            return None
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    return None


def _file_of(fd: int | None) -> tuple[int, int] | None:
    if fd is None:
        return None
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
