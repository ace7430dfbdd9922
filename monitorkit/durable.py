"""Writing so that a killed process or a power failure leaves the whole of it, or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from pathlib import Path

LEFTOVER = ".tmp"
"""Ends the name of what is being written; it begins with a dot, and readers pass over it."""

STALE_SECONDS = 3600.0
"""No write takes an hour: what is older was left by a process that was killed."""


def write_file(path: Path, content: bytes) -> None:
    """Write a file and sync it; its name is not synced, see `sync_folder`.

    Raises:
        OSError: when it cannot be written.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def is_special(path: Path) -> bool:
    """Whether a name is of a device or a pipe, such as /dev/null, which is written into."""
    return path.exists() and not path.is_file() and not path.is_dir()


def replace_file(
    path: Path, content: bytes, *, sync: bool = True, for_the_same: bool = False
) -> None:
    """Write a file under another name, sync it, give it its name and sync that.

    A device or a pipe gets the content.

    Args:
        path: of the file.
        content: all of it.
        sync: what may be lost with the power, such as a cache, need not wait for the disk.
        for_the_same: mode and owners stay those of the file that is there, as far as we may.

    Raises:
        OSError: when it cannot be written; what was there before is still there.
    """
    if is_special(path):
        path.write_bytes(content)
        return
    temporary = beside(path)
    try:
        if for_the_same:
            temporary.touch(mode=0o600)  # nobody else may read it, until it is known who may
        if sync:
            write_file(temporary, content)
        else:
            temporary.write_bytes(content)
        if for_the_same:
            _give(temporary, path.stat())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def try_file(path: Path) -> None:
    """Find out whether `replace_file` could write a file, before the work for what is in it.

    Raises:
        OSError: when it could not.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if is_special(path):
        return
    temporary = beside(path)
    try:
        temporary.touch()
    finally:
        temporary.unlink(missing_ok=True)


def _give(path: Path, known: os.stat_result) -> None:
    """Let a file be whose another one is, and for whom."""
    if os.name != "nt":  # Windows has no such call
        for owner in ((-1, known.st_gid), (known.st_uid, -1)):
            with contextlib.suppress(OSError):  # only root may give files away
                os.chown(path, *owner)
    path.chmod(stat.S_IMODE(known.st_mode))


def beside(path: Path) -> Path:
    """A name in the same folder for what shall become `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}{LEFTOVER}")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure.

    Raises:
        OSError: when the disk says that it cannot.
    """
    if os.name == "nt":  # Windows has no such call, and syncs names with the file
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_leftovers(folder: Path, name: str = "", *, but: str | None = None) -> int:
    """Delete what killed processes left unfinished in a folder; returns how many there were.

    Args:
        folder: where to look.
        name: only what was to become this file or folder.
        but: not what was to become one whose name begins so.
    """
    oldest = time.time() - STALE_SECONDS
    cleared = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.startswith(f".{name}") and entry.name.endswith(LEFTOVER)):
                continue
            if but is not None and entry.name.startswith(f".{but}"):
                continue
            if entry.stat(follow_symlinks=False).st_mtime > oldest:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink(missing_ok=True)
            cleared += 1
    return cleared
