"""Small file systems, which a test can fill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(where: Path, size: str) -> Iterator[Path]:
    """Mount one on a folder, which it makes, or skip the test; yields the folder."""
    where.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield where
    finally:
        # Lazily: a service, or a test that failed, may still have files open there.
        subprocess.run(["umount", "-l", str(where)], check=True, timeout=10)
