"""Where commands print their tables: a terminal, or a pipe in which nothing of them is cut off."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 200
"""Of a pipe."""


def stdout() -> Console:
    """Stdout, as wide as its terminal."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False)  # a column's name may hold [brackets]
