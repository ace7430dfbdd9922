"""The MLflow registry, and the local store of the model versions that came out of it.

`import monitorkit.registry` imports neither MLflow nor scikit-learn; each function does when it runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from monitorkit import logs
from monitorkit.config import Config
from monitorkit.errors import RegistryUnavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the served model is registered; pickles, for registry functions run in a worker.

    Attributes:
        tracking_uri: of MLflow: `sqlite:///...` or `http://...`.
        artifact_root: where the embedded store keeps artifacts; None with a server.
        model_name: the registered model.
        alias: of the version that is served.
    """

    tracking_uri: str
    artifact_root: str | None
    model_name: str
    alias: str


def address(config: Config) -> Address:
    """The registry that the configuration means."""
    root = config.artifact_root
    return Address(
        tracking_uri=config.tracking_uri,
        artifact_root=str(root) if root is not None else None,
        model_name=config.registry.model_name,
        alias=config.registry.alias,
    )
