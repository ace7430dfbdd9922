"""Freed memory is used again, where glibc would fetch it from the system anew, page by page."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from monitorkit.monitoring.heap import keep_freed_memory

{call}


def work():
    for _ in range(10):
        [bytearray(b"x") * (4 * 2**20) for _ in range(5)]


work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call: str, **variables: str) -> int:
    """Pages that were fetched while five blocks of 4 MB were made and freed, ten times."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), **variables},
    )
    return int(done.stdout)


GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it speaks to glibc alone")


@GLIBC
def test_blocks_are_made_in_memory_that_was_freed() -> None:
    kept, given_back = faults("keep_freed_memory()"), faults("")
    assert 10 * kept < given_back


@GLIBC
def test_what_a_variable_sets_stays() -> None:
    own = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    assert faults("keep_freed_memory()", **own) > 10 * faults("keep_freed_memory()")
    of_dask = faults("keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="65536")
    assert of_dask < faults("", MALLOC_TRIM_THRESHOLD_="65536") / 10
