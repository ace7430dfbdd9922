"""`LocalFolder`: segments on a disk of this machine or a mounted one, beside their writers."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from monitorkit.errors import ArchiveUnreachable
from monitorkit.prediction_log import folder, names, segment, sidecar
from monitorkit.prediction_log.compressed import CompressedFile, is_of_the_disk, read_compressed
from monitorkit.prediction_log.folder import Found
from monitorkit.prediction_log.names import Name
from monitorkit.prediction_log.opened import Opened, OpenedLines
from monitorkit.prediction_log.sidecar import Sidecar

_SETTLE_SECONDS = 2.0
_EMPTY = (
    "it is empty, as where a disk is not mounted (a new archive begins with a file of any name)"
)
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)

_File = tuple[int, int]  # device and number
_Stamp = tuple[int, int, int, int]


def check_archive(path: Path, where: str) -> None:
    """Nothing, where a folder has something in it: else its rows would be missing without a word.

    Args:
        path: of the folder.
        where: as it was configured.

    Raises:
        ArchiveUnreachable: it is not there or empty, as where a disk is not mounted.
    """
    if not path.is_dir():
        raise ArchiveUnreachable(where, "there is no such folder")
    with os.scandir(path) as entries:
        if next(entries, None) is None:
            raise ArchiveUnreachable(where, _EMPTY)


class LocalFolder:
    """The segments in a folder.

    Args:
        path: of the folder.
        block_bytes: about how much of a CSV file is held in memory at once.
        archive: as it was configured; it has to be there. None: it is the writers' folder.
    """

    def __init__(self, path: Path, *, block_bytes: int, archive: str | None = None) -> None:
        self.where = archive or str(path)
        self.copies = archive is not None
        self._path = path
        self._block_bytes = block_bytes
        self._known: dict[str, tuple[_Stamp, Found | None]] = {}  # of closed ones

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return str(self._path / name)

    def segments(self, stack: ExitStack) -> list[Found]:
        """The segments at one moment; those that take rows are open.

        A rotation between opening and listing would hide a segment, so look again after it; so
        would a compression between listing and opening.

        Raises:
            ArchiveUnreachable: as `check_archive`, when it is one.
        """
        if self.copies:
            check_archive(self._path, self.where)
        while True:
            with ExitStack() as attempt:
                live = self._open_live(attempt)
                listed = names.segments(self._path)
                growing = {name.text for name in listed if not name.closed}
                if any(
                    _file_of(live.get(name)) != _file_at(self._path / name)
                    for name in growing | set(live)
                ):
                    continue
                found: list[Found] = []
                gone = False
                for name in listed:
                    if name.closed:
                        there, each = self._look_at_closed(name)
                        gone = gone or not there
                    else:
                        each = self._look(name, live.get(name.text))
                    found += [each] if each is not None else []
                if gone and names.segments(self._path) != listed:
                    continue
                stack.enter_context(attempt.pop_all())
                here = {name.text for name in listed}
                self._known = {text: each for text, each in self._known.items() if text in here}
                return found

    def named(self, name: str, stack: ExitStack) -> Found | None:
        """The segment in one file."""
        known = names.parse(name)
        if known is None:
            return None
        if not known.closed:
            return self._look(known, self._open(known, stack))
        with ExitStack() as closing:
            return self._look(known, self._open(known, closing))

    def opened(self, found: Found, stack: ExitStack) -> Opened | None:
        """Open a segment; one that was compressed since it was found is found again."""
        if found.descriptor is not None:
            return self._lines(found, found.descriptor)
        descriptor = self._open(found.name, stack)
        if descriptor is None or _file_of(descriptor) != found.stamp:
            again = self.named(found.name.stem + names.COMPRESSED, stack)
            if found.compressed is None and again is not None and again.identity == found.identity:
                return self.opened(again, stack)
            return None
        if found.compressed is None:
            return self._lines(found, descriptor)
        try:
            file = stack.enter_context(os.fdopen(descriptor, "rb", closefd=False))
            return CompressedFile(file, found.compressed, self._block_bytes)
        except (OSError, ValueError, KeyError, TypeError) as error:  # what pyarrow makes of damage
            if is_of_the_disk(error):
                raise
            folder.damaged(self.file(found.name.text), error)
            return None

    def stream(self, found: Found, stack: ExitStack) -> BinaryIO | None:
        """A segment's file as it is; None as well when another one has its name by now."""
        descriptor = found.descriptor
        if descriptor is None:
            descriptor = self._open(found.name, stack)
            if descriptor is None or _file_of(descriptor) != found.stamp:
                return None
        file = stack.enter_context(os.fdopen(descriptor, "rb", closefd=False))
        file.seek(0)
        return file

    def sidecar(self, found: Found) -> Sidecar | None:
        """The one beside its file."""
        known = sidecar.read(self._path / found.name.text)
        return known if known is not None and known.identity == found.identity else None

    def _open_live(self, stack: ExitStack) -> dict[str, int]:
        live: dict[str, int] = {}
        for name in names.segments(self._path):
            if not name.closed:
                descriptor = self._open(name, stack)
                if descriptor is not None:
                    live[name.text] = descriptor
        return live

    def _open(self, name: Name, stack: ExitStack) -> int | None:
        with suppress(FileNotFoundError):
            descriptor = os.open(self._path / name.text, _OPEN)
            stack.callback(os.close, descriptor)
            return descriptor
        return None

    def _look_at_closed(self, name: Name) -> tuple[bool, Found | None]:
        """Whether a file is there, and the segment in it, which is remembered while it stays."""
        with ExitStack() as closing:
            stamp, known = self._known.get(name.text, (None, None))
            with suppress(FileNotFoundError):
                if stamp is not None and _stamp(self._path / name.text) == stamp:
                    return True, known
            descriptor = self._open(name, closing)
            if descriptor is None:
                return False, None
            found = self._look(name, descriptor)
            if found is not None:
                self._known[name.text] = _stamp(descriptor), found
            return True, found

    def _look(self, name: Name, descriptor: int | None) -> Found | None:
        """What is in an open file; None when no row is."""
        if descriptor is None:
            return None
        size, stamp = os.fstat(descriptor).st_size, _file_of(descriptor)
        if name.compressed:
            compressed = read_compressed(segment.reading(descriptor), size)
            if compressed is None:
                folder.unknown_header(self.file(name.text))
                return None
            return Found(name, compressed.head, compressed.bytes, True, stamp, compressed)
        head = segment.read_head(segment.reading(descriptor))
        if head is not None and head.identity is not None:
            open_file = None if name.closed else descriptor
            return Found(name, head, size, name.closed, stamp, descriptor=open_file)
        if head is None and segment.first_line(segment.reading(descriptor)) is not None:
            folder.unknown_header(self.file(name.text))
        return None  # or it has only just been made

    def _lines(self, found: Found, descriptor: int) -> OpenedLines:
        return OpenedLines(
            segment.reading(descriptor),
            lambda: segment.settled_size(descriptor, seconds=_SETTLE_SECONDS),
            len(found.head.columns),
            self._block_bytes,
        )


def _file_of(descriptor: int | None) -> _File | None:
    if descriptor is None:
        return None
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _stamp(file: int | Path) -> _Stamp:
    """Tells whether a file was changed."""
    status = os.stat(file)  # noqa: PTH116 - an open file, or a path
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _file_at(path: Path) -> _File | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
