"""`Disk`: how much space there is, and what takes it; looked at in a thread, told in time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from anyio import CapacityLimiter, to_thread

from monitorkit import logs
from monitorkit.disk_space import free_and_total
from monitorkit.serving.patient import Patient
from monitorkit.settings import Storage

log = logs.get(__name__)

FREE_EVERY = 5.0
"""Seconds between two looks at the free space: one call to the system."""

SIZES_EVERY = 30.0
"""Seconds for which the sizes of folders stand: each file is asked for its own."""

PATIENCE = 1.0
"""Seconds that somebody who asks waits for them; later ones get them."""

RECOVERED = 1.1
"""So many times the limit must be free again, or the events would come and go with every file."""


class Disk:
    """The disk that `[storage] root` is on.

    Args:
        storage: its folders, and the limit.

    Attributes:
        free: bytes that this user may still write; None: not known.
        almost_full: whether that is less than the limit, and was not clearly more since.
        sizes: bytes of the files in each folder, as they were when somebody asked.
    """

    def __init__(self, storage: Storage) -> None:
        self.free: int | None = None
        self.almost_full = False
        self.sizes: dict[str, int] = {}
        self._root = storage.root
        self._warning = int(storage.disk_warning)
        self._folders = {
            "log": storage.predictions,
            "reference": storage.reference,
            "results": storage.results,
            "state": storage.state,
            "reports": storage.reports,
            "models": storage.models,
            "mlflow": storage.mlflow,
        }
        # A disk that hangs holds up one thread for each, and nobody else's.
        self._limiter = CapacityLimiter(1)
        self._sizes = Patient(self._measure, PATIENCE)
        self._measured_at = -math.inf
        self._unreadable = False

    async def run(self) -> None:
        """Look every some seconds until cancelled."""
        while True:
            await self.look()
            await anyio.sleep(FREE_EVERY)

    async def look(self) -> None:
        """Look at the free space, and tell when the disk is almost full, and when not any more."""
        space = await to_thread.run_sync(
            free_and_total, self._root, limiter=self._limiter, abandon_on_cancel=True
        )
        if space is None:
            self.free = None
            if not self._unreadable:
                log.warning("disk_not_measured", folder=str(self._root))
            self._unreadable = True
            return
        self._unreadable = False
        self.free = free = space[0]
        if not self.almost_full and free < self._warning:
            self.almost_full = True
            log.warning(
                "disk_almost_full",
                folder=str(self._root),
                free_bytes=free,
                warning_bytes=self._warning,
                remedy="Free space, move closed segments to an archive ([log] archives), or let "
                "[log.retention] delete them; when it is full, requests are answered with 503.",
            )
        elif self.almost_full and free >= RECOVERED * self._warning:
            self.almost_full = False
            log.info("disk_space_recovered", folder=str(self._root), free_bytes=free)

    async def measure(self) -> None:
        """See to it that `sizes` are not old, if that can be done soon."""
        if time.monotonic() - self._measured_at >= SIZES_EVERY:
            await self._sizes.call()

    def health(self) -> dict[str, Any]:
        """What /health says of it."""
        return {
            "free_bytes": self.free,
            "warning_bytes": self._warning or None,
            "almost_full": self.almost_full,
        }

    def _measure(self) -> None:
        self.sizes = {what: sum(_sizes(folder)) for what, folder in self._folders.items()}
        self._measured_at = time.monotonic()


def _sizes(folder: Path) -> Iterator[int]:
    """The bytes of each file below a folder; what goes meanwhile, or may not be read, counts 0."""
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield _size(entry)
        except OSError:
            continue


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0
