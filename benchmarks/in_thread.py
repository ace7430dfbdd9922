"""The service with its monitors in a thread of its own process instead of a worker's.

What `python -m benchmarks.beside` measures beside the service as it is: `python -m
benchmarks.in_thread run --port N`.
"""

from __future__ import annotations

from monitorkit import app, cli
from monitorkit.config import Config
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.worker import Worker


def local(config: Config, _worker: Worker) -> LocalEngine:
    """An engine that runs where it is asked."""
    return LocalEngine(config)


if __name__ == "__main__":
    vars(app)["ProcessEngine"] = local
    cli.main()
