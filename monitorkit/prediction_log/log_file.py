"""`LogFile`: the open segment, written all or nothing, and rotation.

Blocking and for one thread; `Writer` runs it in a thread of its own, as an aiofiles file.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from monitorkit import durable, logs
from monitorkit.prediction_log import recovery, segment, sidecar
from monitorkit.prediction_log.digest import Digest, digest_of
from monitorkit.prediction_log.folder_lock import FolderLock
from monitorkit.prediction_log.names import Writers
from monitorkit.prediction_log.rows import header
from monitorkit.prediction_log.seals import Seals
from monitorkit.prediction_log.sidecar import Sidecar

log = logs.get(__name__)

ATTEMPTS = 3
SIDECAR_EVERY = 16 * 1024 * 1024
HOLD_SECONDS = 1.0

_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class LogFile:
    """The segment that takes rows.

    Args:
        folder: of all segments.
        columns: features of the rows to come.
        sync: sync every write, and the folder after a file came or went by another name.
        rotate_bytes: a larger segment is closed before the next write.
        instance: of the writer, which shares the folder with others then; only its own files are
            recovered, locked and counted.
    """

    def __init__(
        self,
        folder: Path,
        columns: tuple[str, ...],
        *,
        sync: bool,
        rotate_bytes: int,
        instance: str = "",
    ) -> None:
        self._names = Writers(instance)
        self.path = folder / self._names.current
        self._name = str(self.path)
        self.total_rows = 0
        self._folder = folder
        self._columns = columns
        self._sync = sync
        self._rotate_bytes = rotate_bytes
        self._rotate_at = rotate_bytes
        self._lock = FolderLock(folder / self._names.lock)
        self._fd: int | None = None
        self._file: tuple[int, int] | None = None
        self._size = 0
        self._cut = False  # somebody shortened the segment
        self._unsound = False  # bytes of a failed write stand behind `_size`
        self._rows = 0
        self._closed_rows = 0
        self._has: tuple[str, ...] = ()
        self._first: str | None = None
        self._last = b""
        self._identity: str | None = None
        self._counted = 0  # the size that the sidecar on disk speaks of
        self._digest = Digest()  # of the first `_size` bytes, as they were written
        self._seals = Seals(folder / self._names.chain, sync=sync)

    def open(self) -> None:
        """Make the folder if need be, lock it, and recover.

        Raises:
            LogLocked: another process writes these files.
            OSError: the folder or a file in it cannot be used.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sync_folder(self._folder.parent)
        self._open()
        if self._has != self._columns:
            self._rotate()

    def can_be_locked(self) -> bool:
        """Whether no other process writes these files, after one did."""
        return self._lock.is_free()

    def use(self, columns: tuple[str, ...]) -> None:
        """The rows to come have these features."""
        self._columns = columns

    def write(self, data: bytes, latest: bytes) -> int:
        """Append whole lines: all of them are in the file at `path` when this returns.

        Args:
            data: the lines.
            latest: the latest timestamp in them.

        Raises:
            LogLocked: the folder was replaced, and another process writes in the new one.
            OSError: none of them is in the file.
        """
        for _ in range(ATTEMPTS):
            self._get_ready(len(data))
            self._append(data)
            if self._noted(data, latest):
                return len(data)
        raise OSError(errno.ESTALE, "another program keeps changing the file")

    def write_at_once(self, data: bytes, latest: bytes) -> bool:
        """Append whole lines if that takes nothing but one write to the page cache.

        It waits for nobody, syncs nothing, and neither begins nor closes a file. The arguments are
        those of `write`.

        Returns:
            Whether they are in the file at `path`; if not, use `write`.

        Raises:
            OSError: none of them is in the file.
        """
        if (
            self._fd is None
            or self._sync
            or self._unsound
            or self._identity is None
            or self._has != self._columns
            or self._size + len(data) > min(self._rotate_at, self._counted + SIDECAR_EVERY)
            or self._status() != self._expected()
            or not segment.hold(self._fd, seconds=0)
        ):
            return False
        self._put(data)
        return self._noted(data, latest)

    def close(self) -> None:
        """Leave a sidecar, so that the next start need not count, and unlock the folder."""
        if self._fd is not None and not self._unsound and self._status() == self._expected():
            self._save_sidecar()
        self._seals.tell()
        self._let_go()
        self._lock.release()

    # Getting ready

    def _get_ready(self, coming: int) -> None:
        """See to it that the right file is open, whole, and takes these columns."""
        if self._fd is not None and (found := self._status()) != self._expected():
            if found is None or found[0] != self._file:
                event = "prediction_log_gone" if found is None else "prediction_log_replaced"
                log.warning(event, file=str(self.path))
                self._let_go()
            elif self._unsound:
                self._take_back(self._size)
            else:
                self._changed_by_others(found[1])
        if self._fd is not None and self._unsound:  # it has its size, but that may not be all
            self._take_back(self._size)
        if self._fd is None:
            self._open()
        if self._has != self._columns:
            self._rotate()
        elif self._rows and self._size + coming > self._rotate_at:
            try:
                self._rotate()
            except OSError as error:
                if self._fd is None:  # the old one has its name, the new one could not begin
                    raise
                log.warning("prediction_log_not_rotated", file=str(self.path), reason=str(error))
                self._rotate_at = self._size + self._rotate_bytes

    def _changed_by_others(self, size: int) -> None:
        cut = size < self._size
        log.warning(
            "prediction_log_changed",
            file=str(self.path),
            expected_bytes=self._size,
            found_bytes=size,
            remedy="Nothing else may write this file; rows that were cut off are lost.",
        )
        if not cut:  # whatever was added is counted, or set aside when it is no whole line
            self._save_sidecar()
        self._let_go()
        self._cut = cut

    def _open(self) -> None:
        """Open `path`, recover it, and count; leaves nothing open when it fails."""
        self._lock.hold()
        try:
            self._open_segment()
            if self._cut or recovery.was_cut(self.path, self._identity, self._size):
                # Readers may have been beyond its new end, so nothing is added to it any more.
                self._retire(cut=True)
                self._cut = False
                self._open_segment()
            self._count_closed()
        except BaseException:
            self._let_go()
            raise

    def _open_segment(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        new = not self.path.exists()
        fd = self._fd = os.open(self.path, flags, 0o644)
        self._unsound = False
        status = os.fstat(fd)
        self._file, self._size = (status.st_dev, status.st_ino), status.st_size
        self._rows, self._counted, self._rotate_at = 0, 0, self._rotate_bytes
        self._identity = self._first = None
        self._last = b""
        if recovery.is_torn_header(fd, self._size):
            self._set_torn_aside(0)
        if self._size == 0:
            self._has = self._columns
            line = header(self._columns)
            self._append(line)
            self._digest = Digest()
            self._digest.add(line)
        else:
            self._recover()
        if new:
            self._sync_folder(self._folder)

    def _recover(self) -> None:
        """Count the rows; what is no whole line at the end is set aside."""
        assert self._fd is not None  # noqa: S101
        found = recovery.recover(self._fd, self.path, self._size)
        if found is None:
            recovery.set_aside(self.path)
            self._let_go()
            self._open_segment()
            return
        self._has, self._identity = found.head.columns, found.head.identity
        self._first = found.head.first_timestamp
        self._rows, self._last = found.rows, found.last
        if found.end < self._size:
            self._set_torn_aside(found.end)
        self._digest = digest_of(segment.reading(self._fd), self._size)

    def _set_torn_aside(self, end: int) -> None:
        """A crash in the middle of a write: keep the half line elsewhere, it was never answered."""
        assert self._fd is not None  # noqa: S101
        size = self._size
        torn = recovery.keep_torn(self._fd, self.path, end, size, sync=self._sync)
        self._take_back(end)
        log.warning(
            "prediction_log_torn_line",
            file=str(self.path),
            offset=end,
            bytes=size - end,
            kept_in=str(torn),
        )

    def _count_closed(self) -> None:
        total = 0
        for name in self._names.closed(self._folder):
            with suppress(FileNotFoundError):  # deleted since, by retention
                total += sidecar.rows_of(self._folder / name.text)
        self._closed_rows = total
        self.total_rows = total + self._rows

    # Rotation

    def _rotate(self) -> None:
        """Close the segment under a name of its own and begin the next one."""
        self._retire()
        self._open()

    def _retire(self, *, cut: bool = False) -> None:
        if not self._rows:  # unlinked, not rewritten: a reader must not mix up old and new columns
            if cut:  # all of its rows: the chain remembers that there were some
                self._seal(self._names.next_closed(None, self._folder), cut=True)
            self.path.unlink()
            self._let_go()
            return
        closed = self._folder / self._names.next_closed(self._first, self._folder)
        # Before it has its name: no closed segment is ever without its line, whatever ends us.
        head = self._seal(closed.name, cut=cut)
        self.path.rename(closed)
        self._sync_folder(self._folder)
        sidecar.keep(closed, self._sidecar(cut=cut))
        sidecar.path_of(self.path).unlink(missing_ok=True)
        self._closed_rows += self._rows
        self._let_go()
        log.info(
            "prediction_log_rotated",
            file=str(closed),
            rows=self._rows,
            bytes=self._size,
            chain=head,
        )

    def _seal(self, name: str, *, cut: bool) -> str | None:
        """Note in the chain what the segment holds; returns the SHA-256 of the chain."""
        assert self._fd is not None  # noqa: S101
        digest = self._digest
        if digest.bytes != self._size:  # a failure on the way here
            digest = digest_of(segment.reading(self._fd), self._size)
        return self._seals.add(
            segment=name,
            rows=self._rows,
            bytes=self._size,
            sha256=digest.sha256,
            identity=self._identity,
            marks=tuple(digest.marks),
            cut=cut,
        )

    # Writing

    def _append(self, data: bytes) -> None:
        """One write, all or nothing, once no reader looks."""
        assert self._fd is not None  # noqa: S101
        if not segment.hold(self._fd, seconds=HOLD_SECONDS):  # a reader was stopped at this moment
            log.warning("prediction_log_reader_in_the_way", file=str(self.path))
        self._put(data)

    def _put(self, data: bytes) -> None:
        """One write, all or nothing; readers are held off, and let in again."""
        assert self._fd is not None  # noqa: S101
        try:
            written = os.write(self._fd, data)
            while written < len(data):  # the rest, or the reason why there is no room for it
                written += os.write(self._fd, data[written:])
            if self._sync:
                _fdatasync(self._fd)
        except BaseException:
            self._unsound = True
            self._take_back(self._size)
            raise
        self._size += len(data)
        segment.release(self._fd)

    def _take_back(self, size: int) -> None:
        """Cut off what was not written whole; readers wait while that has not worked."""
        assert self._fd is not None  # noqa: S101
        self._unsound = True
        os.ftruncate(self._fd, size)
        if self._sync:
            _fdatasync(self._fd)
        self._size = size
        self._unsound = False
        segment.release(self._fd)

    def _noted(self, data: bytes, latest: bytes) -> bool:
        """Count what was just appended, if it is where readers look; if not, it is taken back."""
        found = self._status()
        if found == self._expected():
            self._note(data, latest)
            return True
        if found is None or found[0] != self._file:  # moved away or deleted at this very moment
            self._take_back(self._size - len(data))
            return False
        # Somebody else wrote, or cut it off.
        assert self._fd is not None  # noqa: S101
        self._size -= len(data)
        since = os.pread(self._fd, max(found[1] - self._size, 0), self._size)
        if since.startswith(data):
            self._size += len(data)
            self._note(data, latest)
            return True
        self._changed_by_others(found[1])
        return b"\n" + data in since  # behind lines of others: who opens it counts them

    def _status(self) -> tuple[tuple[int, int], int] | None:
        """Which file is at `path`, and its size; None when there is none."""
        try:
            status = os.stat(self._name)  # noqa: PTH116 - a Path takes as long as the call itself
        except FileNotFoundError:
            return None
        return (status.st_dev, status.st_ino), status.st_size

    def _expected(self) -> tuple[tuple[int, int] | None, int]:
        return self._file, self._size

    def _note(self, data: bytes, latest: bytes) -> None:
        """Keep count."""
        self._digest.add(data)
        if self._identity is None:
            assert self._fd is not None  # noqa: S101
            head = segment.read_head(segment.reading(self._fd))
            if head is not None:
                self._identity, self._first = head.identity, head.first_timestamp
        number = data.count(b"\n")
        self._rows += number
        self._last = max(self._last, latest)
        self.total_rows = self._closed_rows + self._rows
        if self._size - self._counted >= SIDECAR_EVERY:
            self._save_sidecar()

    def _save_sidecar(self) -> None:
        sidecar.keep(self.path, self._sidecar())
        self._counted = self._size

    def _sidecar(self, *, cut: bool = False) -> Sidecar:
        last = self._last.decode("ascii") or None
        return Sidecar(self._identity, self._rows, self._size, self._first, last, cut)

    def _sync_folder(self, folder: Path) -> None:
        if self._sync:
            durable.sync_folder(folder)

    def _let_go(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)
