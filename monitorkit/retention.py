"""Which files go: one rule of number, size and age for segments, results and reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitorkit import logs

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may stay.

    Attributes:
        keep: so many files; None: any number.
        max_age: none that is older; zero: whatever their age.
        max_size: so many bytes together; 0: any number.
    """

    keep: int | None = None
    max_age: timedelta = timedelta(0)
    max_size: int = 0

    @property
    def limited(self) -> bool:
        """Whether anything can ever be too much."""
        return self.keep is not None or bool(self.max_age) or bool(self.max_size)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that may go.

    Attributes:
        path: of it.
        bytes: its size.
        at: when what is in it ended.
    """

    path: Path
    bytes: int
    at: datetime


def surplus(
    files: Iterable[Kept], limits: Limits, now: datetime, *, newer: int = 0
) -> Iterator[tuple[Kept, str]]:
    """The files that are too many, too large together or too old, and why each is.

    Args:
        files: newest first; the newest one always stays.
        limits: what may stay.
        now: which ages are counted from.
        newer: so many stay and are not among the files, where number alone matters.
    """
    total = 0
    for position, each in enumerate(files, newer):
        total += each.bytes
        if not position:
            continue
        if limits.keep is not None and position >= limits.keep:
            yield each, f"more than {limits.keep} files"
        elif limits.max_size and total > limits.max_size:
            yield each, f"more than {limits.max_size} bytes together"
        elif limits.max_age and now - each.at > limits.max_age:
            yield each, f"older than {limits.max_age}"


def delete(each: Kept, reason: str, what: str) -> None:
    """Delete a file and say so.

    Args:
        each: the file; it may be gone already.
        reason: why it goes.
        what: it is: `segment`, `result` or `report`.

    Raises:
        OSError: it cannot be deleted.
    """
    each.path.unlink(missing_ok=True)
    log.info("file_pruned", what=what, file=str(each.path), reason=reason, bytes=each.bytes)


def prune(files: Iterable[Kept], limits: Limits, what: str, *, newer: int = 0) -> int:
    """Delete what is too much; returns how many files that were.

    Args:
        files: newest first; the newest one always stays.
        limits: what may stay.
        what: they are, for the events.
        newer: as for `surplus`.

    Raises:
        OSError: one cannot be deleted.
    """
    number = 0
    for each, reason in surplus(files, limits, datetime.now(UTC), newer=newer):
        delete(each, reason, what)
        number += 1
    return number


def kept(path: Path) -> Kept | None:
    """A file as it is now, its age that of its last change; None when it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Kept(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
