"""An engine that reads what is there, and writes into a folder that goes when it goes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitorkit.config import Config
from monitorkit.monitoring.process_engine import ProcessEngine, worker
from monitorkit.monitoring.protocol import Engine
from monitorkit.monitoring.scoring import KEPT
from monitorkit.settings import Storage


class ScratchStorage(Storage):
    """Where a replay reads, and what it writes.

    Attributes:
        scratch: takes the timeline and the reports.
    """

    scratch: Path

    @property
    def state(self) -> Path:
        """Not that of the cycles that run now."""
        return self.scratch / "state"

    @property
    def reports(self) -> Path:
        """Nobody looks at these."""
        return self.scratch / "reports"


@contextmanager
def scratch(config: Config) -> Iterator[Config]:
    """A configuration that reads where another one does, with a scratch folder for its time."""
    with tempfile.TemporaryDirectory(prefix="monitorkit-") as folder:
        storage = ScratchStorage(root=config.storage.root, scratch=Path(folder))
        storage.state.mkdir()
        for path in config.storage.state.glob(KEPT):  # scoring the reference takes seconds
            shutil.copyfile(path, storage.state / path.name)
        yield config.model_copy(update={"storage": storage})


@contextmanager
def scratch_engine(config: Config) -> Iterator[tuple[Config, Engine]]:
    """An engine without a timeline, in a worker of its own; both end with the context.

    Yields:
        The configuration that it goes by, and the engine.
    """
    with scratch(config) as aside, worker(aside, "monitors") as process:
        yield aside, ProcessEngine(aside, process)
