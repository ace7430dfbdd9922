"""What a writer finds in the file that it goes on with: its rows, and what does not belong there.

Nothing is thrown away: a half line and a file of somebody else's are kept beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from monitorkit import logs
from monitorkit.prediction_log import segment, sidecar
from monitorkit.prediction_log.rows import FIXED
from monitorkit.prediction_log.segment import Head

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What is in a segment.

    Attributes:
        head: of it.
        rows: whole lines after the header.
        end: of the last one; what follows was not written whole.
        last: the latest timestamp; empty when there is none.
    """

    head: Head
    rows: int
    end: int
    last: bytes


def recover(fd: int, path: Path, size: int) -> Recovered | None:
    """Count the rows of an open segment, from where its sidecar stops; None: it is none of ours.

    Raises:
        OSError: it cannot be read.
    """
    head = segment.read_head(segment.reading(fd))
    if head is None:
        return None
    rows, start, last, known = 0, head.data_start, "", sidecar.read(path)
    if (
        known is not None
        and known.identity == head.identity
        and start <= known.bytes <= size
        and os.pread(fd, 1, known.bytes - 1) == b"\n"
    ):
        rows, start, last = known.rows, known.bytes, known.last_timestamp or ""
    found = segment.count(fd, start)
    last = max(last, found.last_timestamp or "")
    return Recovered(head, rows + found.rows, found.end, last.encode())


def was_cut(path: Path, identity: str | None, size: int) -> bool:
    """Whether somebody shortened a segment since its sidecar was written."""
    known = sidecar.read(path)
    return (
        known is not None
        and identity is not None
        and known.identity == identity
        and known.bytes > size
    )


def is_torn_header(fd: int, size: int) -> bool:
    """Whether an open file is the beginning of a header of ours, and nothing else."""
    if not size or segment.first_line(segment.reading(fd)) is not None:
        return False
    usual = ",".join(FIXED).encode()
    return usual.startswith(os.pread(fd, len(usual), 0)) and size < segment.LINE_LIMIT


def keep_torn(fd: int, path: Path, start: int, size: int, *, sync: bool) -> Path:
    """Copy the end of an open segment, which was never answered, to a file beside it.

    Args:
        fd: of the segment.
        path: of it.
        start: where its last whole line ends.
        size: of it.
        sync: the copy.

    Raises:
        OSError: it cannot be kept.
    """
    torn = path.with_name(f"{path.name}.torn")
    with torn.open("ab") as file:
        for position in range(start, size, segment.LINE_LIMIT):
            file.write(os.pread(fd, min(segment.LINE_LIMIT, size - position), position))
        file.write(b"\n")
        file.flush()
        if sync:
            os.fsync(file.fileno())
    return torn


def set_aside(path: Path) -> None:
    """Give a file that is no log of ours another name.

    Raises:
        OSError: it cannot be renamed.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.unknown-{number}")).exists():
        number += 1
    path.rename(aside)
    log.warning(
        "prediction_log_header_unknown",
        file=str(path),
        kept_in=str(aside),
        expected=",".join(FIXED) + ",...",
    )
