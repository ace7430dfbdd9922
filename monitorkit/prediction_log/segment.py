"""What a segment is on disk: its head, its identity, its rows and its size."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from monitorkit.prediction_log.rows import features_in

if sys.platform != "win32":
    import fcntl

HEAD_BYTES = 64 * 1024
LINE_LIMIT = 1024 * 1024
"""A longer line, its newline included, is no row."""

TOO_LONG = f"it is longer than {LINE_LIMIT} bytes"

ID_FIELD = rb'(?:"(?:[^"\n]|"")*"|[^",\n]*)'
TIMESTAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
"""How a row begins: any id, and this."""

_OWN_ROW = re.compile(
    rb"([0-9a-fA-F]{8}-[0-9a-fA-F]{4}(?:-[0-9a-fA-F]{4}){2}-[0-9a-fA-F]{12}),(%b)," % TIMESTAMP
)
_NEAR_MILLISECONDS = 1000
"""So far the time in an id of ours may be from the row's, which is read from the clock again."""

_ROW = re.compile(rb"^%b,(%b)," % (ID_FIELD, TIMESTAMP), re.MULTILINE)
_BLOCK = 1024 * 1024
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


Read = Callable[[int, int], bytes]
"""So many bytes of a segment from an offset on, fewer at its end."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a segment.

    Attributes:
        columns: its features.
        data_start: the offset of the first row.
        identity: stays the same when the file is renamed; None while it holds no row.
        first_timestamp: of the first row that has one.
    """

    columns: tuple[str, ...]
    data_start: int
    identity: str | None
    first_timestamp: str | None


@dataclass(frozen=True, slots=True)
class Count:
    """What `count` found in a stretch of a segment."""

    rows: int
    end: int
    last_timestamp: str | None


def first_line(read: Read) -> bytes | None:
    """A file's first line with its newline; None when there is none (yet)."""
    size = HEAD_BYTES
    while True:
        head = read(size, 0)
        end = head.find(b"\n") + 1
        if end:
            return head[:end]
        if len(head) < size or size >= LINE_LIMIT:
            return None
        size *= 4


def read_head(read: Read) -> Head | None:
    """The head of a segment; None when it does not begin with a header of ours.

    The identity is the id in the first row when that is one of ours, else the row's hash: others
    count their rows from 1 in each of their files, or name a customer. It never changes once it is
    there.
    """
    line = first_line(read)
    columns = features_in(line) if line is not None else None
    if line is None or columns is None:
        return None
    start = len(line)
    head = read(HEAD_BYTES, start)
    row, newline, _ = head.lstrip(b"\r\n").partition(b"\n")
    identity = None
    if newline and (own := own_id(row)) is not None:
        identity = own
    elif newline or len(head) == HEAD_BYTES:
        identity = "sha256:" + hashlib.sha256(row).hexdigest()
    stamp = _ROW.search(head if identity else b"")
    return Head(columns, start, identity, stamp[1].decode("ascii") if stamp else None)


def own_id(row: bytes) -> str | None:
    """The id of a row when it is a UUID that begins with the row's time, as those that we make.

    Args:
        row: a line, or the beginning of one: its id, its timestamp, and the comma after that.
    """
    match = _OWN_ROW.match(row)
    if match is None:
        return None
    try:
        at = datetime.fromisoformat(match[2].decode("ascii"))
    except ValueError:  # the 30th of February
        return None
    identity = match[1].decode("ascii")
    away = UUID(identity).int // 2**80 - at.timestamp() * 1000
    return identity if abs(away) <= _NEAR_MILLISECONDS else None


def reading(fd: int) -> Read:
    """The bytes of an open file."""
    return partial(os.pread, fd)


def count(fd: int, start: int) -> Count:
    """Count the whole lines from an offset (a line's start) to the end of the file."""
    rows, end, last = 0, start, b""
    carry = b""
    position = start
    while block := os.pread(fd, _BLOCK, position):
        position += len(block)
        cut = block.rfind(b"\n") + 1
        if not cut:  # a line longer than a block: only its end matters
            carry = (carry + block)[:HEAD_BYTES]
            continue
        lines = carry + block[:cut]
        rows += lines.count(b"\n")
        last = max(last, latest(lines))
        end = position - len(block) + cut
        carry = block[cut:]
    return Count(rows, end, last.decode("ascii") or None)


def latest(lines: bytes) -> bytes:
    """The latest timestamp in some lines, empty when there is none."""
    return max(_ROW.findall(lines), default=b"")


def settled_size(fd: int, *, seconds: float) -> int | None:
    """A segment's size that will never shrink again; None when the writer did not let us see it.

    The writer holds the lock while it writes, and takes back what it could not write whole.
    """
    if not _lock(fd, shared=True, seconds=seconds):
        return None
    try:
        return os.fstat(fd).st_size
    finally:
        release(fd)


def hold(fd: int, *, seconds: float) -> bool:
    """Keep readers from seeing a segment's size until `release`; False when one is in the way.

    Args:
        fd: of the segment.
        seconds: to wait for a reader; 0: not at all.
    """
    return _lock(fd, shared=False, seconds=seconds)


def release(fd: int) -> None:
    """Let readers see the segment's size again."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # a file system without locks had none to give
            fcntl.flock(fd, fcntl.LOCK_UN)


def _lock(fd: int, *, shared: bool, seconds: float) -> bool:
    if sys.platform == "win32":
        return True
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = 0.0
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
            deadline = deadline or now + seconds
            if now >= deadline:
                return False
            time.sleep(0.0005)
        except OSError as error:
            if error.errno in _NO_LOCKS:  # this file system has none: go without
                return True
            raise
        else:
            return True
