"""The file of the embedded MLflow store: it is a database, and it was made whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from monitorkit import logs

_ROWS = (
    ("registered_models", "TRUE"),
    ("runs", "TRUE"),
    ("trace_info", "TRUE"),
    ("experiments", "experiment_id <> 0"),  # MLflow makes one itself
)
"""What only somebody's work puts into a store: tables, and which of their rows."""

log = logs.get(__name__)


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
    store is marked until it is whole; one that still is, and holds nothing, is made anew. One that
    holds something was put there since, as from a backup: it is kept, and the mark goes.

    Raises:
        OSError: the folder cannot be written.
        sqlite3.Error: what is marked cannot be read; it stays as it is.
    """
    mark = path.with_name(f"{path.name}.unfinished")
    if mark.exists():
        if _holds_something(path):
            log.warning("mlflow_store_kept", file=str(path), reason="it holds models or runs")
            mark.unlink()
        else:
            _remove(path)
    if not path.exists():
        mark.touch()
    yield
    mark.unlink(missing_ok=True)


def _holds_something(path: Path) -> bool:
    if not path.exists():
        return False
    with closing(sqlite3.connect(path, timeout=5)) as store:
        found = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = {name for (name,) in found}
        return any(
            store.execute(f"SELECT 1 FROM {table} WHERE {rows} LIMIT 1").fetchone() is not None  # noqa: S608 - ours
            for table, rows in _ROWS
            if table in names
        )


def _remove(path: Path) -> None:
    if path.exists():
        log.info("mlflow_store_made_anew", file=str(path), reason="its making was cut short")
    for end in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
