"""How glibc keeps the memory of a process that works through a log block by block."""

from __future__ import annotations

import ctypes
import sys

_LARGEST = 32 * 2**20  # glibc takes no higher one everywhere
_KEPT = 256 * 2**20
_OPTIONS = (
    (-3, _LARGEST),  # M_MMAP_THRESHOLD: smaller arrays are not fetched from the system, each anew
    (-1, _KEPT),  # M_TRIM_THRESHOLD: so much that is free at its end is not given back
    (-8, 1),  # M_ARENA_MAX: one heap for all threads: what one of them frees, the others use again
)


def keep_freed_memory() -> None:
    """See to it that what was freed is used again; where the C library is another one, do nothing.

    glibc would give each block's arrays back to the system, and fetch them again for the next one,
    page by page: a tenth of the time of a cycle over millions of rows. `mallopt(3)`.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        for option, value in _OPTIONS:
            mallopt(ctypes.c_int(option), ctypes.c_int(value))
