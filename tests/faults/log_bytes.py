"""Segments written byte by byte, as a service would have, or as nobody should have."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

FIXED = b"prediction_id,timestamp,model_version,prediction,probability"

_numbers = itertools.count()


def header(folder: Path) -> bytes:
    """The header of the model's log."""
    return FIXED + b"," + _reference(folder)[0] + b"\n"


def rows(folder: Path, number: int, *, first: datetime | None = None) -> list[bytes]:
    """Rows with the features of the reference, a second apart, the last one now or so."""
    first = first or datetime.now(UTC) - timedelta(hours=1)
    lines = _reference(folder)[1:]
    made = []
    for _ in range(number):
        n = next(_numbers)
        stamp = f"{first + timedelta(seconds=n):%Y-%m-%dT%H:%M:%S.%fZ}".encode()
        fixed = b",".join((str(uuid.UUID(int=n + 1)).encode(), stamp, b"1", b"0", b"0.0625"))
        made.append(fixed + b"," + lines[n % len(lines)] + b"\n")
    return made


def write(path: Path, head: bytes, lines: Sequence[bytes]) -> None:
    """One segment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + b"".join(lines))


def _reference(folder: Path) -> list[bytes]:
    return (folder / "monitoring/reference/reference_data.csv").read_bytes().splitlines()
