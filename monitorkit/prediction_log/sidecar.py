"""A segment's sidecar: what was counted of it, so that a start and a look-back need not read it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from monitorkit import durable, logs
from monitorkit.prediction_log import names, segment
from monitorkit.prediction_log.compressed import read_compressed

log = logs.get(__name__)

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What was counted of a segment up to a size, so that nobody counts it again.

    Attributes:
        identity: of the segment.
        rows: lines after the header.
        bytes: the segment's size when it was counted.
        first_timestamp: of its first row.
        last_timestamp: the latest of its rows.
        cut: somebody shortened the segment, so it was closed: what follows a cursor is gone.
        unfit: why it is not compressed, ever.
    """

    identity: str | None
    rows: int
    bytes: int
    first_timestamp: str | None
    last_timestamp: str | None
    cut: bool = False
    unfit: str | None = None


def path_of(segment: Path) -> Path:
    """Where a segment's sidecar is."""
    return segment.with_suffix(".json")


def read(segment: Path) -> Sidecar | None:
    """A segment's sidecar; None when there is none that can be used: the segment is counted."""
    try:
        return parse(path_of(segment).read_bytes())
    except OSError:
        return None


def parse(content: bytes) -> Sidecar | None:
    """What a sidecar says; None when that cannot be used."""
    try:
        document = json.loads(content)
        if document.pop("schema_version") == SCHEMA_VERSION:
            sidecar = Sidecar(**document)
            return sidecar if type(sidecar.rows) is type(sidecar.bytes) is int else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # it is a cache; whatever is wrong with it, the segment knows better
    return None


def write(segment: Path, sidecar: Sidecar) -> None:
    """Write a segment's sidecar, atomically.

    Raises:
        OSError: when it cannot be written.
    """
    document = {"schema_version": SCHEMA_VERSION, **asdict(sidecar)}
    content = json.dumps(document, indent=1).encode() + b"\n"
    durable.replace_file(path_of(segment), content, sync=False)


def keep(path: Path, sidecar: Sidecar) -> None:
    """Write a segment's sidecar if that can be done; without it the next start counts the rows."""
    try:
        write(path, sidecar)
    except OSError as error:
        log.warning(
            "prediction_log_not_counted",
            file=str(path_of(path)),
            reason=error.strerror or str(error),
        )


def rows_of(path: Path) -> int:
    """The rows of a closed segment; a CSV file without a usable sidecar is counted, and gets one.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix == names.COMPRESSED:
        return _compressed_rows(path)
    known = read(path)
    try:
        if known is not None and known.bytes == path.stat().st_size:
            return known.rows
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        compressed = path.with_suffix(names.COMPRESSED)
        if compressed.exists():  # since somebody listed it
            return _compressed_rows(compressed)
        raise
    try:
        head = segment.read_head(segment.reading(fd))
        if head is None:
            log.warning("prediction_log_header_unknown", file=str(path))
            return 0
        found = segment.count(fd, head.data_start)
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    cut = known is not None and known.identity == head.identity and known.cut
    keep(
        path,
        Sidecar(head.identity, found.rows, size, head.first_timestamp, found.last_timestamp, cut),
    )
    return found.rows


def mark_unfit(path: Path, reason: str) -> None:
    """Note why a closed segment is never compressed."""
    rows_of(path)  # gives it a sidecar, if need be
    known = read(path)
    if known is not None:
        keep(path, replace(known, unfit=reason))


def _compressed_rows(path: Path) -> int:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        compressed = read_compressed(segment.reading(file.fileno()), size)
    if compressed is None:
        log.warning("prediction_log_header_unknown", file=str(path))
        return 0
    return compressed.rows
