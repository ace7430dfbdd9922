"""The file of the embedded MLflow store: it is a database, and it was made whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


def check(path: Path) -> None:
    """Look at the file, if there is one: MLflow would try for three minutes to open any other.

    Raises:
        sqlite3.Error: it is no database.
    """
    if path.exists():
        with closing(sqlite3.connect(path, timeout=5)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()


@contextmanager
def begun_whole(path: Path) -> Iterator[None]:
    """Make a new store in here, under its lock.

    MLflow makes its tables in dozens of steps, and does not go on where it was killed. So a new
    store is marked until it is whole; one that still is, holds nothing yet and is made anew.

    Raises:
        OSError: the folder cannot be written.
    """
    mark = path.with_name(f"{path.name}.unfinished")
    if mark.exists():
        for end in ("", "-journal", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    if not path.exists():
        mark.touch()
    yield
    mark.unlink(missing_ok=True)
