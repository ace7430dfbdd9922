"""Whose code runs: written down, so that a crash or a kill has a name."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ACTIVE = "active"

Say = Callable[[Sequence[str]], None]
"""Write down the names of the monitors whose code runs from now on; none: ours does."""


@contextlib.contextmanager
def telling(state: Path, *names: str) -> Iterator[Say]:
    """Say whose code runs, and take what says whose runs next; in the end, ours does.

    Args:
        state: the folder that it is written to.
        names: the monitors whose code runs at first.
    """
    try:
        fd = _opened(state / ACTIVE)
    except OSError:  # on a full disk a crash has no name, that is all
        yield lambda _names: None
        return
    size = os.fstat(fd).st_size

    def say(names: Sequence[str]) -> None:
        nonlocal size
        # Padded and not cut, which would make some file systems wait for the disk.
        text = json.dumps(list(names)).encode().ljust(size)
        size = len(text)
        with contextlib.suppress(OSError):
            os.pwrite(fd, text, 0)

    try:
        say(names)
        yield say
    finally:
        say(())
        os.close(fd)


def say_nobody(state: Path) -> None:
    """Write down that no monitor's code runs."""
    with telling(state):
        pass


def active(state: Path) -> tuple[str, ...]:
    """The monitors whose code ran last, when a process ended in it."""
    try:
        return tuple(json.loads((state / ACTIVE).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # never written, or the crash came in the middle of it
        return ()


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:  # a new folder
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o644)
