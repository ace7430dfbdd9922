"""The chain of a writer's closed segments: a line for each, with the SHA-256 of the one before.

A file beside the segments, `predictions[-<instance>].chain`, that is only ever appended to. It says
what a segment held when it was closed, that it was compressed since, or deleted by retention; so
whatever else happened to it can be told. Its lines are
`{"sha256":"<of the record>","record":{..., "previous":"<the sha256 of the line before>"}}`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from monitorkit import durable
from monitorkit.prediction_log import names, segment
from monitorkit.prediction_log.digest import Mark
from monitorkit.prediction_log.names import Name
from monitorkit.units import timestamp

SCHEMA_VERSION = 1
FIRST = "0" * 64
"""What the first line has for the one before it."""

PATIENCE_SECONDS = 1.0
"""For another process that appends."""

_LINE = re.compile(rb'\{"sha256":"([0-9a-f]{64})","record":(\{.*\})\}', re.DOTALL)
_TAIL = 64 * 1024

Event = Literal["closed", "compressed", "pruned"]


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a segment.

    Attributes:
        event: it was closed, compressed to a Parquet file, or deleted by retention.
        segment: the name of the file that the rest speaks of.
        rows: in it.
        bytes: its size.
        sha256: of its content.
        identity: of the segment.
        marks: the SHA-256 of beginnings of it.
        origin: `written` by a service, `imported`, or `found` closed and sealed by hand.
        cut: somebody had shortened it while it took rows.
        reason: why it was deleted.
        at: when this was noted, UTC.
        previous: the `sha256` of the line before.
    """

    event: Event
    segment: str
    rows: int
    bytes: int
    sha256: str | None
    identity: str | None = None
    marks: tuple[Mark, ...] = ()
    origin: Literal["written", "imported", "found"] = "written"
    cut: bool = False
    reason: str | None = None
    at: str = ""
    previous: str = FIRST

    @property
    def stem(self) -> str:
        """The segment's name without the ending, which compression changes."""
        return self.segment.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Link:
    """A line of a chain.

    Attributes:
        number: of the line, from 1.
        record: what it says; None when that cannot be read.
        sha256: by which the next line knows it.
        problem: what is wrong with it.
    """

    number: int
    record: Record | None
    sha256: str
    problem: str | None


def path_of(folder: Path, name: Name) -> Path:
    """The chain that a segment belongs to."""
    return folder / f"{name.writer}{names.CHAIN}"


def chains(folder: Path) -> list[Path]:
    """Every chain in a folder."""
    return sorted(folder.glob(f"predictions*{names.CHAIN}"))


def append(path: Path, event: Event, *, sync: bool = True, **known: Any) -> str:
    """Add a line; other processes that do so wait.

    Args:
        path: of the chain; made when it is not there.
        event: see `Record`.
        sync: return when it would survive a power failure.
        known: the other fields of the record; `at` and `previous` are filled in.

    Returns:
        The line's SHA-256, which is that of the whole chain.

    Raises:
        OSError: nothing was added.
    """
    new = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        if not segment.hold(fd, seconds=PATIENCE_SECONDS):
            raise OSError(errno.EBUSY, "another process holds it", str(path))
        size = os.fstat(fd).st_size
        last, end = _last_line(fd, size)
        if end < size:  # a crash in the middle of a line: what it was to say is said again
            os.ftruncate(fd, end)
        at = timestamp(datetime.now(UTC))
        previous = _sha256_of(last) if last else FIRST
        line, sha256 = _line(Record(event, at=at, previous=previous, **known))
        try:
            written = os.write(fd, line)
            while written < len(line):
                written += os.write(fd, line[written:])
            if sync:
                os.fsync(fd)
        except BaseException:
            os.ftruncate(fd, end)
            raise
    finally:
        os.close(fd)  # frees the lock
    if new and sync:
        durable.sync_folder(path.parent)
    return sha256


def read(path: Path) -> Iterator[Link]:
    """The lines of a chain; a last one without its end is none: its writer is at it, or crashed."""
    previous = FIRST
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            link = _link(number, line[:-1], previous)
            previous = link.sha256
            yield link


def last_of(path: Path, stem: str) -> dict[Event, Record]:
    """The newest record of each kind that a chain has of a segment, since it was closed last."""
    found: dict[Event, Record] = {}
    for link in read(path):
        if link.record is not None and link.record.stem == stem:
            if link.record.event == "closed":  # again, by an import of what was pruned
                found.clear()
            found[link.record.event] = link.record
    return found


def _line(record: Record) -> tuple[bytes, str]:
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for field in fields(record):
        value = getattr(record, field.name)
        if value != field.default or field.name == "previous":
            document[field.name] = value
    body = json.dumps(document, separators=(",", ":")).encode()
    sha256 = hashlib.sha256(body).hexdigest()
    return b'{"sha256":"%s","record":%s}\n' % (sha256.encode(), body), sha256


def _link(number: int, line: bytes, previous: str) -> Link:
    sha256 = _sha256_of(line)
    match = _LINE.fullmatch(line)
    if match is None:
        return Link(number, None, sha256, "the line is not what monitorkit writes")
    if hashlib.sha256(match[2]).hexdigest() != sha256:
        return Link(number, None, sha256, "the line was edited: its SHA-256 is another")
    try:
        record = _record(json.loads(match[2]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Link(number, None, sha256, f"the line cannot be used: {error}")
    problem = None
    if record.previous != previous:
        problem = "the line does not follow the one before it: a line was removed, added or moved"
    return Link(number, record, sha256, problem)


def _record(document: dict[str, Any]) -> Record:
    version = document.pop("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"its schema_version is {version}, and {SCHEMA_VERSION} can be read")
    document["marks"] = tuple((int(size), str(sha)) for size, sha in document.get("marks", ()))
    record = Record(**document)
    if type(record.rows) is not int or type(record.bytes) is not int:
        raise TypeError("rows and bytes are numbers")
    return record


def _sha256_of(line: bytes) -> str:
    """By which the next line knows a line: what it says of itself, if it says anything."""
    match = _LINE.fullmatch(line)
    return match[1].decode() if match is not None else hashlib.sha256(line).hexdigest()


def _last_line(fd: int, size: int) -> tuple[bytes, int]:
    """The last whole line without its end, and the offset after it."""
    tail = _TAIL
    while True:
        start = max(0, size - tail)
        lines = os.pread(fd, size - start, start)
        end = lines.rfind(b"\n")
        if end >= 0 and (start == 0 or b"\n" in lines[:end]):
            return lines[:end].rpartition(b"\n")[2], start + end + 1
        if start == 0:
            return b"", 0
        tail *= 4
