"""Where commands print their tables: a terminal, or a pipe in which nothing of them is cut off."""

from __future__ import annotations

import sys
from typing import IO

from rich.console import Console

WIDTH = 200
"""Of a pipe."""


def console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """Where tables go, and sentences with names in them, which may hold [brackets] or :colons:.

    Args:
        file: stdout by default.
        width: in characters; by default as wide as the terminal is, or a pipe's `WIDTH`.
    """
    if width is None and not (file or sys.stdout).isatty():
        width = WIDTH
    return Console(file=file, width=width, markup=False, emoji=False)
