"""The files that monitors attach to a result, such as HTML reports: written, and pruned."""

from __future__ import annotations

import os
from pathlib import Path

from monitorkit import durable
from monitorkit.retention import Limits, kept, prune


class Reports:
    """A folder of reports, named `<run_id>-<monitor>-<file>`.

    Args:
        folder: made when the first report is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, run_id: str, monitor: str, name: str, content: bytes) -> str:
        """Write one file; a crash leaves all of it or nothing.

        Args:
            run_id: of the result it belongs to.
            monitor: whose it is.
            name: a plain file name.
            content: the bytes.

        Returns:
            Its path, relative to the folder.

        Raises:
            OSError: when it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{run_id}-{monitor}-{name}"
        durable.clear_leftovers(self.folder)
        durable.replace_file(path, content, sync=False)
        return path.name

    def prune(self, limits: Limits) -> int:
        """Delete the oldest reports beyond some limits, each with an event; the newest one stays.

        Returns:
            How many were deleted.
        """
        if not self.folder.is_dir():
            return 0
        with os.scandir(self.folder) as entries:
            names = sorted((entry.name for entry in entries if entry.is_file()), reverse=True)
        found = (kept(self.folder / name) for name in names)
        return prune((each for each in found if each is not None), limits, "report")
