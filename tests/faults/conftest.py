"""A folder for faults: a small model in two versions, quick monitors, small segments."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from service_process import Service, configure, run_command
from small_disk import mounted


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """As in `service_process`, with the configuration above and a second version that waits."""
    folder = configure(tmp_path_factory.mktemp("faults"))
    service = Service(folder)
    try:
        service.wait_for("listening", seconds=180)
        assert service.stop() == 0
    finally:
        service.kill()
    run_command(folder, "train", env={"MONITORKIT_TRAINING__SEED": "7"})
    pristine = tmp_path_factory.mktemp("pristine") / "copy"
    shutil.copytree(folder, pristine)
    return folder, pristine


def move_alias(folder: Path, version: str) -> None:
    """Serve another version, as anybody with access to the registry can.

    `monitorkit promote` does it in the seconds that an import of MLflow takes.
    """
    with closing(sqlite3.connect(folder / "monitoring/mlflow/mlflow.db", timeout=30)) as database:
        changed = database.execute("UPDATE registered_model_aliases SET version = ?", (version,))
        assert changed.rowcount == 1
        database.commit()


@pytest.fixture
def promote() -> Callable[[Path, str], None]:
    """Move the alias at once."""
    return move_alias


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, str], Path]]:
    """Mount file systems of a few KiB."""
    with ExitStack() as disks:
        yield lambda where, size: disks.enter_context(mounted(where, size))
