"""What the dashboard reads, in one typed value that the composition root fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitorkit.config import Config
from monitorkit.contracts import MonitoringStatus
from monitorkit.results import Results


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything behind the page; never a monitor or the prediction log.

    Attributes:
        config: names of monitors and sinks, limits, folders.
        results: committed results.
        health: what /health says.
        monitoring: what the service knows of its monitoring, without reading anything.
        locked: API keys are configured. The page is then a shell without data, which its script
            fills with the key that it is given.
    """

    config: Config
    results: Results
    health: Callable[[], Mapping[str, Any]]
    monitoring: Callable[[], MonitoringStatus]
    locked: bool = False

    @property
    def root(self) -> Path:
        """The folder whose disk must not fill up."""
        return self.config.storage.root
