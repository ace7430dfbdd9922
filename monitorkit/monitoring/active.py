"""Whose code runs: written down, so that a crash or a kill has a name."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

ACTIVE = "active"


def say_active(state: Path, names: Sequence[str]) -> None:
    """Write down which monitors' code runs; called twice for each block of the log that is read."""
    text = json.dumps(list(names)).encode()
    path = str(state / ACTIVE)
    with contextlib.suppress(OSError):  # on a full disk a crash has no name, that is all
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        except FileNotFoundError:  # a new folder
            state.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            # Padded and not cut, which would make some file systems wait for the disk.
            os.pwrite(fd, text.ljust(os.fstat(fd).st_size), 0)
        finally:
            os.close(fd)


def active(state: Path) -> tuple[str, ...]:
    """The monitors whose code ran last, when a process ended in it."""
    try:
        return tuple(json.loads((state / ACTIVE).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # never written, or the crash came in the middle of it
        return ()
