"""`Reader`: new rows since a cursor, from any process, at any moment, each exactly once."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from monitorkit import logs
from monitorkit.contracts import Chunk
from monitorkit.errors import SegmentGone
from monitorkit.prediction_log import names, segment, sidecar
from monitorkit.prediction_log.blocks import Block, Cursor, runs
from monitorkit.prediction_log.lines import Read, last_row_end, line_start, owned_lines
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.parsing import parse
from monitorkit.prediction_log.pieces import Piece, Plan, split
from monitorkit.prediction_log.segment import Head

log = logs.get(__name__)

BLOCK_BYTES = 2 * 1024 * 1024
PIECE_BYTES = 64 * 1024 * 1024
GONE_SEGMENTS = 1000
"""So many segments that are not here any more are remembered in a cursor."""

EVENTS = 100
"""More lines that are no rows are told of in one event."""

_SETTLE_SECONDS = 2.0
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)


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
        cursor = dict(after)
        with self._telling(), closing(self._new(cursor, since, until)) as new:
            for each, read, whole in new:
                for version, chunk, end in self._rows(read, each.head, whole):
                    cursor[each.identity] = end
                    yield Block(version, chunk, dict(cursor))
                if each.closed:
                    cursor[each.identity] = whole.size

    def plan(
        self,
        after: Cursor,
        *,
        since: datetime | None = None,
        until: Cursor | None = None,
        piece_bytes: int = PIECE_BYTES,
    ) -> Plan:
        """Split into pieces what `read` would read now; reads the ends of segments only.

        The pieces, each read once, give the rows that `read` gives, and the plan's cursor is that
        of its last block. Lines that are no rows are told of when a piece is read.

        Args:
            after: as for `read`.
            since: as for `read`.
            until: as for `read`.
            piece_bytes: of each piece but the last of a segment.
        """
        cursor = dict(after)
        reached: Cursor = dict(after)
        pieces: list[Piece] = []
        with closing(self._new(cursor, since, until)) as new:
            for each, read, whole in new:
                pieces += split(whole, piece_bytes)
                end = last_row_end(
                    read,
                    whole.start,
                    whole.size,
                    columns=len(each.head.columns),
                    block_bytes=self._block_bytes,
                )
                if end is not None:
                    cursor[each.identity] = end
                    reached = dict(cursor)
                if each.closed:
                    cursor[each.identity] = whole.size
        return Plan(tuple(pieces), reached)

    def read_piece(self, piece: Piece) -> Iterator[Block]:
        """Yield the rows of a piece; the cursor of a block speaks of the piece's segment only.

        Raises:
            SegmentGone: the segment is not there any more, or somebody cut it.
        """
        with self._telling(), ExitStack() as stack:
            fd, head = self._find(piece, stack)
            read = partial(os.pread, fd)
            for version, chunk, end in self._rows(read, head, piece):
                yield Block(version, chunk, {piece.identity: end})

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

    def _new(
        self, cursor: dict[str, int], since: datetime | None, until: Cursor | None
    ) -> Generator[tuple[_Segment, Read, Piece], None, None]:
        """What is to be read of each segment, the segment being open meanwhile.

        The cursor is freed of what is gone for long, and goes on over segments that are left out.
        """
        with ExitStack() as stack:
            segments, live = self._segments(stack)
            here = {each.identity for each in segments}
            # A segment that was moved away may come back, and must not be read twice then.
            for identity in [identity for identity in cursor if identity not in here][
                :-GONE_SEGMENTS
            ]:
                del cursor[identity]
            for each in segments:
                if since is not None and self._is_older(each, since):
                    cursor[each.identity] = each.size
                    continue
                fd = self._open_closed(each) if each.closed else live[each.name]
                if fd is None:  # deleted, by whoever keeps the disk tidy
                    continue
                try:
                    whole = self._whole(fd, each, cursor, until)
                    if whole is not None:
                        yield each, partial(os.pread, fd), whole
                finally:
                    if each.closed:
                        os.close(fd)

    def _whole(self, fd: int, each: _Segment, cursor: Cursor, until: Cursor | None) -> Piece | None:
        """What is new in a segment, as one piece."""
        size = segment.settled_size(fd, seconds=_SETTLE_SECONDS)
        if size is None:  # the writer is in the middle of something: next time
            return None
        if until is not None:
            size = min(size, until.get(each.identity, 0))
            if size <= cursor.get(each.identity, 0):
                return None
        at = self._resume(fd, each, cursor, size)
        return Piece(each.name, each.identity, at, size, size, each.closed)

    def _find(self, piece: Piece, stack: ExitStack) -> tuple[int, Head]:
        """The open segment of a piece, whatever its file is called by now.

        Raises:
            SegmentGone: it is not there any more, or somebody cut it.
        """
        for name in self._candidates(piece):
            try:
                fd = os.open(self._folder / name, _OPEN)
            except FileNotFoundError:
                continue
            head = segment.read_head(fd)
            if head is not None and head.identity == piece.identity:
                stack.callback(os.close, fd)
                if os.fstat(fd).st_size >= piece.size:
                    return fd, head
                break
            os.close(fd)
        raise SegmentGone(str(self._folder / piece.name))

    def _candidates(self, piece: Piece) -> Iterator[str]:
        yield piece.name
        for _ in range(2):  # a rotation may fall between the first listing and the opening
            for name in names.segments(self._folder):
                yield name.text

    def _rows(self, read: Read, head: Head, piece: Piece) -> Iterator[tuple[str, Chunk, int]]:
        """Rows of one model version after the other, and where the last one's line ends."""
        start: int | None = piece.start
        if piece.start < piece.end:
            start = line_start(read, piece.start, piece.end)
        if start is None:
            return
        skip = partial(self._skip, piece.name)
        lines = owned_lines(
            read,
            start,
            piece.end,
            piece.size,
            block_bytes=self._block_bytes,
            skip=skip,
            no_end=skip if piece.closed else _wait,
        )
        for offset, some in lines:
            rows, bad = parse(some, len(head.columns))
            for line in bad:
                skip(offset + line.offset, line.reason)
            if rows is not None:
                for version, chunk, end in runs(rows, head.columns):
                    yield version, chunk, offset + end

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

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell of single lines that are no rows, and beyond a number only how many there were."""
        self._told = 0
        skipped = self.skipped
        yield
        if self._told > EVENTS:
            log.warning("prediction_log_rows_skipped", rows=self.skipped - skipped)

    def _skip(self, name: str, offset: int, reason: str) -> None:
        self.skipped += 1
        self._told += 1
        if self._told <= EVENTS:
            self._warn("prediction_log_row_skipped", name, offset=offset, reason=reason)

    def _warn(self, event: str, name: str, **fields: object) -> None:
        log.warning(event, file=str(self._folder / name), **fields)


def _wait(_offset: int, _reason: str) -> None:
    """The last line of a segment that grows has no end yet."""


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
