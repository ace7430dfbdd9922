"""How glibc keeps the memory of a process that works through a log block by block."""

from __future__ import annotations

import ctypes
import os
import sys

_OPTIONS = {
    # Smaller arrays are not fetched from the system, each anew; not every glibc takes more.
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 * 2**20),
    # So much that is free at its end is not given back.
    "MALLOC_TRIM_THRESHOLD_": (-1, 256 * 2**20),
    # One heap for all threads: what one of them frees, the others use again.
    "MALLOC_ARENA_MAX": (-8, 1),
}
"""By the variable that sets it: the option of `mallopt`, and its value."""

_OF_DASK = "65536"
"""What Dask sets for its workers, where nobody sets MALLOC_TRIM_THRESHOLD_."""


def keep_freed_memory() -> None:
    """See to it that what was freed is used again, as far as no variable says otherwise.

    glibc would give each block's arrays back to the system, and fetch them again for the next one,
    page by page: a tenth of the time of a cycle over millions of rows. `mallopt(3)`. Where the C
    library is another one nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        for variable, (option, value) in _OPTIONS.items():
            if os.environ.get(variable, _OF_DASK) == _OF_DASK:
                mallopt(ctypes.c_int(option), ctypes.c_int(value))
