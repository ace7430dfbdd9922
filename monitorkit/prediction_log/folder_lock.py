"""`FolderLock`: one process at a time writes the files of an instance, wherever its folder went."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from monitorkit.errors import LogLocked


class FolderLock:
    """A lock that the operating system frees when its process ends.

    Args:
        path: of the lock's file; its folder may be replaced by another one meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, thread_local=False)
        self._file: tuple[int, int] | None = None  # that is locked: device and number

    def hold(self) -> None:
        """Hold the lock that is in the folder now.

        Raises:
            LogLocked: another process holds it.
            OSError: the folder is gone or cannot be used.
        """
        if self._lock.is_locked:
            with suppress(FileNotFoundError):
                if _file_at(self._path) == self._file:
                    return
            self._lock.release()  # of a folder that is no longer there
        if not self._path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(self._path.parent))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise LogLocked(str(self._path)) from None
        self._file = _file_at(self._path)

    def is_free(self) -> bool:
        """Whether it could be held, while it is not."""
        try:
            with FileLock(self._path, timeout=0, thread_local=False):
                return True
        except (Timeout, OSError):
            return False

    def release(self) -> None:
        """Let another process have it."""
        self._lock.release()


def _file_at(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
