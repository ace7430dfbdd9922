"""The monitors of each model version, made when they are needed, and what tells summaries apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any

import monitorkit
from monitorkit import plugin_manager
from monitorkit.config import Config
from monitorkit.contracts import Monitor
from monitorkit.monitoring.plugin_files import PluginFiles
from monitorkit.monitoring.scoring import ScoredReferences

AnyMonitor = Monitor[Any, Any]


class Monitors:
    """Makes the configured monitors, one of each for a model version.

    Args:
        config: the whole configuration.
    """

    def __init__(self, config: Config) -> None:
        settings = config.monitoring
        self.references = ScoredReferences(config)
        self._files = PluginFiles(settings.plugin_files)
        self._kinds = plugin_manager.kinds(plugin_manager.build(settings.plugin_files))
        self._entries = {entry.name: entry for entry in config.monitors}
        self._buckets = f"{settings.bucket.total_seconds():g}/{settings.resolution}"
        self._made: dict[tuple[str, str], AnyMonitor] = {}
        self._identities: dict[tuple[str, str], str] = {}  # of those that were made

    def verify(self) -> None:
        """Verify the reference, and forget the monitors that were made with another one.

        A plugin file that was changed is an event.

        Raises:
            ReferenceProblem: the reference is missing or is not what was frozen.
        """
        self._files.look()
        self._forget(self.references.verify())

    def keep(self, versions: Collection[str]) -> None:
        """Forget what was made for other model versions: some 100 MB each with many columns."""
        self._forget(self.references.keep(versions))

    def _forget(self, versions: Collection[str]) -> None:
        for key in [key for key in self._made if key[0] in versions]:
            del self._made[key]
            self._identities.pop(key, None)

    def get(self, version: str, name: str) -> AnyMonitor:
        """The monitor of a name for a model version.

        Raises:
            RegistryError, SchemaError: the version cannot be judged.
            Exception: whatever a plugin raises when it is made.
        """
        monitor = self._made.get((version, name))
        if monitor is None:
            chunk = self.references.chunk(version)
            monitor = plugin_manager.make_monitor(self._kinds, self._entries[name], chunk)
            self._made[version, name] = monitor
        return monitor

    @property
    def rows_identity(self) -> str:
        """Of the track that needs no monitor."""
        return f"rows/{self._buckets}"

    def identity(self, version: str, name: str) -> str:
        """What two monitors, or two runs, must have in common to share summaries.

        Raises:
            Exception: as `get`.
        """
        monitor = self.get(version, name)
        if (version, name) not in self._identities:
            self._identities[version, name] = self._identity(name, monitor)
        return self._identities[version, name]

    def _identity(self, name: str, monitor: AnyMonitor) -> str:
        entry = self._entries[name]
        kind = next(kind for kind in self._kinds if kind.kind == entry.use)
        shared = self._shared_key(monitor)
        parts = [
            monitorkit.__version__,
            self._buckets,
            self.references.hash,
            # Without a shared key the plugin's code and options decide what a summary is.
            shared if shared is not None else [kind.kind, kind.digest, entry.options],
        ]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
        return f"{shared or entry.use}/{digest.hexdigest()[:16]}"

    def _shared_key(self, monitor: AnyMonitor) -> str | None:
        """Its summary key: none of one that took another reference than it was given.

        A key says nothing of the reference, for those who share summaries have one.
        """
        key = monitor.summary_key()
        if key is None:
            return None
        given = [
            self.references.chunk(version)
            for (version, _), made in self._made.items()
            if made is monitor
        ]
        reference = getattr(monitor, "reference", None)  # of a plugin without `super().__init__`
        return key if any(reference is chunk for chunk in given) else None

    def names_of(self, version: str, identity: str, names: Iterable[str]) -> tuple[str, ...]:
        """The monitors, of those that were made for a version, that share summaries."""
        return tuple(
            name
            for name in names
            if (version, name) in self._made and self.identity(version, name) == identity
        )
