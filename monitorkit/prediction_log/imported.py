"""`ImportedSegments`: closed segments that are made beside the log and join it at the end.

They are those of an instance of their own, so a service may write and readers may read meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from filelock import FileLock, Timeout

from monitorkit import durable, logs
from monitorkit.errors import ImportBusy
from monitorkit.prediction_log import chain, names, segment, sidecar
from monitorkit.prediction_log.digest import Digest
from monitorkit.prediction_log.rows import header
from monitorkit.prediction_log.sidecar import Sidecar

log = logs.get(__name__)

STEM = "predictions-import"
LOCK = f"{STEM}.lock"


def name_of(earliest: str, folder: Path, taken: Container[str] = ()) -> str:
    """A free name for a segment of imported rows.

    Args:
        earliest: the earliest timestamp in it, as the log writes it.
        folder: where the other segments are.
        taken: stems of names that other segments have elsewhere.
    """
    stem = f"{STEM}-{earliest.replace('-', '').replace(':', '')}"
    for number in itertools.count():
        free = f"{stem}-{number}" if number else stem
        here = any((folder / f"{free}{end}").exists() for end in (".csv", names.COMPRESSED))
        if free not in taken and not here:
            break
    return f"{free}.csv"


@dataclass(frozen=True, slots=True)
class Added:
    """A segment that became part of the log.

    Attributes:
        path: of it.
        rows: in it.
        first: the earliest timestamp.
        last: the latest.
    """

    path: Path
    rows: int
    first: str
    last: str


@dataclass(slots=True)
class _Segment:
    path: Path
    file: BinaryIO
    digest: Digest = field(default_factory=Digest)
    rows: int = 0
    stamps: tuple[str, str] | None = None

    def write(self, data: bytes) -> None:
        """Append whole lines."""
        self.file.write(data)
        self.digest.add(data)


@dataclass(slots=True)
class ImportedSegments:
    """Takes rows, and makes all of them part of the log at once, or none.

    Use it in a `with`: whatever was not published at its end is gone.

    Args:
        folder: of the log; made when it is not there.
        rotate_bytes: a larger segment is followed by another one.
    """

    folder: Path
    rotate_bytes: int
    _open: dict[tuple[str, ...], _Segment] = field(default_factory=dict, init=False)
    _full: list[_Segment] = field(default_factory=list, init=False)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def __enter__(self) -> Self:
        """Lock out other imports, and clear what a killed one left.

        Raises:
            ImportBusy: another one is under way.
            OSError: the folder cannot be used.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            self._stack.enter_context(lock.acquire(timeout=0))
        except Timeout:
            raise ImportBusy(str(self.folder / LOCK)) from None
        for left in self.folder.glob(f".{STEM}.*{durable.LEFTOVER}"):
            left.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for each in (*self._full, *self._open.values()):
                with contextlib.suppress(OSError):  # a full disk again, and it goes anyway
                    each.file.close()
                each.path.unlink(missing_ok=True)

    def add(self, columns: tuple[str, ...], lines: Sequence[bytes], stamps: Sequence[str]) -> None:
        """Take some rows.

        Args:
            columns: their features.
            lines: as `Formatter` makes them.
            stamps: their timestamps.

        Raises:
            OSError: they cannot be written.
        """
        if not lines:
            return
        data = b"".join(lines)
        each = self._open.get(columns)
        if each is not None and each.rows and each.digest.bytes + len(data) > self.rotate_bytes:
            self._finish(self._open.pop(columns))
            each = None
        if each is None:
            path = durable.beside(self.folder / STEM)
            each = self._open[columns] = _Segment(path, path.open("wb"))
            each.write(header(columns))
        each.write(data)
        each.rows += len(lines)
        first, last = min(stamps), max(stamps)
        if each.stamps is not None:
            first, last = min(first, each.stamps[0]), max(last, each.stamps[1])
        each.stamps = first, last

    def publish(self, taken: Container[str] = ()) -> list[Added]:
        """Make all rows part of the log; readers see each segment whole or not at all.

        Args:
            taken: stems that no segment shall have, so that it can be moved to where they are.

        Raises:
            OSError: some segments may be part of it; the same import again adds the others.
        """
        while self._open:
            self._finish(self._open.pop(next(iter(self._open))))
        added = []
        while self._full:
            added.append(self._publish(self._full[0], taken))
            self._full.pop(0)
        durable.sync_folder(self.folder)
        return added

    def _finish(self, each: _Segment) -> None:
        self._full.append(each)
        each.file.flush()
        os.fsync(each.file.fileno())
        each.file.close()

    def _publish(self, each: _Segment, taken: Container[str]) -> Added:
        assert each.stamps is not None  # noqa: S101 - none is begun without a row
        first, last = each.stamps
        path = self.folder / name_of(first, self.folder, taken)
        with each.path.open("rb") as file:
            head = segment.read_head(segment.reading(file.fileno()))
        assert head is not None  # noqa: S101 - it was written above
        size = each.digest.bytes
        counted = Sidecar(head.identity, each.rows, size, head.first_timestamp, last)
        chain.append(
            self.folder / f"{STEM}{names.CHAIN}",
            "closed",
            segment=path.name,
            rows=each.rows,
            bytes=size,
            sha256=each.digest.sha256,
            identity=head.identity,
            marks=tuple(each.digest.marks),
            origin="imported",
        )
        each.path.rename(path)
        sidecar.keep(path, counted)
        log.info("segment_imported", file=str(path), rows=each.rows, first=first, last=last)
        return Added(path, each.rows, first, last)
