"""Plugin files are read when monitors are made; a change after that is told of, and not loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from monitorkit import logs

log = logs.get(__name__)


class PluginFiles:
    """What the plugin files held when they were loaded.

    Args:
        paths: of the files; make this before they are loaded, so that no change is missed.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._loaded = {path: _digest(path) for path in paths}
        self._told = dict(self._loaded)

    def look(self) -> None:
        """Tell of each change once; a file that is back to what was loaded is no change."""
        for path, loaded in self._loaded.items():
            now = _digest(path)
            if now not in {loaded, self._told[path]}:
                log.warning(
                    "plugin_changed",
                    file=str(path),
                    change="gone or unreadable" if now is None else "edited",
                    reason="what was loaded goes on; restart the service to load what is there",
                )
            self._told[path] = now


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None  # `look` tells of it, and loading it does
