"""`Reader`: new rows since a cursor, from any process, at any moment, each exactly once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitorkit import logs
from monitorkit.contracts import Chunk
from monitorkit.errors import SegmentGone
from monitorkit.prediction_log.blocks import Block, Cursor, runs
from monitorkit.prediction_log.edited import Before
from monitorkit.prediction_log.folder import Folder, Found, last_timestamp, was_cut
from monitorkit.prediction_log.folders import BLOCK_BYTES, each_once, folders_of
from monitorkit.prediction_log.opened import Opened
from monitorkit.prediction_log.pieces import Piece, Plan, split
from monitorkit.units import timestamp

log = logs.get(__name__)

GONE_SEGMENTS = 1000
"""So many segments that are not here any more are remembered in a cursor."""

EVENTS = 100
"""More lines that are no rows are told of in one event."""


@dataclass(frozen=True, slots=True)
class _New:
    """What is new in a segment, or left out of it."""

    found: Found
    folder: Folder
    whole: Piece
    opened: Opened | None  # None: all of it is too old


class Reader:
    """Reads beside the writers; only whole lines, and nothing that a writer may take back.

    A line that is no row (bad UTF-8, NUL bytes, another number of fields, no number where one
    belongs) is a WARNING event with file and offset, and counts in `skipped`; the lines around it
    are read. It is told of again as long as no row follows it.

    Args:
        folder: of the segments.
        archives: further folders of segments, local ones or URLs that fsspec knows. A segment that
            is in several is read in the writers' own, or else where it is the longest.
        block_bytes: about how much is held in memory at once; a longer line is read nevertheless.
    """

    def __init__(
        self, folder: Path, archives: Sequence[str] = (), *, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self.skipped = 0
        self.read_again = False
        """Whether a segment was read from its beginning though it had been read before."""
        self.too_old: dict[str, int] = {}
        """What the last reading passed over as too old, and up to which byte."""
        self._folders = folders_of(folder, archives, block_bytes=block_bytes)
        self._told = 0

    def read(
        self,
        after: Cursor,
        *,
        since: datetime | None = None,
        until: Cursor | None = None,
        newest: datetime | None = None,
    ) -> Generator[Block, None, None]:
        """Yield the rows after a cursor, segment by segment, those that still grow last.

        A segment that was edited so that the cursor is no line's start any more is read again from
        its beginning, with a WARNING event: a row may come twice then, but none is left out. So is
        one whose first row is not the one it had, for that is what it is known by.

        Args:
            after: the cursor of the last block; empty: from the beginning.
            since: leave out segments in which every row is older, as far as that is known.
            until: stop where another reading stopped, however much was written since.
            newest: the time of the newest row before the cursor; None: nobody minds whether a
                segment with another first row is told of.

        Raises:
            ArchiveUnreachable: one of the archives cannot be read.
        """
        cursor = dict(after)
        with self._telling(), closing(self._new(cursor, since, until, newest)) as new:
            for each in new:
                identity = each.whole.identity
                for version, chunk, ends in self._rows(
                    each.opened, each.found, each.folder, each.whole
                ):
                    cursor[identity] = int(ends[-1])
                    yield Block(version, chunk, dict(cursor), identity, ends)
                if each.whole.ended:
                    cursor[identity] = each.whole.size

    def plan(
        self,
        after: Cursor,
        *,
        since: datetime | None = None,
        until: Cursor | None = None,
        newest: datetime | None = None,
        piece_bytes: int,
    ) -> Plan:
        """Split into pieces what `read` would read now; reads the ends of segments only.

        The pieces, each read once, give the rows that `read` gives, and the plan's cursor is that
        of its last block. Lines that are no rows are told of when a piece is read.

        Args:
            after: as for `read`.
            since: as for `read`.
            until: as for `read`.
            newest: as for `read`.
            piece_bytes: of each piece but the last of a segment.
        """
        cursor = dict(after)
        pieces: list[Piece] = []
        new: list[_New] = []
        ends: list[int | None] = []  # where the last row of each ends, as far as it is known
        with closing(self._new(cursor, since, until, newest)) as found:
            for each in found:
                new.append(each)
                ends.append(None)
                if each.opened is not None:
                    pieces += split(each.whole, piece_bytes)
                    if not each.whole.ended:
                        ends[-1] = each.opened.last_row_end(each.whole.start, each.whole.size)
        # The last block's segment: those before it were passed, those after it hold no rows.
        while new:
            last, end = new.pop(), ends.pop()
            if last.whole.ended and last.opened is not None:
                end = self._last_row_end(last)
            if end is not None:
                for each, known in zip(new, ends, strict=True):
                    passed = each.whole.size if each.whole.ended else known
                    if passed is not None:
                        cursor[each.whole.identity] = passed
                cursor[last.whole.identity] = end
                return Plan(tuple(pieces), cursor)
        return Plan(tuple(pieces), dict(after))

    def read_piece(self, piece: Piece) -> Iterator[Block]:
        """Yield the rows of a piece; the cursor of a block speaks of the piece's segment only.

        Raises:
            SegmentGone: the segment is not there any more, or somebody cut it.
        """
        with self._telling(), ExitStack() as stack:
            folder, found, opened = self._find(piece, stack)
            for version, chunk, ends in self._rows(opened, found, folder, piece):
                cursor = {piece.identity: int(ends[-1])}
                yield Block(version, chunk, cursor, piece.identity, ends)

    def begun(self) -> dict[str, str]:
        """The segments that can be read now, each with the time of its first row as it is written.

        That is "" where it cannot be told.
        """
        with ExitStack() as stack:
            segments = self._segments(stack)
            return {found.identity: found.head.first_timestamp or "" for _, found in segments}

    @staticmethod
    def _last_row_end(new: _New) -> int | None:
        with ExitStack() as stack:
            opened = new.folder.opened(new.found, stack)
            if opened is None:
                return None
            return opened.last_row_end(new.whole.start, new.whole.size)

    def _segments(self, stack: ExitStack) -> list[tuple[Folder, Found]]:
        return each_once(self._folders, stack)

    def _new(
        self,
        cursor: dict[str, int],
        since: datetime | None,
        until: Cursor | None,
        newest: datetime | None,
    ) -> Generator[_New, None, None]:
        """What is new in each segment, which is open meanwhile.

        The cursor is freed of what is gone for long.
        """
        self.too_old = {}
        with ExitStack() as stack:
            segments = self._segments(stack)
            before = Before(cursor, [found for _, found in segments], newest)
            # A segment that was moved away may come back, and must not be read twice then.
            for identity in before.gone[:-GONE_SEGMENTS]:
                del cursor[identity]
            for folder, found in segments:
                if since is not None and _is_older(last_timestamp(folder, found), since):
                    size = found.size
                    if until is not None and not (size := min(size, until.get(found.identity, 0))):
                        continue  # nobody else has passed over it yet
                    nothing = Piece(
                        folder.where, found.name.text, found.identity, size, size, size, True
                    )
                    self.too_old[found.identity] = size
                    yield _New(found, folder, nothing, None)
                    continue
                at_end = cursor.get(found.identity) == found.size
                if at_end and (found.ended or folder.copies):
                    continue  # by far the most, and all of it was read
                with ExitStack() as while_open:
                    opened = folder.opened(found, while_open)
                    if opened is None:  # deleted, by whoever keeps the disk tidy
                        continue
                    whole = self._whole(folder, found, opened, cursor, until)
                    if whole is not None:
                        if before.had(found):
                            self._again(folder, found, whole.start, whole.size)
                        yield _New(found, folder, whole, opened)

    def _whole(
        self, folder: Folder, found: Found, opened: Opened, cursor: Cursor, until: Cursor | None
    ) -> Piece | None:
        """What is new in a segment, as one piece."""
        size = opened.settled_size()
        if size is None:  # the writer is in the middle of something: next time
            return None
        if until is not None:
            size = min(size, until.get(found.identity, 0))
            if size <= cursor.get(found.identity, 0):
                return None
        at = self._resume(folder, found, opened, cursor, size)
        ended = found.ended and (not folder.copies or opened.starts_line(size))
        return Piece(folder.where, found.name.text, found.identity, at, size, size, ended)

    def _resume(
        self, folder: Folder, found: Found, opened: Opened, cursor: Cursor, size: int
    ) -> int:
        """Where to go on in a segment: the cursor, when it fits what the segment is now."""
        start = found.head.data_start
        at = cursor.get(found.identity, start)
        if start <= at <= size and opened.starts_line(at):
            return at
        if found.ended and at == size:  # read to its end, which is no newline
            return at
        if at > size and found.ended and was_cut(folder, found):
            # The writer added nothing since it was cut, so what is left of it was read.
            file = folder.file(found.name.text)
            log.warning("prediction_log_cut", file=file, offset=at, bytes=size)
            return size
        self._again(folder, found, at, size)
        return start

    def _again(self, folder: Folder, found: Found, at: int, size: int) -> None:
        """Tell that rows of a segment are read that had been read before."""
        file = folder.file(found.name.text)
        log.warning("prediction_log_read_again", file=file, offset=at, bytes=size)
        self.read_again = True

    def _find(self, piece: Piece, stack: ExitStack) -> tuple[Folder, Found, Opened]:
        """The open segment of a piece, whatever its file is called by now.

        Raises:
            SegmentGone: it is not there any more, or somebody cut it.
        """
        for look in (partial(self._named, piece), self._segments, self._segments):
            for folder, found in look(stack):
                if found.identity == piece.identity and found.size >= piece.size:
                    opened = folder.opened(found, stack)
                    if opened is not None:  # else it was renamed at this moment
                        return folder, found, opened
        raise SegmentGone(f"{piece.folder}/{piece.name}")

    def _named(self, piece: Piece, stack: ExitStack) -> list[tuple[Folder, Found]]:
        folders = (folder for folder in self._folders if folder.where == piece.folder)
        named = ((folder, folder.named(piece.name, stack)) for folder in folders)
        return [(folder, found) for folder, found in named if found is not None]

    def _rows(
        self, opened: Opened | None, found: Found, folder: Folder, piece: Piece
    ) -> Iterator[tuple[str, Chunk, NDArray[np.int64]]]:
        """Rows of one model version after the other, and where their lines end."""
        if opened is None:
            return
        skip = partial(self._skip, folder.file(found.name.text))
        for rows in opened.rows(piece, skip=skip, no_end=skip if piece.ended else _wait):
            yield from runs(rows, found.head.columns)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell of single lines that are no rows, and beyond a number only how many there were."""
        self._told = 0
        skipped = self.skipped
        yield
        if self._told > EVENTS:
            log.warning("prediction_log_rows_skipped", rows=self.skipped - skipped)

    def _skip(self, file: str, offset: int, reason: str) -> None:
        self.skipped += 1
        self._told += 1
        if self._told <= EVENTS:
            log.warning("prediction_log_row_skipped", file=file, offset=offset, reason=reason)


def _is_older(last_timestamp: str | None, since: datetime) -> bool:
    return last_timestamp is not None and last_timestamp < timestamp(since)


def _wait(_offset: int, _reason: str) -> None:
    """The last line of a segment that grows has no end yet."""
