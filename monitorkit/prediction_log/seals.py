"""`Seals`: what a writer tells its chain of the segments that it closes, now or later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monitorkit import logs
from monitorkit.prediction_log import chain

log = logs.get(__name__)


class Seals:
    """A chain that cannot be written must not stop the log: what it should be told waits.

    Args:
        path: of the chain.
        sync: make each line survive a power failure.
    """

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._waiting: list[dict[str, Any]] = []

    def add(self, **known: Any) -> str | None:
        """Note that a segment is closed.

        Args:
            known: the fields of the record.

        Returns:
            The SHA-256 of the chain; None when it was not told, which is an event.
        """
        self._waiting.append(known)
        return self.tell()

    def tell(self) -> str | None:
        """Tell the chain what waits; as `add`."""
        head = None
        try:
            while self._waiting:
                head = chain.append(self._path, "closed", sync=self._sync, **self._waiting[0])
                self._waiting.pop(0)
        except OSError as error:
            log.warning(
                "prediction_log_not_sealed",
                file=str(self._path),
                segments=[known["segment"] for known in self._waiting],
                reason=error.strerror or str(error),
                remedy="It is tried again when the next segment is closed and when the service "
                "ends; `monitorkit verify-log --seal` does it by hand.",
            )
            return None
        return head
