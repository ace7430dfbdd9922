"""How much space is left on the disk of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_and_total(folder: Path) -> tuple[int, int] | None:
    """Bytes that this user may still write to the disk of a folder, and that it has in all.

    Args:
        folder: need not be there yet.

    Returns:
        None when that cannot be told.
    """
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            usage = shutil.disk_usage(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return usage.free, usage.total
    return None
