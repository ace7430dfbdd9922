"""What many tests need: real rows, and a place to run in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from s3_server import s3, s3_address

__all__ = ["s3", "s3_address"]

pytest_plugins = ["service_process"]

# The benchmarks are no part of the package; last, so that the installed monitorkit is tested.
sys.path.append(str(Path(__file__).parents[1]))

REAL_ROWS = "give_me_some_credit_12k.csv"


@pytest.fixture(scope="session")
def real_rows() -> Path:
    """12,000 labelled rows of Give Me Some Credit, which are not part of the project."""
    given = os.environ.get("CREDIT_DATA_FOLDER")
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = (Path(given) if given else beside) / REAL_ROWS
    if not path.exists():
        pytest.skip(f"{REAL_ROWS} is not here; CREDIT_DATA_FOLDER can name its folder")
    return path.resolve()


@pytest.fixture(autouse=True)
def as_configured_by_nobody() -> Iterator[None]:
    """A test that runs a command in this process sets up its logs: not for those that follow.

    Loggers keep what they found at their first use, and `capture_logs` would see nothing of them;
    and MLflow keeps the store that it is pointed to in the environment, which goes before ours.
    """
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if structlog.is_configured():
        structlog.reset_defaults()
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in ("monitorkit", "monitorkit_plugins"):
                getattr(getattr(module, "log", None), "__dict__", {}).pop("bind", None)
