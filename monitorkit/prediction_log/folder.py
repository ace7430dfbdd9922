"""What a reading asks of a folder of segments, wherever it is."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from monitorkit import logs
from monitorkit.prediction_log.compressed import Compressed
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.opened import Opened
from monitorkit.prediction_log.segment import Head
from monitorkit.prediction_log.sidecar import Sidecar

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A segment that has rows.

    Attributes:
        name: of its file.
        head: of its CSV file; it has an identity.
        size: of its CSV file.
        ended: it takes no more rows.
        stamp: tells whether another file has its name by now.
        compressed: what its Parquet file says; None when it is a CSV file.
        descriptor: of a file of this machine that takes rows, and was opened when it was found.
    """

    name: Name
    head: Head
    size: int
    ended: bool
    stamp: Any
    compressed: Compressed | None = None
    descriptor: int | None = None

    @property
    def identity(self) -> str:
        """Of the segment."""
        return self.head.identity or ""


class Folder(Protocol):
    """A folder of segments.

    Attributes:
        where: it is, as it was configured.
        copies: its files may be copies that are under way, so the end of one may be missing.
    """

    where: str
    copies: bool

    def segments(self, stack: ExitStack) -> list[Found]:
        """The segments at one moment, in the order of reading; the stack closes what they hold."""

    def named(self, name: str, stack: ExitStack) -> Found | None:
        """The segment in one file; None when there is no such file, or no segment in it."""

    def opened(self, found: Found, stack: ExitStack) -> Opened | None:
        """Open a segment; None when it is gone. The stack closes it."""

    def stream(self, found: Found, stack: ExitStack) -> BinaryIO | None:
        """A segment's file as it is, from its first byte on; as `opened`."""

    def sidecar(self, found: Found) -> Sidecar | None:
        """What was counted of a segment; None when nothing was, or of another one."""

    def file(self, name: str) -> str:
        """Where a file is, for events and errors."""


def last_timestamp(of: Folder, found: Found) -> str | None:
    """The latest timestamp in all of a segment; None when that is not known."""
    if found.compressed is not None:
        return found.compressed.last_timestamp
    known = of.sidecar(found)
    return known.last_timestamp if known is not None and known.bytes == found.size else None


def was_cut(of: Folder, found: Found) -> bool:
    """Whether the writer closed a segment because somebody had shortened it."""
    known = of.sidecar(found)
    return known is not None and known.cut


def unknown_header(file: str) -> None:
    """Tell of a file that is no segment of ours."""
    log.warning("prediction_log_header_unknown", file=file)


def damaged(file: str, error: Exception) -> None:
    """Tell of a segment that cannot be read."""
    log.warning("prediction_log_segment_damaged", file=file, reason=str(error))
